"""Runs tile programs as machine code, with every buffer between canaries."""

import ctypes
import hashlib
import threading
from functools import cache
from pathlib import Path

import numpy as np

import hapgop
from hapgop import native
from hapgop.tile import Kernel, Rounds, apart

_CANARY = 2**20 + 1.0  # a number that no test computes
_CANARY_BITS = 0xA5C3  # nor these bits of a bfloat16
_CANARY_OCTET = 0xA5
_FENCE = 64


@cache
def _emitter() -> str:
    """A digest of the code that makes objects: tests may share a folder of them across changes of the code."""
    sources = sorted((Path(hapgop.__file__).parent / "native").glob("*.py"))
    return hashlib.sha256(b"".join(p.read_bytes() for p in sources)).hexdigest()


def function(kernel: Kernel, cpu: str = "host") -> native.Function:
    """A kernel, compiled or from the cache."""
    return native.load(f"test {_emitter()} {kernel!r}", lambda: kernel, cpu)


def fenced(values) -> tuple[np.ndarray, np.ndarray]:
    """(a copy of a flat array, the memory around it): see `assert_fences`."""
    values = np.asarray(values)
    memory = np.full(values.size + 2 * _FENCE, _canary(values.dtype), values.dtype)
    inside = memory[_FENCE : _FENCE + values.size]
    inside[:] = values
    return inside, memory


def assert_fences(memory: np.ndarray) -> None:
    """Nothing was written before or behind."""
    canary = _canary(memory.dtype)
    assert (memory[:_FENCE] == canary).all()
    assert (memory[memory.size - _FENCE :] == canary).all()


def _canary(dtype: np.dtype) -> float:
    return {np.dtype(np.uint16): _CANARY_BITS, np.dtype(np.uint8): _CANARY_OCTET}.get(dtype, _CANARY)


class Call:
    """One call's arguments: the arrays of a kernel's buffers, then its sizes; scratch starts as NaN."""

    def __init__(self, kernel: Kernel, arrays, sizes, threads: int = 1) -> None:
        self.kernel, self.threads = kernel, threads
        values = {s: sizes[s.name] for s in kernel.sizes}
        self.inside, self.memory = {}, {}
        for buffer in kernel.buffers:
            given = arrays.get(buffer.name)
            if given is None:
                private = buffer.role == "private"
                count = apart(buffer.size).value(values) * threads if private else buffer.size.value(values)
                given = np.full(count, np.nan, kernel.dtype)
            self.inside[buffer.name], self.memory[buffer.name] = fenced(given)
        words = [self.inside[b.name].ctypes.data for b in kernel.buffers] + [sizes[s.name] for s in kernel.sizes]
        self._words = (ctypes.c_int64 * len(words))(*words)
        self.data = ctypes.addressof(self._words)

    def results(self) -> dict[str, np.ndarray]:
        """The outputs; inputs have to be as they were, and all fences whole."""
        for memory in self.memory.values():
            assert_fences(memory)
        return {b.name: self.inside[b.name] for b in self.kernel.buffers if b.role in ("out", "inout")}


def emitted(kernel: Kernel, arrays, sizes, threads: int = 1, cpu: str = "host") -> dict[str, np.ndarray]:
    """What a kernel's machine code leaves in its outputs."""
    call = Call(kernel, arrays, sizes, threads)
    code = function(kernel, cpu)  # it lives as long as this name
    native.launch(code.address, call.data, threads)
    return call.results()


_Run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p)
_Barrier = ctypes.CFUNCTYPE(None)


class Staggered:
    """A team whose members start late, the last one first of all: it finds every barrier that is missing.

    A member that does not wait for the others reads scratch that nobody has written: NaN. `waits` counts the calls
    of the barrier.
    """

    def __init__(self, pause: float = 0.005) -> None:
        self.pause, self.waits = pause, 0
        self._lock = threading.Lock()

    def launch(self, run: int, data: int, threads: int) -> None:
        meeting = threading.Barrier(threads)

        def wait() -> None:
            with self._lock:
                self.waits += 1
            meeting.wait(20)

        callback = _Barrier(wait)
        barrier = ctypes.cast(callback, ctypes.c_void_p).value
        members = [threading.Thread(target=_Run(run), args=(data, t, threads, barrier)) for t in range(threads)]
        for member in reversed(members):
            member.start()
            member.join(self.pause)
        for member in members:
            member.join(30)
            assert not member.is_alive()


def staggered(kernel: Kernel, arrays, sizes, threads: int = 2) -> dict[str, np.ndarray]:
    """As `emitted`, by a team whose members start one after another."""
    call = Call(kernel, arrays, sizes, threads)
    team, code = Staggered(), function(kernel)
    team.launch(code.address, call.data, threads)
    outside = sum(not isinstance(step, Rounds) for step in kernel.steps)
    if outside < len(kernel.steps):
        assert team.waits % threads == 0
        assert team.waits >= threads * (outside - 1)
    else:
        assert team.waits == threads * (outside - 1)
    return call.results()
