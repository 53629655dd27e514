"""Native threads of our own: who is in the team, who waits how, and what a fork, a signal and the end leave behind."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from textwrap import dedent

import pytest
from teams import Run, address, team

from hapgop.native import threads, workers

pytestmark = pytest.mark.skipif(not workers.supported(), reason="native threads are not known to work here")


@pytest.fixture(params=["passive", "active"])
def pool(request, monkeypatch):
    """Its threads sleep at once, or wait awake first."""
    monkeypatch.setenv("OMP_WAIT_POLICY", request.param)
    return team("NativeThreads")


def members(pool, size, patience=threads.FOREVER, during=lambda: None):
    """(number, size of the team) of each member of one launch."""
    seen = []

    @Run
    def member(data, thread, count, barrier):
        seen.append((thread, count))
        during()

    pool.launch(address(member), b"", size, patience)
    return sorted(seen)


def test_threads_are_made_once_and_kept(pool):
    for size, known in ((2, 2), (4, 4), (3, 4), (4, 4)):
        assert members(pool, size) == [(i, size) for i in range(size)]
        assert pool.size == known


def test_after_a_pause_they_come_again(pool):
    for _ in range(5):
        time.sleep(0.01)
        assert len(members(pool, 3)) == 3


def test_who_does_not_come_in_time_is_left_out(pool):
    """A team of fewer is numbered without holes, and those left out come to the next one."""
    for _ in range(200):
        seen = members(pool, 8, patience=1)
        assert seen == [(i, len(seen)) for i in range(len(seen))]
        assert 1 <= len(seen) <= 8
    assert len(members(pool, 8)) == 8


def test_a_second_caller_runs_alone_meanwhile(pool):
    inside, leave = threading.Event(), threading.Event()

    def stay():
        inside.set()
        assert leave.wait(30)

    first = threading.Thread(target=members, args=(pool, 2), kwargs={"during": stay})
    first.start()
    assert inside.wait(30)
    assert members(pool, 2) == [(0, 1)]
    leave.set()
    first.join(30)
    assert not first.is_alive()
    assert len(members(pool, 2)) == 2


def test_where_no_more_threads_are_allowed_the_team_is_smaller(pool, monkeypatch):
    assert len(members(pool, 3)) == 3
    monkeypatch.setattr(pool, "_create", lambda *given: 11)  # EAGAIN
    assert len(members(pool, 6)) == 3
    assert pool.size == 3


def test_where_none_are_allowed_the_caller_computes_alone(pool, monkeypatch):
    monkeypatch.setattr(pool, "_create", lambda *given: 11)
    assert members(pool, 6) == [(0, 1)]


def test_a_team_has_its_limit(pool, monkeypatch):
    monkeypatch.setattr(workers, "MOST", 4)
    assert len(members(pool, 10)) == 4


def test_signals_are_left_to_pythons_threads(pool):
    before = set(os.listdir("/proc/self/task"))
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert len(members(pool, 3)) == 3
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == mask
    made = set(os.listdir("/proc/self/task")) - before
    assert len(made) == 2
    for thread in made:
        lines = Path(f"/proc/self/task/{thread}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGCHLD):
            assert int(status["SigBlk"], 16) >> (number - 1) & 1


PROGRAM = """
    import os, signal, sys, threading, time
    sys.path.insert(0, {helpers!r})
    from teams import Run, address
    from hapgop.native import threads, workers
    pool = threads._team = workers.NativeThreads()

    def members(size, during=lambda: None):
        seen = []
        @Run
        def member(data, thread, count, barrier):
            seen.append((thread, count))
            during()
        threads.launch(address(member), b"", size)
        return sorted(seen) == [(i, size) for i in range(size)]

"""


def run(program, policy="active"):
    helpers = os.path.join(os.path.dirname(__file__), "..", "helpers")
    done = subprocess.run(
        [sys.executable, "-c", dedent(PROGRAM.format(helpers=helpers)) + dedent(program)],
        env={**os.environ, "OMP_WAIT_POLICY": policy},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_a_team_without_work_sleeps():
    """Waiting awake ends: ten times as long afterwards, no thread has worked at all."""
    program = """
        assert members(4)
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.5)
        print(time.process_time() - before)
    """
    assert float(run(program)[0]) < 0.1


@pytest.mark.parametrize("policy", ["active", "passive"])
def test_a_forked_child_makes_threads_of_its_own(policy):
    program = """
        assert members(3)
        child = os.fork()
        if not child:
            signal.alarm(30)
            fine = members(3) and members(5) and len(os.listdir("/proc/self/task")) == 5
            os._exit(0 if fine else 1)
        print(os.waitpid(child, 0)[1], members(3))
    """
    assert run(program, policy) == ["0", "True"]


def test_a_child_forked_while_a_team_works():
    """What the parent's launch had begun never ends in the child; it does not wait for it."""
    program = """
        inside, leave = threading.Event(), threading.Event()
        def stay():
            inside.set()
            leave.wait(30)
        other = threading.Thread(target=members, args=(3, stay))
        other.start()
        inside.wait(30)
        child = os.fork()
        if not child:
            signal.alarm(30)
            os._exit(0 if members(3) else 1)
        print(os.waitpid(child, 0)[1])
        leave.set()
        other.join()
        print(members(3))
    """
    assert run(program) == ["0", "True"]


@pytest.mark.parametrize("policy", ["active", "passive"])
def test_the_interpreter_ends_while_they_wait(policy):
    for ending in ("", "import atexit; atexit.register(members, 3)", "os.kill(os.getpid(), signal.SIGCHLD)"):
        program = f"assert members(4)\nfor _ in range(100): members(3)\n{ending}\nprint('end')"
        assert run(program, policy) == ["end"]


def test_they_work_on_while_the_interpreter_ends():
    """A daemon thread is in the midst of launches when the main thread is done."""
    program = """
        import ctypes
        nap = address(ctypes.CDLL(None).usleep)
        def go():
            while True:
                threads.launch(nap, 50, 3)
        threading.Thread(target=go, daemon=True).start()
        time.sleep(0.2)
        print("end")
    """
    assert run(program) == ["end"]


def test_they_may_run_on_every_core_that_the_process_may(pool):
    """However often they were moved to one where they are alone."""
    before = set(os.listdir("/proc/self/task"))
    for _ in range(50):
        members(pool, 3)
        time.sleep(0.001)
    made = set(os.listdir("/proc/self/task")) - before
    assert len(made) == 2
    for thread in made:
        assert os.sched_getaffinity(int(thread)) == os.sched_getaffinity(0)
