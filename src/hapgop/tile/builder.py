"""Writes tile programs: Python runs once, at build time, and leaves the statements behind.

>>> k = Builder("double", "float32", lanes=4)
>>> x, y = k.buffer("x", 8, "in"), k.buffer("y", 8, "out")
>>> with k.stage("all", ("block", 2)) as (block,):
...     v = k.load(x, block * 4)
...     k.store(k.add(v, v), y, block * 4)
>>> k.kernel().stages[0].name
'all'
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from hapgop.tile.index import Affine, Index, Size, Var
from hapgop.tile.program import (
    At,
    Binary,
    BinaryOp,
    Broadcast,
    Buffer,
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
    Prefetch,
    Range,
    Register,
    Role,
    Rounds,
    Select,
    Sqrt,
    Stage,
    Statement,
    Store,
    Transpose,
)

Bound = Index | Sequence[Index]


def _bounds(bound: Bound) -> tuple[Affine, ...]:
    return tuple(map(Affine.of, bound)) if isinstance(bound, Sequence) else (Affine.of(bound),)


class Builder:
    """Collects the statements of one kernel; `kernel()` freezes them."""

    def __init__(self, name: str, dtype: str, lanes: int) -> None:
        self.name, self.dtype, self.lanes = name, dtype, lanes
        self._buffers: list[Buffer] = []
        self._sizes: list[Size] = []
        self._steps: list[Stage | Rounds] = []
        self._around = 0
        self._body: list[Statement] = []
        self._registers = 0
        self._variables = 0
        self._depth = 0

    # What is passed

    def buffer(
        self, name: str, size: Index, role: Role, narrow: bool = False, octets: bool = False, whole: bool = False
    ) -> Buffer:
        """Declares a buffer of `size` elements; buffers are passed in the order of their declaration."""
        self._buffers.append(Buffer(name, Affine.of(size), role, narrow, octets, whole))
        return self._buffers[-1]

    def size(self, name: str, low: int = 1, high: int = 2**31) -> Affine:
        """Declares an integer that is passed with each call."""
        self._sizes.append(Size(name, low, high))
        return Affine.of(self._sizes[-1])

    # What is done

    @contextmanager
    def stage(
        self, name: str, *grid: tuple[str, Index], repeat: Sequence[tuple[str, Bound, Bound, int]] = (),
        descending: bool = False,
    ) -> Iterator[tuple[Affine, ...]]:  # fmt: skip
        """A grid of independent items; yields its variables (those of `repeat`, which are outermost, first)."""
        around = tuple(
            Range(self._variable(label), _bounds(low), _bounds(high), step) for label, low, high, step in repeat
        )
        pairs = tuple((self._variable(label), Affine.of(extent)) for label, extent in grid)
        outer, self._body = self._body, []
        yield tuple(Affine.of(v) for v in [*(r.var for r in around), *(v for v, _ in pairs)])
        self._steps.append(Stage(name, pairs, tuple(self._body), around, descending))
        self._body = outer
        self._depth = self._around

    @contextmanager
    def rounds(self, label: str, low: Bound, high: Bound, step: int = 1) -> Iterator[Affine]:
        """The stages inside, for label in range(max(low), min(high), step); not nested."""
        var = self._variable(label)
        self._around = self._depth
        outer, self._steps = self._steps, []
        yield Affine.of(var)
        stages = tuple(s for s in self._steps if isinstance(s, Stage))
        outer.append(Rounds(Range(var, _bounds(low), _bounds(high), step), stages))
        self._steps, self._around, self._depth = outer, 0, 0

    @contextmanager
    def loop(self, label: str, low: Bound, high: Bound, step: int = 1) -> Iterator[Affine]:
        """for label in range(max(low), min(high), step); a bound may be several expressions."""
        var = self._variable(label)
        outer, self._body = self._body, []
        yield Affine.of(var)
        outer.append(Loop(Range(var, _bounds(low), _bounds(high), step), tuple(self._body)))
        self._body = outer
        self._depth -= 1

    @contextmanager
    def indirect(self, label: str, buffer: Buffer, index: Index, last: int) -> Iterator[Affine]:
        """label = the number, from 0 to last, that lies in a whole buffer."""
        var = self._variable(label)
        outer, self._body = self._body, []
        yield Affine.of(var)
        outer.append(Indirect(var, At(buffer, Affine.of(index)), last, tuple(self._body)))
        self._body = outer
        self._depth -= 1

    def const(self, value: float) -> Register:
        return self._emit(Const(self._new(), float(value)))

    def from_index(self, index: Index) -> Register:
        return self._emit(FromIndex(self._new(), Affine.of(index)))

    def load(
        self,
        buffer: Buffer,
        index: Index,
        count: int | None = None,
        stride: int = 1,
        where: Sequence[Coordinate] = (),
        pairs: bool = False,
    ) -> Register:
        at = At(buffer, Affine.of(index))
        return self._emit(Load(self._new(), at, self.lanes if count is None else count, stride, tuple(where), pairs))

    def broadcast(self, buffer: Buffer, index: Index, pairs: bool = False) -> Register:
        return self._emit(Broadcast(self._new(), At(buffer, Affine.of(index)), pairs))

    def store(
        self,
        src: Register,
        buffer: Buffer,
        index: Index,
        count: int | None = None,
        stride: int = 1,
        streaming: bool = False,
        where: Sequence[Coordinate] = (),
    ) -> None:
        at = At(buffer, Affine.of(index))
        self._body.append(Store(src, at, self.lanes if count is None else count, stride, streaming, tuple(where)))

    def add(self, a: Register, b: Register, into: Register | None = None) -> Register:
        return self._binary("add", a, b, into)

    def sub(self, a: Register, b: Register, into: Register | None = None) -> Register:
        return self._binary("sub", a, b, into)

    def mul(self, a: Register, b: Register, into: Register | None = None) -> Register:
        return self._binary("mul", a, b, into)

    def div(self, a: Register, b: Register, into: Register | None = None) -> Register:
        return self._binary("div", a, b, into)

    def max(self, a: Register, b: Register, into: Register | None = None) -> Register:
        return self._binary("max", a, b, into)

    def min(self, a: Register, b: Register, into: Register | None = None) -> Register:
        return self._binary("min", a, b, into)

    def fma(self, a: Register, b: Register, c: Register, into: Register | None = None) -> Register:
        """into = a * b + c; accumulate with `k.fma(a, b, acc, into=acc)`."""
        return self._emit(Fma(self._new() if into is None else into, a, b, c))

    def sqrt(self, a: Register) -> Register:
        return self._emit(Sqrt(self._new(), a))

    def pair(self, a: Register, b: Register) -> Register:
        return self._emit(Pair(self._new(), a, b))

    def dot(self, a: Register, b: Register, c: Register, into: Register | None = None) -> Register:
        """into = c + the products of pairs; accumulate with `k.dot(a, b, acc, into=acc)`."""
        return self._emit(Dot(self._new() if into is None else into, a, b, c))

    def select(
        self, test: str, a: Register, b: Register, x: Register, y: Register, into: Register | None = None
    ) -> Register:
        if test not in ("above", "equal"):
            raise ValueError(f"test is {test!r}; it has to be 'above' or 'equal'")
        dst = self._new() if into is None else into
        return self._emit(Select("above" if test == "above" else "equal", dst, a, b, x, y))

    def permute(self, src: Register, order: Sequence[int]) -> Register:
        """Lane i is lane order[i] of src."""
        return self._emit(Permute(self._new(), src, tuple(order)))

    def transpose(self, src: Sequence[Register]) -> list[Register]:
        """Rows to columns, of as many registers as there are lanes; fewer are filled up with zeros."""
        missing = self.lanes - len(src)
        rows = [*src, *([self.const(0.0)] * missing if missing else [])]
        dst = tuple(self._new() for _ in rows)
        self._body.append(Transpose(dst, tuple(rows)))
        return list(dst)

    def prefetch(self, buffer: Buffer, index: Index) -> None:
        self._body.append(Prefetch(At(buffer, Affine.of(index))))

    def kernel(self) -> Kernel:
        """The finished program."""
        return Kernel(self.name, self.dtype, self.lanes, tuple(self._buffers), tuple(self._sizes), tuple(self._steps))

    def _binary(self, op: BinaryOp, a: Register, b: Register, into: Register | None) -> Register:
        return self._emit(Binary(op, self._new() if into is None else into, a, b))

    def _emit(
        self, statement: Const | FromIndex | Load | Broadcast | Binary | Fma | Sqrt | Pair | Dot | Select | Permute
    ) -> Register:
        self._body.append(statement)
        return statement.dst

    def _new(self) -> Register:
        self._registers += 1
        return self._registers - 1

    def _variable(self, label: str) -> Var:
        self._variables += 1
        self._depth += 1
        return Var(f"{label}.{self._variables}", self._depth)
