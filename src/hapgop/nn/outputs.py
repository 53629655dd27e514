"""Memory for results: large ones lie in memory that the engine uses again."""

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from hapgop import engine

_NUMPY: Final[dict[torch.dtype, np.dtype[Any]]] = {
    torch.float32: np.dtype("float32"),
    torch.float64: np.dtype("float64"),
    torch.bfloat16: np.dtype("int16"),  # NumPy has no such type; the bits fit
}
# Elements. Below, PyTorch's allocator has memory at hand, and its tensors are cheaper to make.
_LARGE: Final = 1 << 20


def empty_strided(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """As torch.empty_strided, for dense strides; the storage of a large one cannot be resized."""
    count = prod(shape)
    if count < _LARGE:
        return torch.empty_strided(shape, strides, dtype=dtype)
    memory = torch.from_numpy(engine.empty((count,), _NUMPY[dtype])).view(dtype)
    # Not a view: one would keep what it is a view of, and PyTorch adds up gradients in place only where nobody else
    # holds their memory. Nor from a storage, as the stubs have it: its Python object counts as well.
    result: Tensor = torch.empty(0, dtype=dtype).set_(memory, 0, shape, strides)  # type: ignore[call-overload]
    return result
