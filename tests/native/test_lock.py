"""Locks that neither forks nor signals leave shut."""

import os
import threading

import pytest

from hapgop.native import Lock


def test_one_thread_at_a_time():
    lock, inside, most = Lock(), [], []

    def work():
        for _ in range(200):
            with lock:
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(most) == {1}


def test_who_would_wait_for_itself_is_told_so():
    lock = Lock()
    assert not lock.mine()
    with lock:
        assert lock.mine()
        with pytest.raises(RuntimeError, match="a handler that sets a flag"), lock:
            pass
        assert lock.mine()
    assert not lock.mine()
    with lock:
        pass


def test_another_threads_lock_is_not_mine():
    lock, found = Lock(), []
    with lock:
        thread = threading.Thread(target=lambda: found.append(lock.mine()))
        thread.start()
        thread.join()
    assert found == [False]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("who", ["another thread", "the same thread"])
def test_it_is_open_in_a_forked_child(who):
    lock, held, done = Lock(), threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            done.wait()

    if who == "another thread":
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        child = _fork(lock)
        done.set()
        thread.join()
    else:
        with lock:
            child = _fork(lock)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _fork(lock):
    child = os.fork()
    if child:
        return child
    try:
        free = lock._lock.acquire(timeout=5)
        lock._lock.release()
        with lock:
            os._exit(0 if free else 1)
    finally:
        os._exit(2)
