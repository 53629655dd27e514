"""Teams: OpenMP's, our own or Python's, from any thread, after a fork; always the same bits."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from textwrap import dedent

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from kernels import emitted
from programs import programs
from teams import RUNTIMES, Barrier, Run, address, team

from hapgop import native
from hapgop.native import threads
from hapgop.tile import Builder


@pytest.fixture(params=RUNTIMES)
def each_team(request, monkeypatch):
    """The tests run with every team that there is."""
    chosen = team(request.param)
    monkeypatch.setattr(threads, "_team", chosen)
    assert native.runtime() == request.param
    return chosen


@pytest.fixture
def python_threads(monkeypatch):
    chosen = threads.PythonThreads()
    monkeypatch.setattr(threads, "_team", chosen)
    return chosen


def two_stages(items=24):
    """y = the sum of all that the first stage wrote: right only where everyone waited."""
    k = Builder("two", "float64", 4)
    x, y, s = k.buffer("x", items, "in"), k.buffer("y", items, "out"), k.buffer("s", items, "scratch")
    with k.stage("square", ("i", items)) as (i,):
        value = k.broadcast(x, i)
        k.store(k.mul(value, value), s, i, 1)
    with k.stage("sum", ("i", items)) as (i,):
        total = k.const(0.0)
        with k.loop("j", 0, items) as j:
            k.add(total, k.broadcast(s, j), into=total)
        k.store(total, y, i, 1)
    return k.kernel()


def sums(start, threads):
    x = np.arange(start, start + 24.0)
    y = emitted(two_stages(), {"x": x, "y": np.zeros(24)}, {}, threads)["y"]
    return y.tolist() == [float((x * x).sum())] * 24


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(program=programs())
def test_any_team_gives_the_same_bits(each_team, program):
    alone = emitted(program.kernel, program.arrays, program.sizes, 1)["y"]
    team = emitted(program.kernel, program.arrays, program.sizes, 3)["y"]
    np.testing.assert_array_equal(team, alone)


def test_the_team_grows_and_is_kept(python_threads):
    for size in (2, 4, 3):
        assert sums(1, size)
    assert python_threads.size == 4


@pytest.mark.parametrize("size", [1, 2, 3, 4, 9, 64])
def test_a_team_of_any_size(each_team, size):
    for start in range(5):
        assert sums(start, size)


def test_a_team_is_complete(each_team):
    """Each number once, each told the same size, on as many threads; nobody passes the barrier before all have come."""
    seen, arrived, passed = [], [], []

    @Run
    def member(data, thread, count, barrier):
        seen.append((thread, count, threading.get_native_id()))
        for meeting in range(1, 4):
            arrived.append(thread)
            Barrier(barrier)()
            passed.append(len(arrived) >= meeting * count)

    for size in (2, 5, 3, 2):
        for each in (seen, arrived, passed):
            each.clear()
        native.launch(address(member), b"", size)
        assert sorted(s[:2] for s in seen) == [(i, size) for i in range(size)]
        assert len({s[2] for s in seen}) == size
        assert len(passed) == 3 * size
        assert all(passed)


def test_ctrl_c_waits_for_the_team_and_leaves_nobody_waiting(python_threads):
    passed = []

    @Run
    def member(data, thread, count, barrier):
        if thread == 1:
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.2)
        Barrier(barrier)()
        time.sleep(0.1)
        passed.append(thread)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            native.launch(address(member), b"", 3)
    finally:
        signal.signal(signal.SIGINT, before)
    assert sorted(passed) == [0, 1, 2]
    assert sums(1, 3)


def test_the_words_may_be_an_address_or_bytes(each_team):
    words = (ctypes.c_int64 * 3)(7, 8, 9)
    seen = []

    @Run
    def member(data, thread, count, barrier):
        seen.append((ctypes.c_int64 * 3).from_address(data)[:])

    for data in (ctypes.addressof(words), bytes(words)):
        seen.clear()
        native.launch(address(member), data, 2)
        native.launch(address(member), data, 1)
        native.launch(address(member), data, 1, 10)
        assert seen == [[7, 8, 9]] * 4


def callers(work, count=5):
    """Runs `work(i)` on several Python threads at once; what they raise is raised here."""
    errors = []

    def call(i):
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    team = [threading.Thread(target=call, args=(i,)) for i in range(count)]
    for thread in team:
        thread.start()
    for thread in team:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def many_sums(caller):
    for turn in range(20):
        assert sums(caller * 100 + turn, 2)


def test_several_python_threads_at_once(each_team):
    callers(many_sums)


def test_several_python_threads_compile_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("HAPGOP_CACHE", str(tmp_path))

    def compile_and_run(caller):
        k = Builder("mine", "float32", 4)
        y = k.buffer("y", 4, "out")
        with k.stage("s", ("i", 1)):
            k.store(k.const(float(caller)), y, 0)
        assert emitted(k.kernel(), {"y": np.zeros(4, np.float32)}, {}, 2)["y"].tolist() == [caller] * 4

    callers(compile_and_run)


def test_without_native_threads_python_threads_do(monkeypatch):
    monkeypatch.setattr(threads, "_team", None)
    monkeypatch.setattr(threads, "supported", lambda: False)
    assert native.runtime() == "PythonThreads"
    assert sums(3, 2)


def test_a_library_that_is_no_openmp_is_an_error():
    with pytest.raises((OSError, AttributeError)):
        native.use_openmp("libc.so.6")
    assert sums(4, 2)


def test_pytorchs_runtime_can_be_shared():
    """In a process of its own: the choice is the process's."""
    program = """
        import glob, os, sys
        import numpy as np
        import torch
        import hapgop
        from hapgop import engine, native
        found = glob.glob(os.path.join(os.path.dirname(torch.__file__), "lib", "libgomp*"))
        engine.use_openmp(found[0] if found else "libgomp.so.1")
        x, w = np.ones((4, 16, 32, 32), np.float32), np.ones((16, 16, 2, 2), np.float32)
        y = hapgop.conv2d(x, w)
        torch.nn.functional.conv2d(torch.from_numpy(x), torch.from_numpy(w))
        print(native.runtime(), (y == 64).all())
    """
    assert run(program) == "OpenMP True"


