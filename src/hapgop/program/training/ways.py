"""Behind a ReLU and a 2x2 max pool: which gradients are made from the pooled one, and which from the convolution's own.

The first are summed winner by winner; the second have fast algorithms for many channels. Where predictions are close,
the ways are measured once, as candidates of one operation are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, prod

import numpy as np

from hapgop import engine
from hapgop.algorithms import Problem
from hapgop.algorithms.problem import CONV_OPS
from hapgop.engine import Prepared, Refused
from hapgop.program.steps import cost
from hapgop.shape import PoolShape

_CLOSE = 1.6  # times the best way's prediction
_LONGEST = 50e-3  # seconds on one core: what is larger goes by prediction
_MAKING = 0.05  # seconds, about, for a kernel that is made only to be measured


def at_once(whole: Problem, wants_x: bool) -> str:
    """Which gradients are best made from the pooled one: "wx", "w", "x" or "", where w has the bias' with it.

    whole: the `pooled_grad_w` of a convolution with ReLU and 2x2 max pool. wants_x: whether the input's is wanted.
    """
    whole = engine.at_precision(whole)  # not every way is one for plain sums: what was measured holds for these alone
    names = ("wx", "w", "x", "") if wants_x else ("w", "")
    ways = {name: _way(whole, name, wants_x) for name in names}
    predicted = {name: together(problems) for name, problems in ways.items()}
    order = sorted(ways, key=lambda name: predicted[name])
    best = predicted[order[0]]
    near = [name for name in order if predicted[name] < min(_CLOSE * best, _LONGEST)]
    if len(near) < 2:
        return order[0] if best < inf else ""
    key = f"{whole!r}, dx: {wants_x}"
    times = engine.measured(key)
    if times is None and engine.may_measure():
        engine.spend(_MAKING * len({problem for name in near for problem in ways[name]}))
        memory = _memory(whole)
        times = engine.compare(key, {name: _calls(ways[name], memory) for name in near})
    return order[0] if times is None else min(near, key=lambda name: times.get(name, inf))


def together(problems: Sequence[Problem]) -> float:
    """The seconds predicted for some problems, of which infinitely many where no algorithm takes one."""
    try:
        return sum(cost(problem, known=False).seconds for problem in problems)
    except Refused:
        return inf


def _way(whole: Problem, names: str, wants_x: bool) -> list[Problem]:
    """What is computed where the gradients of these names are made from the pooled one."""
    every = [whole if "w" in names else replace(whole, op="grad_w", activation=None)]
    if wants_x:
        of_x = replace(whole, op="pooled_grad_x")
        every.append(of_x if "x" in names else replace(of_x, op="grad_x", activation=None))
    if any(problem.op in CONV_OPS for problem in every):
        maps = PoolShape(*whole.conv.y_shape, 2, 2)
        every.insert(0, replace(whole, op="pooled_grad", shape=maps, x_layout=whole.y_layout))
    return every


_TENSORS = {
    "pooled_grad_w": ("x", "g", "z", "winners", "dw", "db"),
    "pooled_grad_x": ("g", "z", "winners", "w", "dx"),
    "pooled_grad": ("g", "z", "winners", "dy", "db"),
    "grad_w": ("x", "dy", "dw"),
    "grad_x": ("dy", "w", "dx"),
}


def _memory(whole: Problem) -> dict[str, np.ndarray]:
    """Memory in place of all tensors of both ways."""
    s = whole.conv
    pooled = prod(PoolShape(*s.y_shape, 2, 2).y_shape)
    x, y, w = prod(s.x_shape), prod(s.y_shape), prod(s.w_shape)
    sizes = {"x": x, "dx": x, "w": w, "dw": w, "dy": y, "g": pooled, "z": pooled, "winners": pooled, "db": s.oc}
    memory = {name: engine.usual(size, np.dtype(whole.inside)) for name, size in sizes.items()}
    memory["winners"][...] = np.floor(np.abs(memory["winners"] * 10)) % 4
    return memory


def _calls(problems: Sequence[Problem], memory: dict[str, np.ndarray]) -> Callable[[], object]:
    threads = engine.get_threads()
    calls: list[tuple[Prepared, list[int]]] = [
        (engine.prepare(problem), [engine.address(memory[name]) for name in _TENSORS[problem.op]])
        for problem in problems
    ]

    def run() -> None:
        for prepared, addresses in calls:
            prepared(*addresses, threads=threads)

    return run
