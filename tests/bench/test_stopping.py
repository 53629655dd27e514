"""Ctrl-C or SIGTERM in the middle of a benchmark: what was measured until then is its result."""

import os
import signal

import pytest

from hapgop import bench
from hapgop.bench.choosing import Wanted
from hapgop.bench.drawn import draw
from hapgop.bench.stopping import Stoppable

CASES = "one ic=4 size=6 oc=5 kernel=3 n=1\ntwo ic=4 size=6 oc=5 kernel=3 n=1"


def stopped_at(turn):
    """A progress that Ctrl-C interrupts when it is told of its turn-th piece of work."""
    told = iter(range(1, 100))

    def progress(*_):
        if next(told) == turn:
            raise KeyboardInterrupt

    return progress


def layers():
    wanted = Wanted(ops=("forward",), text=CASES, source="a text")
    return bench.plan(wanted, against=["torch"], threads=[1], repeats=1)


def test_layers_keep_the_rows_so_far():
    result = bench.bench_layers(layers(), "the command", stopped_at(2))
    assert [row.case for row in result.rows] == ["one"]
    assert result.machine["stopped"]
    assert "stopped before its end" in bench.table(result)
    whole = bench.bench_layers(layers(), "the command", stopped_at(9))
    assert [row.case for row in whole.rows] == ["one", "two"]
    assert not whole.machine["stopped"]
    assert "stopped" not in bench.table(whole)


def test_nets_keep_the_rows_so_far():
    run = bench.plan_nets(["digits"], batches=[1, 2], against=["torch"], threads=[1], repeats=1, quick=True)
    result = bench.bench_nets(run, "the command", stopped_at(2))
    assert [row.batch for row in result.rows] == [1]
    assert result.machine["stopped"]


def test_training_steps_keep_the_rows_so_far():
    run = bench.plan_train(["lenet5"], against=["torch eager"], threads=[1], batches=[1, 2], repeats=1)
    result = bench.bench_train(run, "the command", stopped_at(2))
    assert [row.batch for row in result.rows] == [1]
    assert "(stopped before its end)" in bench.train_table(result)


def test_random_layers_keep_those_so_far(monkeypatch):
    one = min(draw(50, 7), key=lambda layer: layer.shape.flops)
    monkeypatch.setattr("hapgop.bench.surveys.draw", lambda count, seed: [one] * 3)
    rows = bench.survey(3, 0, 1, stopped_at(3), ops=["forward", "grad_x"], repeats=1, compare=False)
    assert [row.op for row in rows] == ["forward", "grad_x"] * 2


def test_without_a_row_it_is_stopped_like_anything_else():
    with pytest.raises(KeyboardInterrupt):
        bench.bench_layers(layers(), "the command", stopped_at(1))


def test_a_process_that_is_told_to_end_keeps_its_rows_too():
    rows = []
    with Stoppable(rows) as end:
        rows.append(1)
        os.kill(os.getpid(), signal.SIGTERM)
        rows.append(2)
    assert end.stopped
    assert rows == [1]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_who_listens_already_still_hears():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append(1))
    try:
        with Stoppable([1]) as end:
            os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == [1]
    assert not end.stopped


def test_other_failures_go_on():
    with pytest.raises(ValueError, match="something"), Stoppable([1]):
        raise ValueError("something")
