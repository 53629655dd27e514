"""Runs one compiled function on several threads at once.

Where an OpenMP runtime (libgomp) is loaded, its team is used: waking it costs about a microsecond, and sharing
PyTorch's means that no two pools fight for the cores. Elsewhere Python threads do, at some fifty microseconds a call.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import llvmlite.binding as llvm

from hapgop.native import cache, compiler

_Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_Barrier = ctypes.CFUNCTYPE(None)

# What OpenMP's team executes: it asks for its number and calls the kernel. The job is {run, data, barrier}.
_SHIM = """
declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()
define void @team(ptr %job) nounwind {
  %run = load ptr, ptr %job
  %pdata = getelementptr i64, ptr %job, i64 1
  %data = load ptr, ptr %pdata
  %pbarrier = getelementptr i64, ptr %job, i64 2
  %barrier = load ptr, ptr %pbarrier
  %t = call i32 @omp_get_thread_num()
  %n = call i32 @omp_get_num_threads()
  %t64 = sext i32 %t to i64
  %n64 = sext i32 %n to i64
  call void %run(ptr %data, i64 %t64, i64 %n64, ptr %barrier)
  ret void
}
"""


class OpenMP:
    """GNU's OpenMP runtime, from a shared library that is loaded or can be."""

    def __init__(self, path: str) -> None:
        self._library = ctypes.CDLL(path)
        for name in ("omp_get_thread_num", "omp_get_num_threads"):
            symbol = ctypes.cast(getattr(self._library, name), ctypes.c_void_p).value
            llvm.add_symbol(name, symbol)
        self._barrier = ctypes.cast(self._library.GOMP_barrier, ctypes.c_void_p).value
        self._parallel = self._library.GOMP_parallel
        self._parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self._parallel.restype = None
        self._code = _shim()
        self._team = self._code.address("team")

    def launch(self, run: int, data: int, threads: int) -> None:
        job = (ctypes.c_void_p * 3)(run, data, self._barrier)
        self._parallel(self._team, ctypes.addressof(job), threads, 0)


class PythonThreads:
    """A pool of Python threads, for where there is no OpenMP runtime."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        # A team has to be complete to pass its barrier: two teams sharing the pool could each hold half of it.
        self._one_team = threading.Lock()

    def launch(self, run: int, data: int, threads: int) -> None:
        with self._one_team:
            if self._pool is None or self._pool._max_workers < threads - 1:
                self._pool = ThreadPoolExecutor(threads - 1, "hapgop")
            meeting = threading.Barrier(threads)
            wait = _Barrier(lambda: meeting.wait() and None)
            barrier = ctypes.cast(wait, ctypes.c_void_p).value
            function = _Run(run)
            others = [self._pool.submit(function, data, t, threads, barrier) for t in range(1, threads)]
            function(data, 0, threads, barrier)
            for other in others:
                other.result()


def _shim() -> compiler.Code:
    key = cache.digest(_SHIM, compiler.identity("host"))
    image = cache.read(key)
    if image is None:
        image = compiler.compile_object(_SHIM)
        cache.write(key, image)
    return compiler.Code(image)


_team: OpenMP | PythonThreads | None = None
_forked = False


def use_openmp(path: str) -> None:
    """Shares the OpenMP runtime in this library; PyTorch's floor calls it with PyTorch's own."""
    global _team
    _team = OpenMP(path)


def runtime() -> str:
    """Which threads are in use, in words."""
    return type(_runtime()).__name__


def _runtime() -> OpenMP | PythonThreads:
    global _team
    if _team is None:
        try:
            _team = OpenMP("libgomp.so.1")
        except (OSError, AttributeError):
            _team = PythonThreads()
    return _team


@functools.lru_cache(4096)
def _single(run: int) -> Callable[[int, int, int, None], None]:
    """A function as one thread calls it; made once, since making it costs more than a small kernel."""
    return _Run(run)


def launch(run: int, data: int, threads: int) -> None:
    """Calls `run(data, thread, threads, barrier)` on `threads` threads and returns when all have."""
    if threads <= 1 or _forked:
        _single(run)(data, 0, 1, None)
    else:
        _runtime().launch(run, data, threads)


def _after_fork() -> None:
    # The parent's pool does not exist in the child, and libgomp would wait for it for ever.
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
