"""Algorithms chosen where they run: a net's convolutions are timed within the net, by each of their candidates.

Measured by itself, a convolution finds its weights in the cache. In a net of many weights they come from memory in
every call, where F(4x4, 3x3) reads four times the bytes of the filter, and the algorithm with the fewest products need
not win.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from math import prod
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hapgop.algorithms import Problem
from hapgop.engine import (
    Prepared,
    at_precision,
    get_tuning,
    keep,
    may_measure,
    measured,
    prepare_by,
    prepare_candidates,
    spend,
    usual,
)
from hapgop.machine import host
from hapgop.program.ready import Ready
from hapgop.program.schedule import Schedule
from hapgop.program.weights import Weights

_CLOSE = 2.5  # times the best prediction, which knows weights in the cache
_CANDIDATES = 5
_SPREAD = 4  # times the bytes of its filters that F(4x4, 3x3) reads
_LONGEST = 0.1  # seconds of a call: weights are soon read beside such work
_ROUNDS = 3
_REPEATS = 4  # calls in a candidate's turn

Times = Mapping[str, float]


def chosen_in_place(plan: Schedule, tensors: Mapping[str, NDArray[Any]]) -> dict[Problem, Prepared]:
    """The problems of a planned net that were measured within it, each as it was fastest.

    Measured once for a net and a batch size, and kept where the engine keeps what it measures. Nothing is chosen here
    where tuning is off, where all weights fit in a core's cache in any form, or where calls are long.
    """
    every = [p for step in plan.steps if isinstance(p := step.problem, Problem) and p.packed]
    problems = list(dict.fromkeys(every))
    weights = sum(p.itemsize * _weights(p) for p in every)
    if get_tuning() == "off" or _SPREAD * weights < host().l2 or plan.seconds > _LONGEST:
        return {}
    net = hashlib.sha256(f"{plan.graph} {plan.batch} {plan.layout}".encode()).hexdigest()
    keys = {problem: f"{at_precision(problem)!r} in {net}" for problem in problems}
    known = {problem: times for problem, key in keys.items() if (times := measured(key)) is not None}
    missing = [problem for problem in problems if problem not in known]
    if missing and may_measure():
        start = perf_counter()
        for problem, times in _measured(plan, missing, known, tensors).items():
            kept = keep(keys[problem], times)
            if kept is not None:
                known[problem] = kept
        spend(perf_counter() - start)
    return {problem: prepare_by(problem, times) for problem, times in known.items()}


def _weights(problem: Problem) -> int:
    s = problem.shape
    return prod(s.w_shape) if hasattr(s, "w_shape") else 0


def _measured(
    plan: Schedule, problems: list[Problem], known: Mapping[Problem, Times], tensors: Mapping[str, NDArray[Any]]
) -> dict[Problem, dict[str, float]]:
    """Seconds of each problem in the net by its candidates' names; of those that have but one candidate nothing."""
    candidates = {problem: prepare_candidates(problem, _CLOSE)[:_CANDIDATES] for problem in problems}
    candidates = {problem: several for problem, several in candidates.items() if len(several) > 1}
    if not candidates:
        return {}
    others = {problem: prepare_by(problem, times) for problem, times in known.items()}
    # Weights that several of the nets have in common lie there once; all are gone when this is done.
    weights = Weights(tensors)
    nets = [
        Ready(
            plan, weights, tensors, {**others, **{p: several[turn % len(several)] for p, several in candidates.items()}}
        )
        for turn in range(max(map(len, candidates.values())))
    ]
    x = usual(plan.batch * prod(plan.graph.input_shape), np.dtype(np.float32))
    found: dict[Problem, dict[str, float]] = {problem: {} for problem in candidates}
    for _ in range(_ROUNDS):
        for turn, net in enumerate(nets):
            seconds = net.seconds(x, _REPEATS)
            if seconds is None:
                return {}
            for problem, several in candidates.items():
                of = [t for step, t in zip(plan.steps, seconds, strict=True) if step.problem == problem]
                if None in of:
                    return {}
                name = several[turn % len(several)].plan.algorithm.name
                total = sum(t for t in of if t is not None)
                found[problem][name] = min(found[problem].get(name, total), total)
    return found
