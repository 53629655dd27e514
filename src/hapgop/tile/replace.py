"""A kernel with other buffers: the same statements, on memory of another kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from hapgop.tile.program import (
    At,
    Broadcast,
    Buffer,
    Kernel,
    Load,
    Loop,
    Prefetch,
    Rounds,
    Stage,
    Statement,
    Store,
)


def with_buffers(kernel: Kernel, instead: Mapping[Buffer, Buffer]) -> Kernel:
    """The kernel with each access to a buffer of `instead` made to the one that it is mapped to.

    Only accesses change: the kernel's list of buffers has these in the same places, and what is new has to be added.
    """

    def at(place: At) -> At:
        return At(instead.get(place.buffer, place.buffer), place.index)

    def statement(s: Statement) -> Statement:
        if isinstance(s, Loop):
            return replace(s, body=tuple(map(statement, s.body)))
        return replace(s, at=at(s.at)) if isinstance(s, Load | Store | Broadcast | Prefetch) else s

    def stage(s: Stage) -> Stage:
        return replace(s, body=tuple(map(statement, s.body)))

    steps = tuple(
        replace(step, stages=tuple(map(stage, step.stages))) if isinstance(step, Rounds) else stage(step)
        for step in kernel.steps
    )
    return replace(kernel, buffers=tuple(instead.get(b, b) for b in kernel.buffers), steps=steps)
