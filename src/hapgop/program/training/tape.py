"""What a training step consists of: calls of kernels forward, and, from a tape that is read backwards, calls back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem

Kind = Literal["value", "gradient", "winners", "statistics", "tensor", "derivative", "drawn", "between"]


class Place(NamedTuple):
    """A piece of memory.

    kind  value, winners, statistics: what the node `name` made; gradient: the loss by that value
          tensor, derivative: the tensor of that name in the state dict, and the loss by it; of a batch norm, the
          derivative of the weight is followed by that of the bias
          drawn: by what the values of dropout are multiplied, which the caller draws
          between: read by the next call, or by nobody, where a kernel writes more than is wanted
    """

    kind: Kind
    name: str


class Spot(NamedTuple):
    """Where in a place a kernel's tensor begins, in numbers."""

    place: Place
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Task:
    """A kernel's call for a node: its tensors in the order in which it takes their addresses; None: not there."""

    node: str
    problem: Problem | MapProblem
    tensors: tuple[Spot | None, ...]


class _Gradient(NamedTuple):
    place: Place
    own: bool  # made for this value alone: what comes from another side may be added in place


class Tape:
    """Records a step. Each value's gradient is the sum of what its readers send back.

    learned: the tensors whose derivative is wanted.
    """

    def __init__(self, learned: frozenset[str]) -> None:
        self.learned = learned
        self.node = ""
        """For whom calls are recorded."""
        self.forward: list[Task] = []
        self.backward: list[Task] = []
        self.elements: dict[Place, int] = {}
        self._steps_back: list[Callable[[], None]] = []
        self._gradients: dict[Place, _Gradient] = {}
        self._recording = self.forward
        self._wanted: set[Place] = set()
        self._count = 0

    # Forward

    def new(self, kind: Kind, name: str, elements: int) -> Place:
        """A place for so many numbers."""
        place = Place(kind, name)
        assert self.elements.get(place, elements) == elements, "two values would share it"
        self.elements[place] = elements
        return place

    def between(self, elements: int) -> Place:
        """A place for what only the next call reads, if anyone."""
        self._count += 1
        return self.new("between", str(self._count), elements)

    def call(self, problem: Problem | MapProblem, *tensors: Place | Spot | None) -> None:
        """Records a call in the direction that is being recorded."""
        spots = tuple(Spot(t) if isinstance(t, Place) else t for t in tensors)
        self._recording.append(Task(self.node, problem, spots))

    def want(self, place: Place) -> None:
        """The gradient of this value is wanted."""
        self._wanted.add(place)

    def wants(self, place: Place) -> bool:
        """Whether the gradient of this value is of any use."""
        return place in self._wanted

    def learns(self, *tensors: str | None) -> bool:
        """Whether the derivative by one of these is wanted."""
        return any(name in self.learned for name in tensors)

    def back(self, result: Place, step: Callable[[Place], None], *, of: bool) -> None:
        """`step` is to be called with the result's gradient; `of`: whether anything that it computes is wanted."""
        if not of:
            return
        self.want(result)
        node = self.node

        def take() -> None:
            gradient = self._gradients.get(result)
            self.node = node
            if gradient is not None:
                step(gradient.place)

        self._steps_back.append(take)

    # Back

    def rewind(self, result: Place) -> None:
        """Records the way back from the net's result."""
        self._recording = self.backward
        self._gradients[result] = _Gradient(self.new("gradient", result.name, self.elements[result]), own=False)
        for step in reversed(self._steps_back):
            step()

    def sent_to(self, value: Place) -> Place | None:
        """Where the value's gradient is in the end."""
        found = self._gradients.get(value)
        return None if found is None else found.place

    def gradient_for(self, value: Place) -> Place:
        """A place for what a reader of the value sends back, of its size; to be handed to `send`."""
        self._count += value in self._gradients
        # No node is called so: a second call of a module is "relu:2".
        name = value.name if value not in self._gradients else f"{value.name}/{self._count}"
        return self.new("gradient", name, self.elements[value])

    def send(self, value: Place, gradient: Place, *, own: bool = True) -> None:
        """One of the value's readers sends this back; `own`: nobody else will read it."""
        if not self.wants(value):
            return
        before = self._gradients.get(value)
        if before is None:
            self._gradients[value] = _Gradient(gradient, own)
            return
        a, b = (before, gradient) if before.own or not own else (_Gradient(gradient, own), before.place)
        total = a.place if a.own else self.new("gradient", f"{value.name}:sum", self.elements[value])
        self.call(MapProblem("add", 1, 1, self.elements[value]), a.place, b, total)
        self._gradients[value] = _Gradient(total, own=True)
