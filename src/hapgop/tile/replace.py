"""A kernel on memory of another kind: the same statements, other accesses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from hapgop.tile.program import (
    At,
    Broadcast,
    Buffer,
    Coordinate,
    Dot,
    Fma,
    Indirect,
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

    def statement(s: Statement) -> Statement:
        if isinstance(s, Load | Store | Broadcast | Prefetch | Indirect):
            return replace(s, at=At(instead.get(s.at.buffer, s.at.buffer), s.at.index))
        return s

    return _changed(kernel, instead, statement)


def as_pairs(kernel: Kernel, instead: Mapping[Buffer, Buffer]) -> Kernel:
    """The kernel with what it reads of some buffers taken as pairs of numbers of a narrow one: see `Dot`.

    Each of its numbers becomes a pair, and each multiplication one of pairs.
    """

    def statement(s: Statement) -> Statement:
        if isinstance(s, Fma):
            return Dot(s.dst, s.a, s.b, s.c)
        if not isinstance(s, Load | Broadcast | Prefetch) or s.at.buffer not in instead:
            return s
        at = At(instead[s.at.buffer], s.at.index * 2)
        if isinstance(s, Load):
            where = tuple(Coordinate(c.value, c.extent, c.stride * 2) for c in s.where)
            return replace(s, at=at, stride=s.stride * 2, where=where, pairs=True)
        return Broadcast(s.dst, at, pairs=True) if isinstance(s, Broadcast) else Prefetch(at)

    return _changed(kernel, instead, statement)


def _changed(kernel: Kernel, instead: Mapping[Buffer, Buffer], change: Callable[[Statement], Statement]) -> Kernel:
    def statement(s: Statement) -> Statement:
        if isinstance(s, Loop | Indirect):
            s = replace(s, body=tuple(map(statement, s.body)))
        return s if isinstance(s, Loop) else change(s)

    def stage(s: Stage) -> Stage:
        return replace(s, body=tuple(map(statement, s.body)))

    steps = tuple(
        replace(step, stages=tuple(map(stage, step.stages))) if isinstance(step, Rounds) else stage(step)
        for step in kernel.steps
    )
    return replace(kernel, buffers=tuple(instead.get(b, b) for b in kernel.buffers), steps=steps)
