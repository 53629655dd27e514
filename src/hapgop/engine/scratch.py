"""Memory for a call's intermediate results, reused from call to call."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy.typing import NDArray

ALIGN = 64  # a cache line, and a full vector


def rounded(size: int) -> int:
    """The next multiple of a cache line."""
    return (size + ALIGN - 1) // ALIGN * ALIGN


class _Arena(threading.local):
    """One block for each Python thread: calls of one thread never overlap."""

    def __init__(self) -> None:
        self.grow(1 << 16)

    def grow(self, size: int) -> None:
        self.block: NDArray[np.uint8] = np.empty(size + ALIGN, np.uint8)
        self.size = size
        self.address = rounded(self.block.ctypes.data)


_arena = _Arena()


def scratch(size: int) -> int:
    """The address of so many bytes, aligned to a cache line; valid until this thread's next call."""
    arena = _arena
    if arena.size < size:
        arena.grow(size)
    return arena.address
