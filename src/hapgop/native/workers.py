"""A team of native threads of our own: what `team.ll` says, and the making of its threads."""

from __future__ import annotations

import ctypes
import os
import platform
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from hapgop.native import objects
from hapgop.native.loaded import Code
from hapgop.native.lock import Lock

MOST = 1024  # threads in a team; as many as `team.ll` has places for, and the caller

# Workers without work wait awake for this long: the next layer's call finds them so, and an idle process burns nothing.
_IDLE = 2_000_000  # nanoseconds
# Members of a team wait awake for one another this long; more than this apart they are when a core is taken away.
_TEAM = 200_000

# The number of the system call, and the instruction for loops that wait.
_FUTEX = {"x86_64": 202, "aarch64": 98}
_RELAX = {"x86_64": ("llvm.x86.sse2.pause", "", ""), "aarch64": ("llvm.aarch64.hint", "i32", "i32 1")}

_NEEDED = ("syscall", "sched_yield", "clock_gettime", "sched_getcpu", "sched_getaffinity", "sched_setaffinity")

Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_Launch = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
_Tune = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


def supported() -> bool:
    """Whether this system has what the team waits with."""
    return sys.platform == "linux" and sys.maxsize > 2**32 and platform.machine() in _FUTEX


class NativeThreads:
    """A pool of native threads that one caller at a time has; another caller meanwhile runs alone.

    The first launch makes the threads. They sleep while there is nothing to do, and end with the process.
    """

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._code = _code({name: _address(getattr(library, name)) for name in _NEEDED})
        # Threads run this code for as long as the process lives, longer than this object at the interpreter's end.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._code))
        self._work = ctypes.c_void_p(self._code.address("work"))
        self._reset: Callable[[], None] = ctypes.CFUNCTYPE(None)(self._code.address("reset"))
        self._launch: Callable[[int, int | bytes, int, int], int] = _Launch(self._code.address("launch"))
        idle, team = (0, 0) if os.environ.get("OMP_WAIT_POLICY", "").lower() == "passive" else (_IDLE, _TEAM)
        _Tune(self._code.address("tune"))(idle, team, len(os.sched_getaffinity(0)))
        self._create = library.pthread_create
        self._detach = library.pthread_detach
        self._detach.argtypes = [ctypes.c_size_t]
        self._growing = Lock()
        self.size = 1

    def launch(self, run: int, data: int | bytes, threads: int, patience: int) -> None:
        if threads > self.size:
            threads = self._grow(threads)
        if threads > 1:
            self._launch(run, data, threads, patience)
        else:  # no thread may be made: nobody would come
            Run(run)(data, 0, 1, None)

    def _grow(self, wanted: int) -> int:
        """Makes threads until there are enough with the caller; returns how many there are, at most `wanted`."""
        with self._growing:
            # Python's handlers of signals expect its own threads.
            before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            try:
                while self.size < min(wanted, MOST):
                    thread = ctypes.c_size_t()
                    if self._create(ctypes.byref(thread), None, self._work, ctypes.c_void_p(self.size - 1)):
                        break  # no more are allowed
                    self._detach(thread)
                    self.size += 1
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
            return min(wanted, self.size)

    def after_fork(self) -> None:
        """In a forked child: the threads are gone, the next launch makes new ones."""
        self.size = 1
        self._reset()


def _code(symbols: Mapping[str, int]) -> Code:
    machine = platform.machine()
    relax, parameters, arguments = _RELAX[machine]
    texts = [Path(__file__).with_name(f"{name}.ll").read_text() for name in ("wait", "team", "seats")]
    text = "\n".join(texts).replace("@relax()", f"@{relax}({arguments})")
    text += f"@futex_call = internal constant i64 {_FUTEX[machine]}\ndeclare void @{relax}({parameters})\n"
    return objects.code(text, lambda: text, symbols=symbols)[0]


def _address(function: object) -> int:
    return ctypes.cast(function, ctypes.c_void_p).value or 0  # type: ignore[arg-type]
