"""Runs one compiled function on several threads at once.

Where PyTorch has loaded its OpenMP runtime (libgomp), that one's team is used, so that no two pools fight for the
cores. Elsewhere native threads of our own do, at about a microsecond a call; and where those are not known to work,
Python threads, at some fifty.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
import os
import queue
import struct
import threading
from collections.abc import Callable

from hapgop.native import objects
from hapgop.native.loaded import Code
from hapgop.native.lock import Lock
from hapgop.native.workers import NativeThreads, Run, supported

_RunHolding = ctypes.PYFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_Barrier = ctypes.CFUNCTYPE(None)
_JOB = struct.Struct("=3q")

Data = int | bytes

FOREVER = 1 << 62  # nanoseconds
# Who lets Python's lock go gets it back up to 5 ms later where another thread computes in Python.
_BRIEF = 20_000  # nanoseconds
# A thread is waited for this part of the time that the call takes without the team: what comes later saves little.
_PATIENCE = 4

# What OpenMP's team executes: it asks for its number and calls the kernel. The job is {run, barrier, data}; where
# `data` is null the words themselves follow.
_SHIM = """
declare i32 @omp_get_thread_num()
declare i32 @omp_get_num_threads()
define void @team(ptr %job) nounwind {
  %run = load ptr, ptr %job
  %pbarrier = getelementptr i64, ptr %job, i64 1
  %barrier = load ptr, ptr %pbarrier
  %pdata = getelementptr i64, ptr %job, i64 2
  %elsewhere = load ptr, ptr %pdata
  %none = icmp eq ptr %elsewhere, null
  %behind = getelementptr i64, ptr %job, i64 3
  %data = select i1 %none, ptr %behind, ptr %elsewhere
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
        names = ("omp_get_thread_num", "omp_get_num_threads")
        symbols = {name: ctypes.cast(getattr(self._library, name), ctypes.c_void_p).value or 0 for name in names}
        self._barrier = ctypes.cast(self._library.GOMP_barrier, ctypes.c_void_p).value
        self._parallel = self._library.GOMP_parallel
        self._parallel.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
        self._parallel.restype = None
        self._code: Code = objects.code(_SHIM, lambda: _SHIM, symbols=symbols)[0]
        self._team = self._code.address("team")

    def launch(self, run: int, data: Data, threads: int, patience: int = FOREVER) -> None:
        if isinstance(data, bytes):
            job = _JOB.pack(run, self._barrier, 0) + data
        else:
            job = _JOB.pack(run, self._barrier, data)
        self._parallel(self._team, job, threads, 0)


class _Job:
    """A call in which so many threads share: each that comes takes the next number, and one too many takes none."""

    def __init__(self, function: Callable[[Data, int, int, int | None], None], data: Data, threads: int) -> None:
        self._function, self._data, self._threads = function, data, threads
        self._numbers, self._ended = itertools.count(), itertools.count(1)
        self._meeting = threading.Barrier(threads)
        self._barrier = _Barrier(lambda: self._meeting.wait() and None)
        self.done = threading.Event()
        self.error: BaseException | None = None

    def share(self) -> None:
        number = next(self._numbers)
        if number >= self._threads:
            return
        try:
            self._function(self._data, number, self._threads, ctypes.cast(self._barrier, ctypes.c_void_p).value)
        except BaseException as error:
            self.error = error
        finally:
            if next(self._ended) == self._threads:
                self.done.set()


class PythonThreads:
    """Python threads, for where there is no other runtime.

    The caller is not of the team: Ctrl-C would take it out of a barrier, and the others would wait there for ever.
    """

    def __init__(self) -> None:
        self.size = 0
        self._jobs: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        # A team has to be complete to pass its barrier: two teams sharing the threads could each hold half of them.
        self._one_team = Lock()

    def launch(self, run: int, data: Data, threads: int, patience: int = FOREVER) -> None:
        if self._one_team.mine():  # in a signal's handler: without those who wait for what it interrupted
            _single(run)(data, 0, 1, None)
            return
        with self._one_team:
            while self.size < threads:
                threading.Thread(target=_work, args=(self._jobs,), name="hapgop", daemon=True).start()
                self.size += 1
            job = _Job(Run(run), data, threads)
            self._finish(job, threads)
            if job.error is not None:
                raise job.error

    def _finish(self, job: _Job, threads: int) -> None:
        """Returns when the job is done, Ctrl-C or not: it works on the caller's memory."""
        try:
            for _ in range(threads):
                self._jobs.put(job)
            job.done.wait()
        except BaseException:
            # Nobody knows how many were called; those who come in vain do nothing.
            self._finish(job, threads)
            raise


def _work(jobs: queue.SimpleQueue[_Job]) -> None:
    while True:
        jobs.get().share()


Team = OpenMP | NativeThreads | PythonThreads

_team: Team | None = None
_choosing = Lock()


def use_openmp(path: str) -> None:
    """Shares the OpenMP runtime in this library; PyTorch's floor calls it with PyTorch's own."""
    global _team
    _team = OpenMP(path)


def runtime() -> str:
    """Which threads are in use, in words."""
    return type(_runtime()).__name__


def _runtime() -> Team:
    global _team
    with _choosing:
        if _team is None:
            _team = NativeThreads() if supported() else PythonThreads()
        return _team


@functools.lru_cache(4096)
def _single(run: int) -> Callable[[Data, int, int, None], None]:
    """A function as one thread calls it; made once, since making it costs more than a small kernel."""
    return Run(run)


@functools.lru_cache(4096)
def _brief(run: int) -> Callable[[Data, int, int, None], None]:
    """The same, without letting other Python threads run meanwhile."""
    return _RunHolding(run)


def launch(run: int, data: Data, threads: int, expected: int = FOREVER) -> None:
    """Calls `run(data, thread, threads, barrier)` on `threads` threads and returns when all have.

    data: an address, or the words themselves. expected: nanoseconds that this takes on one thread, if that is known.
    It decides how long threads that do not come (they sleep, or their core is taken) are waited for; then they are left
    out, and the kernel gets a smaller number of threads. They may also be fewer while another caller has the team.
    """
    if threads > 1:
        (_team or _runtime()).launch(run, data, threads, max(expected // _PATIENCE, 1))
    elif expected < _BRIEF:
        _brief(run)(data, 0, 1, None)
    else:
        _single(run)(data, 0, 1, None)


def _after_fork() -> None:
    # The parent's threads do not exist in the child, and libgomp would wait for them for ever.
    global _team
    if isinstance(_team, NativeThreads):
        _team.after_fork()
    else:
        _team = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
