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


def paired(first: NDArray[np.uint16], second: NDArray[np.uint16]) -> NDArray[np.float32]:
    """The bits of two numbers each as those of one float32, the first in the lower half, as they lie in memory."""
    return (first.astype(np.uint32) | (second.astype(np.uint32) << 16)).view(np.float32)


def parts(pairs: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The two numbers of each pair, as float32."""
    bits = np.ascontiguousarray(pairs).view(np.uint32)
    return (bits << 16).view(np.float32), (bits & 0xFFFF0000).astype(np.uint32).view(np.float32)