def run(program):
    done = subprocess.run(
        [sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


FORK = """
    import os, signal
    import numpy as np
    import hapgop
    from hapgop import native
    from hapgop.native import threads

    {prelude}
    hapgop.set_threads(3)
    x, w = np.ones((4, 16, 32, 32), np.float32), np.ones((16, 16, 2, 2), np.float32)
    right = lambda y: bool((y == 64).all())
    print(right(hapgop.conv2d(x, w)), flush=True)
    child = os.fork()
    if not child:
        signal.alarm(30)
        again = right(hapgop.conv2d(x, w))
        new = hapgop.conv2d(x[:2], w, padding=1)[:, :, 1:-1, 1:-1]
        os.write(1, f"{{again}} {{right(new)}}\\n".encode())
        os._exit(0)
    print(os.waitpid(child, 0)[1], right(hapgop.conv2d(x, w)))
"""


@pytest.mark.skipif(not hasattr(threads.os, "fork"), reason="needs fork")
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_forked_child_works_on(runtime):
    """What the parent's team was is gone in the child; known kernels and new ones have to run all the same."""
    path = team(runtime)._library._name if runtime == "OpenMP" else ""
    prelude = f"threads._team = threads.{runtime}({path!r})" if path else f"threads._team = threads.{runtime}()"
    assert run(FORK.format(prelude=prelude)).split() == ["True", "True", "True", "0", "True"]


def test_a_brief_call_keeps_pythons_lock():
    """Letting it go costs up to 5 ms where another thread computes; keeping it long would stop the others."""
    usleep = ctypes.CDLL(None).usleep
    turns = [0]
    over = threading.Event()

    def count():
        while not over.is_set():
            turns[0] += 1

    other = threading.Thread(target=count)
    other.start()
    try:
        before = turns[0]
        native.launch(address(usleep), 100_000, 1, 1000)
        kept = turns[0] - before
        before = turns[0]
        native.launch(address(usleep), 100_000, 1)
        let_go = turns[0] - before
    finally:
        over.set()
        other.join()
    # The other may run right before and right behind, while this thread takes its numbers.
    assert let_go > 2 * kept
