"""A planned net ready to run: kernels loaded, weights packed, memory laid out."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hapgop.algorithms import Problem
from hapgop.engine import (
    Block,
    Call,
    Outside,
    Prepared,
    Runnable,
    Sequence,
    address,
    empty,
    prepare_many,
    rounded,
)
from hapgop.program.running import compute
from hapgop.program.schedule import Schedule
from hapgop.program.sizes import Size
from hapgop.program.steps import Step
from hapgop.program.weights import Weights

Array = NDArray[np.float32]
_FLOAT = np.dtype(np.float32)
_IMAGES, _RESULT = Outside(0), Outside(1)


class Ready:
    """A schedule with all that its calls need. Calls from several threads at once get an arena each."""

    def __init__(
        self,
        plan: Schedule,
        weights: Weights,
        tensors: Mapping[str, NDArray[Any]],
        chosen: Mapping[Problem, Prepared] | None = None,
    ) -> None:
        """chosen: of some problems how they are computed; of the others the engine's choice."""
        own = chosen or {}
        self.plan, self._tensors = plan.by(own), tensors
        problems = {i: p for i, step in enumerate(plan.steps) if (p := step.problem) is not None}
        native = list(problems)
        rest = {i: p for i, p in problems.items() if p not in own}
        made: dict[int, Runnable] = dict(zip(rest, prepare_many(rest.values()), strict=True))
        self._runnables = {i: own[p] if isinstance(p, Problem) and p in own else made[i] for i, p in problems.items()}
        sums = [(i, r) for i, r in self._runnables.items() if isinstance(r, Prepared) and r.plan.problem.packed]
        packed = weights.packed([(plan.steps[i], r) for i, r in sums])
        self._packed = {i: array for (i, _), array in zip(sums, packed, strict=True)}
        self._others = {i: weights.others(plan.steps[i]) for i in native}
        self._shape = (plan.batch, *plan.sizes[plan.graph.output])
        self._idle: list[_Instance] = [self._instance()]

    def __call__(self, x: Array) -> Array:
        """The result for a batch of the planned size, dense in the planned memory order."""
        y = self._result()
        instance = self._take()
        try:
            instance.run(x, y)
        finally:
            self._idle.append(instance)
        return y

    def seconds(self, x: Array, repeats: int) -> tuple[float | None, ...] | None:
        """Each step's time within the call; None for what is not known."""
        instance = self._take()
        try:
            return instance.seconds(x, self._result(), repeats)
        finally:
            self._idle.append(instance)

    @property
    def weight_bytes(self) -> int:
        """Of the packed weights."""
        return sum(array.nbytes for array in self._packed.values())

    def _take(self) -> _Instance:
        try:
            return self._idle.pop()
        except IndexError:
            return self._instance()

    def _result(self) -> Array:
        if len(self._shape) < 4:
            return empty(self._shape, _FLOAT)
        n, c, h, w = self._shape
        return empty((n, h, w, c), _FLOAT).transpose(0, 3, 1, 2)

    def _instance(self) -> _Instance:
        return _Instance(self.plan, self._runnables, self._pointers, self._tensors)

    def _pointers(self, i: int, base: int) -> tuple[int | Outside, ...]:
        """The addresses of a step's tensors, in its kernel's order, with the arena at `base`."""
        plan, step = self.plan, self.plan.steps[i]

        def value(name: str, offset: int = 0) -> int | Outside:
            if name in plan.starts:
                return base + plan.starts[name] + offset
            outside = _IMAGES if name == plan.graph.input else _RESULT
            return Outside(outside.number, offset)

        x, *rest = [value(name) for name in step.reads]
        y = value(step.writes, 4 * step.offset)
        others = [address(array) for array in self._others[i]]
        problem = step.problem
        if not isinstance(problem, Problem):
            return (x, *rest, *others, y)
        if problem.op == "conv":
            return (x, self._packed[i].ctypes.data, *(others or [0]), y, *rest, *([0] * problem.pooled))
        if problem.op == "grad_x":
            return (x, self._packed[i].ctypes.data, *others, y)
        return (x, y, 0) if problem.op == "max_pool" else (x, y)


class _Instance:
    """One arena with the tables that point into it: what one call at a time uses."""

    def __init__(
        self, plan: Schedule, runnables: Mapping[int, Runnable], pointers: Any, tensors: Mapping[str, NDArray[Any]]
    ) -> None:
        self._plan, self._tensors = plan, tensors
        groups = [(native, list(steps)) for native, steps in groupby(range(len(plan.steps)), runnables.__contains__)]

        def calls(steps: list[int], base: int) -> list[Call]:
            return [Call(runnables[i], pointers(i, base), plan.alone(i), plan.meets(i)) for i in steps]

        arena = rounded(plan.arena)
        scratch = max((Sequence.scratch_bytes(calls(s, 0), plan.team) for n, s in groups if n), default=0)
        self._block = Block(max(arena + scratch, 1))
        base = self._block.address
        self._parts = [
            (steps, Sequence(calls(steps, base), plan.team, base + arena) if native else None)
            for native, steps in groups
        ]
        # The usual case: nothing but one native call.
        self._whole = self._parts[0][1] if len(self._parts) == 1 else None

    def run(self, x: Array, y: Array) -> None:
        if self._whole is not None:
            self._whole(address(x), address(y))
            return
        if not self._parts:
            y[...] = x.reshape(y.shape)
        for steps, sequence in self._parts:
            if sequence is not None:
                sequence(address(x), address(y))
            else:
                for i in steps:
                    self._in_python(self._plan.steps[i], x, y)

    def seconds(self, x: Array, y: Array, repeats: int) -> tuple[float | None, ...] | None:
        found: list[float | None] = []
        for steps, sequence in self._parts:
            times = None if sequence is None else sequence.seconds(address(x), address(y), repeats=repeats)
            found += [None] * len(steps) if times is None else times
            if sequence is None:
                for i in steps:
                    self._in_python(self._plan.steps[i], x, y)
        return tuple(found)

    def _in_python(self, step: Step, x: Array, y: Array) -> None:
        node = step.node
        given = [self._view(name, self._plan.sizes[name], x, y) for name in node.inputs]
        result = self._view(step.writes, self._plan.sizes[node.name], x, y)
        result[...] = compute(node, given, self._tensors)

    def _view(self, name: str, size: Size, x: Array, y: Array) -> Array:
        """A value as an array (n, c, h, w) or (n, k)."""
        plan = self._plan
        place = plan.alias[name]
        if place == plan.graph.input:
            return x.reshape(plan.batch, *size)
        if place == plan.output:
            # Where a flatten behind the value gives it but another name, the result has that one's shape.
            return y.reshape(plan.batch, *size)
        start = self._block.offset + plan.starts[place]
        flat = np.frombuffer(self._block.memory, np.float32, plan.batch * prod(size), start)
        if len(size) < 3:
            return flat.reshape(plan.batch, *size)
        c, h, w = size
        return flat.reshape(plan.batch, h, w, c).transpose(0, 3, 1, 2)
