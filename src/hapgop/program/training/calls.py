"""A planned training step ready to run: kernels loaded, and one native call for each direction."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence as Several
from threading import Lock

from hapgop.engine import Block, Call, Outside, Runnable, Sequence, prepare_many
from hapgop.program.training.plan import Half, TrainingPlan

_TABLES = 4  # arenas that are known at a time: one, but for callers who go forward several times before going back


class TrainingCalls:
    """Both directions of a step. Whoever calls brings an arena of `plan.arena` bytes, which holds between the two what
    the way back needs, and the addresses of `plan.forward.outside` or `plan.backward.outside`.

    Safe to call from several threads; they take turns.
    """

    def __init__(self, plan: TrainingPlan) -> None:
        self.plan = plan
        tasks = [task for half in (plan.forward, plan.backward) for task in half.tasks]
        self._runnables = prepare_many(task.problem for task in tasks)
        bare = [call for calls in self._calls(0) for call in calls]
        self._scratch = Block(max(Sequence.scratch_bytes(bare, plan.team), 1))
        self._known: OrderedDict[int, tuple[Sequence, Sequence]] = OrderedDict()
        self._lock = Lock()

    @property
    def runnables(self) -> list[Runnable]:
        """What is called, forward and then back."""
        return self._runnables

    def forward(self, arena: int, outside: Several[int]) -> None:
        """Computes the result."""
        with self._lock:
            self._at(arena)[0](*outside)

    def backward(self, arena: int, outside: Several[int]) -> None:
        """Computes the derivatives, from what the forward call left in this arena."""
        with self._lock:
            self._at(arena)[1](*outside)

    def seconds(
        self, arena: int, forward: Several[int], backward: Several[int], repeats: int = 5
    ) -> tuple[float, ...] | None:
        """Each call's time within a step, forward and then back, the least of some; None where no clock can be read.

        Both directions are called that often, so that running statistics move and derivatives are of no use.
        """
        with self._lock:
            halves = zip(self._at(arena), (forward, backward), strict=True)
            times = [sequence.seconds(*outside, repeats=repeats) for sequence, outside in halves]
        known = [seconds for half in times if half is not None for seconds in half]
        return None if None in times else tuple(known)

    def _at(self, arena: int) -> tuple[Sequence, Sequence]:
        """The calls on the arena at this address."""
        known = self._known.get(arena)
        if known is None:
            forward, backward = (Sequence(calls, self.plan.team, self._scratch.address) for calls in self._calls(arena))
            known = self._known[arena] = forward, backward
            if len(self._known) > _TABLES:
                self._known.popitem(last=False)
        return known

    def _calls(self, arena: int) -> tuple[list[Call], list[Call]]:
        plan = self.plan
        count = len(plan.forward.tasks)
        forward, backward = self._runnables[:count], self._runnables[count:]
        return self._half(plan.forward, forward, arena), self._half(plan.backward, backward, arena)

    def _half(self, half: Half, runnables: list[Runnable], arena: int) -> list[Call]:
        plan, numbers = self.plan, {place: number for number, place in enumerate(half.outside)}
        calls = []
        for i, (task, runnable) in enumerate(zip(half.tasks, runnables, strict=True)):
            pointers: list[int | Outside] = []
            for spot in task.tensors:
                if spot is None:
                    pointers.append(0)
                elif spot.place in numbers:
                    pointers.append(Outside(numbers[spot.place], 4 * spot.offset))
                else:
                    pointers.append(arena + plan.starts[spot.place] + 4 * spot.offset)
            calls.append(Call(runnable, tuple(pointers), half.alone(i, plan.team), half.meets(i, plan.team)))
        return calls
