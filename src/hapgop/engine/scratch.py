"""Memory for a call's intermediate results, reused from call to call."""

import threading

import numpy as np
from numpy.typing import NDArray

_ALIGN = 64  # a cache line, and a full vector


class _Arena(threading.local):
    """One block for each Python thread: calls of one thread never overlap."""

    block: NDArray[np.uint8] = np.empty(0, np.uint8)


_arena = _Arena()


def scratch(sizes: tuple[int, ...]) -> list[int]:
    """Addresses of buffers of so many bytes, aligned to cache lines; valid until this thread's next call."""
    total = sum(sizes) + _ALIGN * (len(sizes) + 1)
    if _arena.block.size < total:
        _arena.block = np.empty(total, np.uint8)
    at = _arena.block.ctypes.data
    addresses = []
    for size in sizes:
        at = (at + _ALIGN - 1) // _ALIGN * _ALIGN
        addresses.append(at)
        at += size
    return addresses
