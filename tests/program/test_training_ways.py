"""Which gradients behind a ReLU and a pool are made winner by winner: by prediction, or by what was measured."""

import pytest

from hapgop import engine
from hapgop.algorithms import Problem
from hapgop.program.training import ways
from hapgop.shape import ConvShape

# LeNet-5's second layer: so few channels that winners are worth it, and no whole vectors of them.
WHOLE = Problem("pooled_grad_w", ConvShape(64, 6, 14, 14, 16, 5, 5), "float32", "nhwc", "nhwc", activation="relu")
MEASURED = {"wx": 1.0, "w": 2.0, "x": 3.0, "": 4.0}


@pytest.mark.parametrize(("precision", "best"), [("fast", "wx"), ("exact", "w")])
def test_what_was_measured_counts_among_the_ways_there_are(precision, best, monkeypatch):
    """For plain sums there are fewer: those that are none are not taken, whatever was measured before."""
    plain = precision == "exact"
    monkeypatch.setattr(ways, "together", lambda all_: float("inf" if plain and _sends_x(all_) else 1e-3))
    asked = []
    monkeypatch.setattr(engine, "measured", lambda key: asked.append(key) or MEASURED)
    before = engine.get_precision()
    try:
        engine.set_precision(precision)
        assert ways.at_once(WHOLE, wants_x=True) == best
    finally:
        engine.set_precision(before)
    assert precision in asked[0]


def _sends_x(problems) -> bool:
    return any(problem.op == "pooled_grad_x" for problem in problems)
