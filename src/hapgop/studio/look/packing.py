"""Numbers on their way to the page: a JSON head and the arrays as they lie in memory, in one answer."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGNED = 8
_KINDS = {"f": "f4", "u": "u1", "b": "u1", "i": "i4"}


def packed(head: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Four bytes (the head's length, little-endian), the head as JSON, the arrays, each aligned to 8 bytes.

    The head gains "arrays": name to [kind, shape, offset], offsets counted from the head's end. Floats travel as
    float32 and are not rounded: the page shows the very numbers that the engine made.
    """
    places: dict[str, Any] = {}
    parts: list[bytes] = []
    offset = 0
    for name, array in arrays.items():
        kind = _KINDS[array.dtype.kind]
        data = np.ascontiguousarray(array, f"<{kind}").tobytes()
        places[name] = [kind, list(array.shape), offset]
        parts.append(data + bytes(-len(data) % _ALIGNED))
        offset += len(parts[-1])
    text = json.dumps({**head, "arrays": places}, allow_nan=False).encode()
    text += b" " * (-(4 + len(text)) % _ALIGNED)
    return len(text).to_bytes(4, "little") + text + b"".join(parts)
