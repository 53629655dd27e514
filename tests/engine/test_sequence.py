"""Sequences of calls: order, who runs what, where threads meet, addresses from outside, and the clock."""

import numpy as np
import pytest
from kernels import Staggered

from hapgop import engine, native
from hapgop.algorithms.maps import MapProblem
from hapgop.engine import Call, Outside, Sequence, prepare_map

N = 5000  # several work items


def chain(arrays, alone, meet):
    """Sums, and turns that read what other threads wrote."""
    add, turned = prepare_map(MapProblem("add", 1, N, 1)), prepare_map(MapProblem("first", 1, 50, N // 50))
    one, first, second = (array.ctypes.data for array in arrays)
    x, y = Outside(0), Outside(1)
    steps = [(add, (x, one, first)), (turned, (first, second)), (add, (second, x, first)), (turned, (first, y))]
    return [Call(run, pointers, alone, meet) for run, pointers in steps]


def expected(x):
    def turned(v):
        return v.reshape(50, -1).T.ravel()

    return turned(turned(x + 1) + x)


@pytest.fixture
def tensors():
    x = np.random.default_rng(0).integers(-8, 9, N).astype(np.float32)
    return x, [np.ones(N, np.float32), np.full(N, np.nan, np.float32), np.full(N, np.nan, np.float32)]


@pytest.mark.parametrize(("team", "alone"), [(1, False), (2, True), (3, False)])
def test_steps_run_in_order_on_the_addresses_of_each_call(tensors, team, alone):
    x, arrays = tensors
    sequence = Sequence(chain(arrays, alone, True), team, 0)
    for scale in (1, 2):
        y = np.zeros(N, np.float32)
        given = x * scale
        sequence(given.ctypes.data, y.ctypes.data)
        assert np.array_equal(y, expected(given))


def late_team(sequence, x, y):
    """Runs a sequence by threads that come one after another; returns how often the barrier was called."""
    team = Staggered()
    for place, number, offset in sequence._patches:
        sequence._table[place] = (x.ctypes.data, y.ctypes.data)[number] + offset
    team.launch(native.sequence(), sequence._address, 2)
    return team.waits


def test_all_threads_meet_behind_a_step_that_says_so(tensors):
    x, arrays = tensors
    y = np.zeros(N, np.float32)
    assert late_team(Sequence(chain(arrays, False, True), 2, 0), x, y) == 2 * 4
    assert np.array_equal(y, expected(x))


def test_without_meeting_a_late_thread_is_noticed(tensors):
    """The test above could not fail otherwise."""
    x, arrays = tensors
    y = np.zeros(N, np.float32)
    assert late_team(Sequence(chain(arrays, False, False), 2, 0), x, y) == 0
    assert not np.array_equal(y, expected(x))


def test_steps_of_the_first_thread_alone_need_no_meeting(tensors):
    x, arrays = tensors
    y = np.zeros(N, np.float32)
    assert late_team(Sequence(chain(arrays, True, False), 2, 0), x, y) == 0
    assert np.array_equal(y, expected(x))


def test_a_place_behind_an_outside_address(tensors):
    x, _ = tensors
    y = np.zeros(N + 3, np.float32)
    copy = prepare_map(MapProblem("copy", 1, N, 1))
    Sequence([Call(copy, (Outside(0), Outside(1, 12)), True, False)], 1, 0)(x.ctypes.data, y.ctypes.data)
    assert np.array_equal(y[3:], x)
    assert not y[:3].any()


def test_nothing_to_do_is_done():
    Sequence([], 1, 0)(0, 0)


def test_steps_are_timed_where_the_clock_can_be_read(tensors, monkeypatch):
    x, arrays = tensors
    y = np.zeros(N, np.float32)
    sequence = Sequence(chain(arrays, False, True), 1, 0)
    times = sequence.seconds(x.ctypes.data, y.ctypes.data, repeats=3)
    if native.clocked():
        assert len(times) == 4
        assert all(0 <= t < 1 for t in times)
    assert sequence._table[1] == 0
    monkeypatch.setattr("hapgop.engine.sequence.clocked", lambda: False)
    assert sequence.seconds(x.ctypes.data, y.ctypes.data) is None


def test_addresses_are_those_that_numpy_says():
    whole = np.zeros((4, 6), np.float32)
    for array in (
        whole,
        whole[1:],
        whole[:, 2:],
        whole.T,
        np.zeros(0),
        np.array(3.0),
        np.broadcast_to(whole, (2, 4, 6)),
    ):
        assert engine.address(array) == array.ctypes.data


def test_scratch_is_the_most_that_a_step_needs():
    softmax = prepare_map(MapProblem("softmax", 1, 4, 40))
    copy = prepare_map(MapProblem("copy", 1, 4, 40))
    calls = [Call(r, (Outside(0), Outside(1)), False, True) for r in (softmax, copy)]
    one, two = (Sequence.scratch_bytes(calls, team) for team in (1, 2))
    assert 0 < one < two
    assert Sequence.scratch_bytes(calls[1:], 2) == 0
