"""Large memory that is used again: fresh pages cost more to clear than a convolution to compute.

An output of tens of megabytes is given back to the system by `malloc` when it is freed, and the next one is cleared
page by page while it is written: two to four times the time of a 1x1 convolution. So large outputs come from here; when
the last array that looks at one is gone, its memory waits for the next. What waits is bounded, in bytes and in time.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from hapgop.native import Lock

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy.typing import NDArray

ALIGN = 64  # a cache line, and a full vector
LEAST = 1 << 20  # bytes; `malloc` keeps smaller ones itself

_HUGE = 2 << 20  # a huge page
_UNUSED = 30.0  # seconds after which memory that nobody took is given back
_WASTE = 1.25  # a block serves what is at most this much smaller


def rounded(size: int) -> int:
    """The next multiple of a cache line."""
    return (size + ALIGN - 1) // ALIGN * ALIGN


def _generous(size: int) -> int:
    """The next of 1, 1.25, 1.5, 1.75 times a power of two: blocks for sizes that differ little are alike."""
    step = max(ALIGN, 1 << max(0, (size - 1).bit_length() - 3))
    return (size + step - 1) // step * step


class Block:
    """So many bytes of its own from the system, on huge pages where they are large; zeros at first."""

    __slots__ = ("address", "memory", "offset", "since", "size")

    def __init__(self, size: int) -> None:
        self.size, self.since = size, 0.0
        large = size >= _HUGE
        self.memory = _mapped(size + (_HUGE if large else ALIGN))
        start = np.frombuffer(self.memory, np.uint8).ctypes.data
        self.offset = -start % (_HUGE if large else ALIGN)
        self.address = start + self.offset
        if large and hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a system without huge pages
                self.memory.madvise(mmap.MADV_HUGEPAGE, self.offset, size // mmap.PAGESIZE * mmap.PAGESIZE)


def _mapped(size: int) -> mmap.mmap:
    try:
        if sys.platform == "win32":
            return mmap.mmap(-1, size)
        # Not shared, as it would be by default: a forked child would write into its parent's outputs.
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except (OSError, OverflowError) as error:
        raise MemoryError(f"the system has no {size:,} bytes more: {error}") from error


def _most() -> int:
    try:
        return min(1 << 30, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8)
    except (AttributeError, ValueError, OSError):
        return 1 << 28


class Pool:
    """Blocks that wait for their next use: `most` bytes at most, those that waited longest go first."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting: list[Block] = []  # in the order of their return
        self._lock = Lock()
        self._lent: dict[
            int, tuple[weakref.ref[NDArray[Any]], Block]
        ] = {}  # by the reference's id: arrays have no hash
        # Arrays die anywhere, in the midst of `take` too: that only puts their blocks here.
        self._returned: deque[Block] = deque()

    def take(self, size: int) -> NDArray[np.uint8]:
        """So many bytes, not cleared; they return when this array and all its views are gone."""
        block = None
        if not self._lock.mine():  # else in a signal's handler, in the midst of this: of memory of its own
            with self._lock:
                self._settle()
                block = self._fitting(size)
        block = block or self._made(_generous(size))
        array = np.frombuffer(block.memory, np.uint8, size, block.offset)
        reference = weakref.ref(array, self._back)
        self._lent[id(reference)] = reference, block
        return array

    def _made(self, size: int) -> Block:
        try:
            return Block(size)
        except MemoryError:
            if self._lock.mine():
                raise
        self.release()  # what waits is memory too
        return Block(size)

    def release(self) -> None:
        """Gives back all that waits."""
        with self._lock:
            self._settle()
            self.waiting.clear()

    def held(self) -> int:
        """Bytes that wait."""
        with self._lock:
            self._settle()
            return sum(block.size for block in self.waiting)

    def _back(self, reference: weakref.ref[NDArray[Any]]) -> None:
        self._returned.append(self._lent.pop(id(reference))[1])

    def _fitting(self, size: int) -> Block | None:
        for i in range(len(self.waiting) - 1, -1, -1):
            if size <= self.waiting[i].size <= size * _WASTE:
                return self.waiting.pop(i)
        return None

    def _settle(self) -> None:
        now = time.monotonic()
        while self._returned:
            block = self._returned.popleft()
            block.since = now
            self.waiting.append(block)
        total = sum(block.size for block in self.waiting)
        gone = 0
        while gone < len(self.waiting) and (total > self.most or now - self.waiting[gone].since > _UNUSED):
            total -= self.waiting[gone].size
            gone += 1
        del self.waiting[:gone]


_pool = Pool(_most())


def release_outputs() -> None:
    """Gives back the memory of outputs that are no more."""
    _pool.release()


def empty(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """As np.empty; large ones lie in memory that was used before, and aligned to a cache line."""
    size = dtype.itemsize
    for extent in shape:
        size *= extent
    if size < LEAST:
        return np.empty(shape, dtype)
    return _pool.take(size).view(dtype).reshape(shape)
