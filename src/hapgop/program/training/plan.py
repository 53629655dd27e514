"""A training step planned for one batch size: its calls, the threads for them, and a place in memory for each value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hapgop.program.arena import Life, first_fit
from hapgop.program.graph import Graph
from hapgop.program.schedule import team_for
from hapgop.program.sizes import Size, result_sizes
from hapgop.program.steps import Cost, cost
from hapgop.program.training.nodes import Setting, record
from hapgop.program.training.tape import Place, Task

_BYTES = 4


@dataclass(frozen=True)
class Half:
    """The calls of one direction, with their costs, and the places that the caller brings, in their order."""

    tasks: tuple[Task, ...]
    costs: tuple[Cost, ...]
    outside: tuple[Place, ...]

    def alone(self, i: int, team: int) -> bool:
        """Whether a call is made by one thread."""
        return not self.costs[i].pays(team)

    def meets(self, i: int, team: int) -> bool:
        """Whether all threads wait for one another behind a call."""
        return i + 1 < len(self.tasks) and not (self.alone(i, team) and self.alone(i + 1, team))


@dataclass(frozen=True)
class TrainingPlan:
    """forward, backward: the calls of a step. team: threads that work together. elements: the numbers in each place.
    starts: where in the arena those begin that nobody brings, in bytes; arena: its bytes. images and result are what
    goes in and what comes out, `gradient` is the loss by the result, `by_images` that by the images, if it is wanted.
    size: of the result for one image. pairs: the biases of batch norms by their weights, whose derivatives are one.
    dropped: for each place in the arena that the caller draws the share of zeros; the others are one over what is left.
    """

    forward: Half
    backward: Half
    team: int
    elements: Mapping[Place, int]
    starts: Mapping[Place, int]
    arena: int
    images: Place
    result: Place
    gradient: Place
    by_images: Place | None
    size: Size
    pairs: Mapping[str, str]
    dropped: Mapping[Place, float]


def plan_training(graph: Graph, setting: Setting, threads: int) -> TrainingPlan:
    """Plans a training step on at most so many threads. Raises Refused where a node has no way back in one call."""
    tape, result = record(graph, setting)
    images, gradient = Place("value", graph.input), Place("gradient", result.name)
    by_images = tape.sent_to(images) if setting.by_images else None
    ends = {images, result, gradient, by_images}

    def brought(place: Place) -> bool:
        return place in ends or place.kind in ("tensor", "derivative")

    halves, lives = [], dict[Place, Life]()
    number = 0
    for tasks in (tape.forward, tape.backward):
        outside: dict[Place, None] = {}
        for task in tasks:
            for place in dict.fromkeys(spot.place for spot in task.tensors if spot is not None):
                if brought(place):
                    outside[place] = None
                else:
                    # What is drawn is there before the first call.
                    first = lives[place].first if place in lives else number * (place.kind != "drawn")
                    lives[place] = Life(_BYTES * tape.elements[place], first, number)
            number += 1
        halves.append(Half(tuple(tasks), tuple(cost(task.problem) for task in tasks), tuple(outside)))
    starts, arena = first_fit(lives)
    team = team_for([c for half in halves for c in half.costs], threads)
    forward, backward = halves
    dropped = {node.name: node.attrs["p"] for node in graph.nodes if node.op == "dropout" and node.attrs["p"]}
    return TrainingPlan(
        forward, backward, team, tape.elements, starts, arena, images, result, gradient, by_images,
        result_sizes(graph)[graph.output],
        {node.params["weight"]: node.params["bias"] for node in graph.nodes if node.op == "batch_norm2d"},
        {Place("drawn", name): share for name, share in dropped.items()},
    )  # fmt: skip
