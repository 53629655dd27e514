"""What a program may ask of memory: that it is kept, or that it is given back."""

import ctypes
import platform
import sys

from hapgop.engine.memory import release_outputs
from hapgop.engine.scratch import release_scratch

# Of <malloc.h>.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST = 1 << 30


def release_memory() -> None:
    """Gives back the memory that waits for its next use: that of outputs that are no more, and scratch.

    Up to a gigabyte, or an eighth of the machine's memory if that is less, waits for outputs, for half a minute while
    others are computed. Another Python thread's scratch goes when that thread calls next.

    >>> release_memory()
    """
    release_outputs()
    release_scratch()


def tune_allocator() -> bool:
    """Lets `malloc` reuse large blocks instead of asking the system for cleared ones; whether that could be done.

    For whole processes that train or predict with large batches: PyTorch's own intermediate results, of more than
    32 MB at the latest, are otherwise cleared page by page every time. hapgop's own large outputs do not need it.

    Its price: it holds for the whole process and cannot be undone; memory once used is not given back to the system
    before the process ends; and it works for the main thread's allocations only. Only glibc, the C library of most
    Linux systems, has these settings: elsewhere nothing is done and the answer is False.

    >>> tune_allocator() in (True, False)
    True
    """
    if not _is_glibc():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mallopt.argtypes = [ctypes.c_int, ctypes.c_int]
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST)) and bool(mallopt(_TRIM_THRESHOLD, -1))


def _is_glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
