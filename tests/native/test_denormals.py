"""Denormal numbers cost a hundred times a normal one: they are zero while a kernel runs, and only then."""

import ctypes
import threading

import numpy as np
import pytest
from kernels import emitted
from teams import RUNTIMES, team

from hapgop.native import compiler, target, threads
from hapgop.native.loaded import Code
from hapgop.tile import Builder

pytestmark = pytest.mark.skipif(not target.is_x86(), reason="sets x86's control register")

TINY = {"float32": np.float32(1e-40), "float64": np.float64(1e-310)}

_MODE = """
declare void @llvm.x86.sse.stmxcsr(ptr)
declare void @llvm.x86.sse.ldmxcsr(ptr)
define i32 @get() {
  %p = alloca i32
  call void @llvm.x86.sse.stmxcsr(ptr %p)
  %v = load i32, ptr %p
  ret i32 %v
}
define void @set(i32 %v) {
  %p = alloca i32
  store i32 %v, ptr %p
  call void @llvm.x86.sse.ldmxcsr(ptr %p)
  ret void
}
"""
EXCEPTIONS = 0x3F  # sticky flags of what has happened; they are no mode


@pytest.fixture(scope="module")
def mode():
    """(get, set) of this thread's control register."""
    code = Code(compiler.compile_object(_MODE))
    get = ctypes.CFUNCTYPE(ctypes.c_uint32)(code.address("get"))
    put = ctypes.CFUNCTYPE(None, ctypes.c_uint32)(code.address("set"))
    yield (lambda: get() & ~EXCEPTIONS), put
    del code


def products(dtype, stages=1, items=1):
    """Stages that multiply x by a factor, for every item."""
    k = Builder("product", dtype, 2)
    x, y = k.buffer("x", 2, "in"), k.buffer("y", stages * items * 2, "out")
    for stage in range(stages):
        with k.stage(f"s{stage}", ("i", items)) as (i,):
            k.store(k.mul(k.load(x, 0), k.const(0.5)), y, i * 2 + stage * items * 2)
    return k.kernel()


def product(dtype, value, threads=1, stages=1, items=1):
    arrays = {"x": np.full(2, value, dtype), "y": np.ones(stages * items * 2, dtype)}
    return emitted(products(dtype, stages, items), arrays, {}, threads)["y"]


@pytest.mark.parametrize("dtype", TINY)
def test_a_denormal_input_is_zero(dtype):
    assert TINY[dtype] > 0
    assert not product(dtype, TINY[dtype]).any()


@pytest.mark.parametrize("dtype", TINY)
def test_a_denormal_result_is_zero(dtype):
    smallest = np.finfo(dtype).smallest_normal
    assert not product(dtype, smallest).any()
    assert (product(dtype, 2 * smallest) == smallest).all()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_in_every_thread_and_stage(runtime, monkeypatch):
    monkeypatch.setattr(threads, "_team", team(runtime))
    assert not product("float32", TINY["float32"], threads=3, stages=3, items=9).any()


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_callers_mode_is_restored(mode, size):
    get, put = mode
    before = get()
    assert before & 0x8040 == 0
    try:
        for wanted in (before, before | 0x6000, before | 0x8000, before | 0x40):  # rounding, flushing, either kind
            put(wanted)
            result = product("float32", TINY["float32"], size, 2, 5)
            after = get()
            put(before)
            assert after == wanted
            assert not result.any()
    finally:
        put(before)
    assert float(TINY["float32"] * np.float32(0.5)) > 0


def test_the_teams_threads_are_left_as_they_were(mode, monkeypatch):
    """A kernel restores the mode of each thread that it ran on, not of the caller's alone."""
    get, _ = mode
    function, seen = threads._Job.share, []

    def share(job):
        before = get()
        function(job)
        seen.append((before, get()))

    monkeypatch.setattr(threads._Job, "share", share)
    monkeypatch.setattr(threads, "_team", threads.PythonThreads())
    assert not product("float32", TINY["float32"], 2, 2, 8).any()
    assert not product("float32", TINY["float32"], 2, 2, 8).any()  # ends after every `share` of the first one's job
    assert seen
    assert all(before == after == get() for before, after in seen)


def test_another_threads_mode_is_its_own(mode):
    get, _ = mode
    modes = []

    def work():
        modes.append(get())
        product("float32", TINY["float32"], 2)
        modes.append(get())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert modes[0] == modes[1] == get()
