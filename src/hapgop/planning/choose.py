"""The choice: of the algorithms that accept a problem, the one predicted or measured fastest; of equals, the most
accurate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from hapgop.algorithms import Algorithm, Problem, Recipe, algorithms_of
from hapgop.errors import InputError
from hapgop.machine import Machine
from hapgop.planning.plan import Lost, Plan

_WORTH = 10e-6  # seconds of work for which a further thread is woken
_ALIKE = 1.05  # times the fastest: so little is within the noise, and the most accurate of them is taken
_STRIDES = 4096  # of grad_x, each pixel between which is a case of its own: more are not even counted
_FAR = 2.0  # times the best, with all the machine's cores: whose recipe is not even made


@dataclass(frozen=True, slots=True)
class Candidate:
    """An algorithm that accepts a problem. seconds: predicted on one core; shared: on all that pay."""

    algorithm: Algorithm
    recipe: Recipe
    seconds: float
    shared: float


@dataclass(frozen=True, slots=True)
class Ranking:
    """The candidates for a problem, the one predicted fastest first, and everyone else with the reason."""

    problem: Problem
    machine: Machine
    candidates: tuple[Candidate, ...]
    others: tuple[Lost, ...]

    def close(self, within: float, most: int) -> tuple[Candidate, ...]:
        """Those predicted to take at most `within` times as long as the best, and at most so many."""
        limit = self.candidates[0].shared * within
        return tuple(c for c in self.candidates if c.shared <= limit)[:most]

    def plan(self, measured: Mapping[str, float] | None = None) -> Plan:
        """The plan for the fastest, or the one with the smallest bound of its error of those that are about as fast.

        measured: seconds of a call of some candidates, by name; of those the fastest is meant. Names that are no
        candidate's are left out.
        """
        times = measured or {}
        known = [(times[c.algorithm.name], c) for c in self.candidates if c.algorithm.name in times]
        winner = self._winner(known or [(c.shared, c) for c in self.candidates])
        lost = [Lost(c.algorithm.name, _why(c, winner, times)) for c in self.candidates if c is not winner]
        taken = times.get(winner.algorithm.name) if known else None
        return Plan(
            self.problem, self.machine, winner.algorithm, winner.recipe, winner.seconds, (*lost, *self.others), taken
        )

    def _winner(self, timed: Sequence[tuple[float, Candidate]]) -> Candidate:
        limit = _ALIKE * min(seconds for seconds, _ in timed)
        alike = [(c.algorithm.growth(self.problem), seconds, c) for seconds, c in timed if seconds <= limit]
        return min(alike, key=lambda one: one[:2])[2]


def choose(problem: Problem, machine: Machine, algorithms: Sequence[Algorithm] | None = None) -> Plan:
    """The plan for a problem on a machine, by prediction; `algorithms` are all there are where none are named.

    A pure function: the same problem and machine always give the same plan. Raises InputError, with every algorithm's
    reason, where none accepts the problem.
    """
    return rank(problem, machine, algorithms).plan()


def rank(problem: Problem, machine: Machine, algorithms: Sequence[Algorithm] | None = None) -> Ranking:
    """All that may do a problem on a machine; of equals the first comes first.

    Raises as `choose` does.
    """
    if problem.op == "grad_x" and max(problem.shape.stride) > _STRIDES:
        raise InputError(f"no algorithm takes grad_x: strides of {problem.shape.stride} are larger than {_STRIDES}")
    lost: list[Lost] = []
    able: list[tuple[float, Algorithm]] = []
    for algorithm in algorithms_of(problem.dtype) if algorithms is None else algorithms:
        reason = algorithm.refuses(problem, machine)
        if reason is None:
            able.append((algorithm.seconds(problem, machine), algorithm))
        else:
            lost.append(Lost(algorithm.name, reason))
    if not able:
        raise InputError(_refused(problem, lost))
    least = min(seconds for seconds, _ in able)
    near = [(s, a) for s, a in able if s <= least * machine.cores * _FAR]
    candidates = [_candidate(a, s, problem, machine) for s, a in near]
    candidates.sort(key=lambda c: c.shared)
    best = candidates[0].seconds
    far = [Lost(a.name, _slower(s / best)) for s, a in able if s > least * machine.cores * _FAR]
    return Ranking(problem, machine, tuple(candidates), (*far, *lost))


def _refused(problem: Problem, lost: Sequence[Lost]) -> str:
    """A first line with the reason of the most general algorithm, which is the last; then those of the others."""
    # Those that compute something else say what; the others say what they want of the problem.
    *others, last = [x for x in lost if not x.elsewhere] or lost[-1:] or [Lost("none", "is there")]
    lines = [f"no algorithm takes {problem.op}: {last.algorithm} {last.reason}"]
    return "\n".join([*lines, *(f"  not {x.algorithm}: {x.reason}" for x in others)])


def _candidate(algorithm: Algorithm, seconds: float, problem: Problem, machine: Machine) -> Candidate:
    recipe = algorithm.recipe(problem, machine)
    return Candidate(algorithm, recipe, seconds, shared(seconds, recipe.items, machine.cores))


def _why(loser: Candidate, winner: Candidate, measured: Mapping[str, float]) -> str:
    mine, best = (measured.get(c.algorithm.name) for c in (loser, winner))
    if mine is not None and best is not None:
        return f"measured {mine / best:.2f} times as long"
    return _slower(loser.shared / winner.shared)


def _slower(times: float) -> str:
    return f"predicted {times:.2f} times as long"


def shared(seconds: float, items: int, cores: int) -> float:
    """The time of a call whose work items are shared out: until the core with the most of them is done."""
    items = max(items, 1)  # an empty batch has none
    team = max(1, min(cores, items, int(seconds / _WORTH)))
    return seconds * ceil(items / team) / items
