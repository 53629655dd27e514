"""bfloat16, the first 16 bits of a float32: NumPy has no such type, so its bits are kept as uint16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy.typing import NDArray


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The same numbers as float32.

    >>> widened(np.array([0x3FC0], np.uint16)).tolist()
    [1.5]
    """
    return (bits.astype(np.uint32) << 16).view(np.float32)


def narrowed(numbers: NDArray[Any]) -> NDArray[np.uint16]:
    """The nearest bfloat16 of each float32, of two the even one; a NaN stays one, and quiet.

    >>> hex(narrowed(np.array([1.5], np.float32))[0])
    '0x3fc0'
    """
    bits = np.ascontiguousarray(numbers, np.float32).view(np.uint32)
    rounded = (bits + (((bits >> 16) & 1) + 0x7FFF)) >> 16
    return np.where(np.isnan(numbers), (bits >> 16) | 0x40, rounded).astype(np.uint16)
