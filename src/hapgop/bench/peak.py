"""What the machine can do at most: multiply-adds a second, and bytes a second. Measured with our own small kernels."""

from __future__ import annotations

import ctypes
from dataclasses import asdict, dataclass
from time import perf_counter

import numpy as np

from hapgop.machine import Machine, host
from hapgop.native import launch, load
from hapgop.tile import Builder, Kernel

_STEPS = 200_000
_CHAINS = 12  # independent sums, more than latency times units of any current core
_MEGABYTES = 256
_RUNS = 15  # the system needs some to give every thread a core of its own


@dataclass(frozen=True, slots=True)
class Peak:
    """gflops: billions of floating-point operations a second; bandwidth: GB/s read from memory."""

    threads: int
    gflops: float
    bandwidth: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def measure_peak(threads: int) -> Peak:
    """The best of some short runs on so many threads."""
    machine = host()
    lanes = machine.lanes("float32")
    flops = 2 * lanes * _CHAINS * _STEPS * threads
    words = _MEGABYTES << 18
    source, target = np.ones(words, np.float32), np.zeros(threads * lanes, np.float32)
    multiply = _best(_fma(machine, threads), (target,), threads)
    read = _best(_read(machine, threads, words), (source, target), threads)
    return Peak(threads, flops / multiply / 1e9, words * 4 / read / 1e9)


def _best(kernel: Kernel, arrays: tuple[np.ndarray[tuple[int], np.dtype[np.float32]], ...], threads: int) -> float:
    function = load(f"{kernel.name} {kernel!r}", lambda: kernel)
    words = (ctypes.c_int64 * len(arrays))(*(array.ctypes.data for array in arrays))
    times = []
    for _ in range(_RUNS):
        start = perf_counter()
        launch(function.address, ctypes.addressof(words), threads)
        times.append(perf_counter() - start)
    return min(times)


def _fma(machine: Machine, threads: int) -> Kernel:
    lanes = machine.lanes("float32")
    k = Builder("fma_peak", "float32", lanes)
    out = k.buffer("out", threads * lanes, "out")
    with k.stage("multiply", ("thread", threads)) as (thread,):
        a, sums = k.const(0.999), [k.const(float(i)) for i in range(_CHAINS)]
        with k.loop("step", 0, _STEPS):
            for s in sums:
                k.fma(s, a, a, into=s)
        total = sums[0]
        for s in sums[1:]:
            total = k.add(total, s)
        k.store(total, out, thread * lanes)
    return k.kernel()


def _read(machine: Machine, threads: int, words: int) -> Kernel:
    lanes = machine.lanes("float32")
    k = Builder("read_peak", "float32", lanes)
    source, out = k.buffer("source", words, "in"), k.buffer("out", threads * lanes, "out")
    share = words // threads // (8 * lanes) * (8 * lanes)
    with k.stage("read", ("thread", threads)) as (thread,):
        sums = [k.const(0.0) for _ in range(8)]
        with k.loop("at", 0, share, 8 * lanes) as at:
            for i, s in enumerate(sums):
                k.add(s, k.load(source, thread * share + at + i * lanes), into=s)
        total = sums[0]
        for s in sums[1:]:
            total = k.add(total, s)
        k.store(total, out, thread * lanes)
    return k.kernel()
