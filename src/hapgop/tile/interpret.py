"""What a tile program means: a few lines of NumPy for each operation.

This is the reference for `native`. It is slow and meant for small programs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from hapgop.tile.bfloat16 import narrowed, paired, parts, widened
from hapgop.tile.index import Atom
from hapgop.tile.program import (
    At,
    Binary,
    Broadcast,
    Const,
    Coordinate,
    Dot,
    Fma,
    FromIndex,
    Indirect,
    Kernel,
    Load,
    Loop,
    Pair,
    Permute,
    Range,
    Rounds,
    Select,
    Sqrt,
    Stage,
    Statement,
    Store,
    Transpose,
)

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy.typing import NDArray

_BINARY = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "max": np.maximum,
    "min": np.minimum,
}


def interpret(kernel: Kernel, arrays: Mapping[str, NDArray[Any]], sizes: Mapping[str, int]) -> None:
    """Runs a kernel on flat arrays, one thread, items in order; scratch and private buffers are made here.

    arrays: by buffer name, of the kernel's dtype (of a narrow buffer the bits, as uint16; of octets, uint8); outputs
    are written in place. Scratch starts as NaN, so that reading what was never written shows.
    """
    values: dict[Atom, int] = {size: sizes[size.name] for size in kernel.sizes}
    memory = dict(arrays)
    for buffer in kernel.buffers:
        if buffer.role in ("scratch", "private"):
            start, kind = (-1, "int32") if buffer.whole else (np.nan, kernel.dtype)
            memory[buffer.name] = np.full(buffer.size.value(values), start, kind)
    with np.errstate(all="ignore"):
        run = _Run(kernel, memory, values)
        for step in kernel.steps:
            if isinstance(step, Rounds):
                for turn in run.range(step.range):
                    values[step.range.var] = turn
                    for stage in step.stages:
                        run.stage(stage)
            else:
                run.stage(step)


class _Run:
    def __init__(self, kernel: Kernel, memory: Mapping[str, NDArray[Any]], values: dict[Atom, int]) -> None:
        self.kernel, self.memory, self.values = kernel, memory, values
        self.registers: dict[int, NDArray[np.floating]] = {}

    def stage(self, stage: Stage, around: int = 0) -> None:
        if around == len(stage.repeat):
            self.grid(stage)
            return
        loop = stage.repeat[around]
        for value in self.range(loop):
            self.values[loop.var] = value
            self.stage(stage, around + 1)

    def grid(self, stage: Stage) -> None:
        items = list(np.ndindex(*(extent.value(self.values) for _, extent in stage.grid)))
        for position in reversed(items) if stage.descending else items:
            for (var, _), value in zip(stage.grid, position, strict=True):
                self.values[var] = value
            self.body(stage.body)

    def range(self, r: Range) -> range:
        return range(max(a.value(self.values) for a in r.low), min(a.value(self.values) for a in r.high), r.step)

    def body(self, statements: tuple[Statement, ...]) -> None:
        for statement in statements:
            if isinstance(statement, Loop):
                for value in self.range(statement.range):
                    self.values[statement.range.var] = value
                    self.body(statement.body)
            elif isinstance(statement, Indirect):
                array, part = self.lanes(statement.at, 1, 1)
                found = int(array[part][0])
                self.values[statement.var] = found if 0 <= found <= statement.last else statement.last
                self.body(statement.body)
            else:
                self.step(statement)

    def inside(self, where: tuple[Coordinate, ...]) -> bool:
        return all(0 <= c.value.value(self.values) < c.extent.value(self.values) for c in where)

    def lanes(self, at: At, count: int, stride: int, where: tuple[Coordinate, ...] = ()) -> tuple[NDArray[Any], slice]:
        start = at.index.value(self.values) + sum(c.value.value(self.values) * c.stride for c in where)
        last = start + (count - 1) * stride
        array = self.memory[at.buffer.name]
        if start < 0 or last >= array.size:
            raise IndexError(f"{at.buffer.name}[{start}..{last}] of {array.size}")
        return array, slice(start, last + 1, stride)

    def read(self, s: Load | Broadcast, array: NDArray[Any], part: slice) -> NDArray[Any]:
        if s.pairs:
            second = slice(part.start + 1, part.stop + 1, part.step)
            return paired(array[part], array[second])
        return widened(array[part]) if s.at.buffer.narrow else array[part]

    def step(self, s: Statement) -> None:
        r, width = self.registers, self.kernel.lanes
        match s:
            case Const():
                r[s.dst] = np.full(width, s.value, self.kernel.dtype)
            case FromIndex():
                r[s.dst] = np.full(width, s.index.value(self.values), self.kernel.dtype)
            case Load():
                r[s.dst] = np.zeros(width, self.kernel.dtype)
                if self.inside(s.where):
                    array, part = self.lanes(s.at, s.count, s.stride, s.where)
                    r[s.dst][: s.count] = self.read(s, array, part)
            case Broadcast():
                array, part = self.lanes(s.at, 1, 1)
                r[s.dst] = np.repeat(self.read(s, array, part), width)
            case Store():
                if self.inside(s.where):
                    array, part = self.lanes(s.at, s.count, s.stride, s.where)
                    values = r[s.src][: s.count]
                    if s.at.buffer.whole:
                        values = np.clip(np.nan_to_num(values), 0, 1 << 30)
                    array[part] = narrowed(values) if s.at.buffer.narrow else values
            case Binary():
                r[s.dst] = _BINARY[s.op](r[s.a], r[s.b])
            case Fma():
                # One rounding: the product of two float32 is exact in longdouble; for float64 it is nearly so.
                wide = r[s.a].astype(np.longdouble) * r[s.b] + r[s.c]
                r[s.dst] = wide.astype(self.kernel.dtype)
            case Sqrt():
                r[s.dst] = np.sqrt(r[s.src])
            case Pair():
                r[s.dst] = paired(narrowed(r[s.a]), narrowed(r[s.b]))
            case Dot():
                (a1, a2), (b1, b2) = parts(r[s.a]), parts(r[s.b])
                r[s.dst] = (r[s.c] + a2 * b2) + a1 * b1
            case Permute():
                r[s.dst] = r[s.src][list(s.order)]
            case Transpose():
                for dst, column in zip(s.dst, np.array([r[i] for i in s.src]).T, strict=True):
                    r[dst] = column.copy()
            case Select():
                a, b = r[s.a], r[s.b]
                test = (a > b) | np.isnan(a) if s.test == "above" else a == b
                r[s.dst] = np.where(test, r[s.x], r[s.y])
