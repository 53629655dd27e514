"""A net planned for one batch size: steps in their order, threads, and a place in memory for every value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

from hapgop.algorithms import Problem
from hapgop.engine import Prepared
from hapgop.machine import host
from hapgop.program.arena import Life, first_fit
from hapgop.program.graph import Graph
from hapgop.program.lowering import lower
from hapgop.program.sizes import Size, result_sizes
from hapgop.program.steps import LAUNCH, MEET, Cost, Step, cost, cost_of
from hapgop.program.wording import told

_GAIN = 0.9  # of the time with fewer threads


@dataclass(frozen=True)
class Schedule:
    """What a planned net does for batches of `batch` images; `print` it.

    layout: how the images lie. team: threads that work together. costs: of each step; None for Python's.
    sizes: of one image's values. alias: for each value the one in whose memory it lies. starts: where those that lie
    in the arena begin, in bytes. arena: its bytes; separate: what values would take without sharing.
    """

    graph: Graph
    batch: int
    layout: str
    team: int
    steps: tuple[Step, ...]
    costs: tuple[Cost | None, ...]
    sizes: Mapping[str, Size]
    alias: Mapping[str, str]
    starts: Mapping[str, int]
    arena: int
    separate: int

    def by(self, chosen: Mapping[Problem, Prepared]) -> Schedule:
        """The same with some problems computed as others have chosen."""
        costs = [
            cost_of(chosen[step.problem].plan) if isinstance(step.problem, Problem) and step.problem in chosen else c
            for step, c in zip(self.steps, self.costs, strict=True)
        ]
        return replace(self, costs=tuple(costs))

    @property
    def output(self) -> str:
        """The value in whose memory the result lies."""
        return self.alias[self.graph.output]

    @property
    def seconds(self) -> float:
        """The predicted time of all steps that are native."""
        return _seconds(self.costs, self.team)

    def alone(self, i: int) -> bool:
        """Whether a step is done by one thread."""
        c = self.costs[i]
        return c is None or not c.pays(self.team)

    def meets(self, i: int) -> bool:
        """Whether all threads wait for one another behind a step.

        Not between two steps of the first thread, and not where the next step reads nothing that was just written.
        """
        if i + 1 == len(self.steps) or self.steps[i + 1].problem is None:
            return False  # the call's end is one
        return not (self.alone(i) and self.alone(i + 1))

    def __str__(self) -> str:
        return told(self, None)


def schedule(graph: Graph, batch: int, layout: str = "nhwc", threads: int = 1, fuse: bool = True) -> Schedule:
    """Plans a net for batches of so many images on at most so many threads; a pure function.

    layout: how the images lie in memory, "nhwc" or "nchw". fuse: whether nodes may become one step. Raises InputError
    where the graph does not fit together.
    """
    # Fusions are judged for all cores, however many threads there are: with them algorithms, and so bits, may change.
    steps, alias = lower(graph, batch, layout, host().cores, fuse)
    costs = tuple(None if step.problem is None else cost(step.problem) for step in steps)
    team = team_for(costs, threads)
    sizes = dict(result_sizes(graph))
    for step in steps:
        sizes.setdefault(step.writes, sizes[step.node.inputs[0]])
    output = alias[graph.output]
    if output == graph.input:  # a net that does nothing
        sizes[output] = graph.input_shape
    lives = _lives(steps, alias, sizes, batch, {graph.input, output})
    starts, arena = first_fit(lives)
    separate = sum(life.size for life in lives.values())
    return Schedule(graph, batch, layout, team, tuple(steps), costs, sizes, alias, starts, arena, separate)


def team_for(costs: Sequence[Cost | None], most: int) -> int:
    """How many threads pay: more are taken only for a gain that also a busy machine leaves something of."""
    best = 1
    for team in range(2, most + 1):
        if _seconds(costs, team) < _GAIN * _seconds(costs, best):
            best = team
    return best


def _seconds(costs: Sequence[Cost | None], team: int) -> float:
    """By a team: each step by all of it where that pays."""
    total = LAUNCH if team > 1 else 0.0
    for c in costs:
        if c is not None:
            total += c.by_all(team) + MEET if c.pays(team) else c.seconds
    return total


def _lives(
    steps: list[Step], alias: Mapping[str, str], sizes: Mapping[str, Size], batch: int, outside: set[str]
) -> dict[str, Life]:
    lives: dict[str, Life] = {}
    for i, step in enumerate(steps):
        for name in (step.writes, *step.reads):
            if name not in outside:
                first = lives[name].first if name in lives else i
                lives[name] = Life(4 * batch * prod(sizes[name]), first, i)
    return lives
