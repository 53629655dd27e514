"""What is measured decides, is kept, and is measured once; what cannot be kept or afforded is not measured."""

import errno
import json
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from problems import answers, assert_equal, random_inputs, solve

from hapgop import engine
from hapgop.algorithms import Problem
from hapgop.engine import ready, tuning
from hapgop.engine.choices import Choices, _alone
from hapgop.errors import InputError
from hapgop.shape import ConvShape

# Winograd and plain sums come close here.
CLOSE = Problem("conv", ConvShape(2, 16, 12, 12, 32, 3, 3, padding=1), w_layout="ohwi")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A cache folder of its own, and tuning as a user has it."""
    monkeypatch.setenv("HAPGOP_CACHE", str(tmp_path))
    yield from _tuned(tmp_path)


def _tuned(folder):
    tuning.choices.cache_clear()
    engine.set_tuning("close", 1000.0)
    yield folder
    engine.set_tuning("off")
    tuning.choices.cache_clear()
    engine.set_threads(None)


@pytest.fixture
def timed(monkeypatch):
    """Measuring says what the test wants: the last candidate is the fastest."""
    asked = []

    def times(calls):
        asked.append(list(calls))
        return {name: 1e-3 / (i + 1) for i, name in enumerate(calls)}

    monkeypatch.setattr(tuning, "_interleaved", times)
    return asked


def _again():
    """As a new process: nothing is known but what is on disk."""
    tuning.choices.cache_clear()
    ready._ready.clear()


def test_the_fastest_of_those_that_come_close_is_taken(cache, timed):
    prepared = engine.prepare(CLOSE)
    assert len(timed) == 1
    assert 2 <= len(timed[0]) <= 5
    winner = timed[0][-1]
    assert prepared.plan.algorithm.name == winner
    assert prepared.plan.measured == pytest.approx(1e-3 / len(timed[0]))
    losers = {lost.algorithm: lost.reason for lost in prepared.plan.losers}
    assert losers[timed[0][0]] == f"measured {len(timed[0]):.2f} times as long"
    text = str(engine.plan_for(CLOSE))
    assert f"takes {winner}" in text
    assert "  measured " in text


def test_what_was_measured_is_not_measured_again(cache, timed):
    first = engine.prepare(CLOSE).plan.algorithm
    _again()
    assert engine.prepare(CLOSE).plan.algorithm == first
    assert engine.prepare_many([CLOSE])[0].plan.algorithm == first
    assert len(timed) == 1


def test_what_could_not_be_written_decides_nothing(cache, monkeypatch):
    choices = tuning.choices()
    assert choices.put("one", {"a": 1.0}) == {"a": 1.0}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(choices, "_write", full)
        assert choices.put("two", {"a": 1.0}) is None
    assert choices.get("two") is None
    assert choices.get("one") == {"a": 1.0}


def test_it_really_measures(cache):
    prepared = engine.prepare(CLOSE)
    times = engine.measured(repr(CLOSE))
    assert len(times) >= 2
    assert all(0 < seconds < 1 for seconds in times.values())
    assert times[prepared.plan.algorithm.name] <= 1.05 * min(times.values())  # of those about as fast the most accurate
    inputs = random_inputs(CLOSE, 1)
    # Not Winograd: whole numbers are exact in plain sums only.
    if prepared.plan.algorithm.growth(CLOSE) == 1:
        assert_equal(solve(prepared, CLOSE, inputs), answers(CLOSE, inputs))


@pytest.mark.parametrize("op", ["conv", "grad_x", "grad_w"])
def test_weights_packed_ahead_are_measured_too(cache, op, timed):
    problem = Problem(op, CLOSE.shape, w_layout="ohwi", packed=op != "grad_w")
    assert engine.prepare(problem).plan.algorithm.name == timed[0][-1]


def test_the_number_of_threads_does_not_matter(cache, timed):
    engine.set_threads(1)
    one = engine.prepare(CLOSE).plan.algorithm
    _again()
    engine.set_threads(2)
    assert engine.prepare(CLOSE).plan.algorithm == one
    assert len(timed) == 1


def test_off_is_prediction(cache, timed):
    predicted = ready.ranking_for(CLOSE).plan().algorithm
    assert engine.prepare(CLOSE).plan.algorithm != predicted
    engine.set_tuning("off")
    assert engine.prepare(CLOSE).plan.algorithm == predicted
    engine.set_tuning("kept")
    assert engine.prepare(CLOSE).plan.algorithm != predicted
    assert len(timed) == 1


def test_kept_measures_nothing(cache, timed):
    engine.set_tuning("kept")
    assert engine.prepare(CLOSE).plan.measured is None
    assert not timed


def test_a_process_measures_no_longer_than_it_may(cache, timed):
    engine.set_tuning("close", 0.01)  # kernels that only take part are counted
    engine.prepare(CLOSE)
    engine.prepare(Problem("conv", CLOSE.shape.with_batch(3), w_layout="ohwi"))
    assert len(timed) == 1


def test_what_would_take_long_is_predicted(cache, timed):
    long = ready.ranking_for(Problem("conv", ConvShape(64, 512, 112, 112, 512, 3, 3)))
    assert tuning.contenders(long) == []
    assert not timed


def test_without_a_place_to_keep_it_nothing_is_measured(tmp_path, monkeypatch, timed):
    file = tmp_path / "file"
    file.write_text("")
    monkeypatch.setenv("HAPGOP_CACHE", str(file))
    for _ in _tuned(file):
        assert engine.prepare(CLOSE).plan.measured is None
    assert not timed


def test_describing_measures_nothing(cache, timed):
    engine.describe(CLOSE.shape)
    assert not timed


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b'{"format":1}', b'{"format":1,"choices":{"a":{"b":-1.0}}}', b'{"format":1,"choices":[1]}',
     b'{"format":1,"choices":{"a":{}}}', b'{"format":2,"choices":{}}', b"\xff\xfe"],
)  # fmt: skip
def test_a_damaged_file_is_ignored_and_written_anew(cache, timed, damage):
    engine.prepare(CLOSE)
    path = tuning.choices().path
    path.write_bytes(damage)
    _again()
    engine.prepare(CLOSE)
    assert len(timed) == 2
    assert len(json.loads(path.read_text())["choices"]) == 1


def test_who_measures_first_decides(tmp_path):
    one, two = Choices(tmp_path / "a.json"), Choices(tmp_path / "a.json")
    assert one.put("key", {"a": 1.0}) == {"a": 1.0}
    assert two.put("key", {"a": 2.0}) == {"a": 1.0}
    assert two.get("key") == {"a": 1.0}
    assert two.get("other") is None


def test_several_writers_lose_nothing(tmp_path):
    def write(number):
        mine = Choices(tmp_path / "a.json")
        for i in range(10):
            mine.put(f"{number} {i}", {"a": 1.0})

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    kept = Choices(tmp_path / "a.json")
    assert all(kept.get(f"{number} {i}") for number in range(4) for i in range(10))
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", "lock"}


def test_a_file_is_bounded_and_so_are_files(tmp_path, monkeypatch):
    monkeypatch.setattr("hapgop.engine.choices._MOST", 3)
    kept = Choices(tmp_path / "a.json")
    for i in range(5):
        kept.put(str(i), {"a": 1.0})
    assert [kept.get(str(i)) is not None for i in range(5)] == [False, False, True, True, True]
    for i in range(20):
        Choices(tmp_path / f"{i}.json").put("key", {"a": 1.0})
    assert len(list(tmp_path.glob("*.json"))) == 8


def test_settings_that_make_no_sense(monkeypatch):
    with pytest.raises(InputError, match="tuning is 'always'; it has to be 'off', 'kept' or 'close'"):
        engine.set_tuning("always")
    with pytest.raises(InputError, match="seconds is -1"):
        engine.set_tuning("close", -1)
    monkeypatch.setenv("HAPGOP_TUNE", "perhaps")
    tuning._from_environment.cache_clear()
    try:
        with pytest.raises(InputError, match="HAPGOP_TUNE: got 'perhaps'"):
            tuning._from_environment()
    finally:
        tuning._from_environment.cache_clear()


def test_a_thread_may_take_what_is_kept_and_measure_nothing(cache, timed):
    with engine.unmeasured():
        assert not engine.may_measure()
        engine.prepare(CLOSE)
    assert not timed
    assert engine.may_measure()


def test_where_something_else_had_the_core_it_is_measured_once_more(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(tuning, "perf_counter", lambda: clock[0])

    def call(*seconds):
        left = list(seconds)

        def run():
            clock[0] += left.pop(0) if len(left) > 1 else left[0]

        return run

    # As often as the first pass calls what seems hopeless.
    best = tuning._interleaved({"expected": call(*[5e-3] * 4, 1e-4), "other": call(3e-4)})
    assert best == pytest.approx({"expected": 1e-4, "other": 3e-4})
    took = []
    for calls in ({"first": call(1e-4), "other": call(2e-4)}, {"other": call(2e-4), "first": call(1e-4)}):
        clock[0] = 0.0
        tuning._interleaved(calls)
        took.append(clock[0])
    assert took[1] > 1.3 * took[0], "only where the first one is not the fastest"


def test_a_machine_without_a_home_keeps_nothing(monkeypatch):
    for name in ("HAPGOP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", staticmethod(homeless))
    for _ in _tuned(None):
        found = tuning.choices()
        assert found.put("key", {"a": 1.0}) is None
        assert found.get("key") is None
        assert not found.writable()
        plain = replace(CLOSE, precision="exact")
        given = random_inputs(plain, 0)
        assert_equal(solve(engine.prepare(plain), plain, given), answers(plain, given))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_does_not_hold_the_lock_of_its_parent(tmp_path):
    """A file's lock belongs to all who have it open, and a child has what its parent had."""
    kept = Choices(tmp_path / "choices.json")
    with _alone(kept.path):
        child = os.fork()
        if not child:
            time.sleep(30)
            os._exit(0)
    try:
        before = time.monotonic()
        assert kept.writable()
        assert time.monotonic() - before < 10
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_file_of_brackets_counts_as_empty(tmp_path):
    path = tmp_path / "choices.json"
    path.write_text("[" * 100_000)
    assert Choices(path).get("key") is None
