"""Refuses a tile program that could touch memory it does not own, before LLVM sees it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from hapgop.tile.bounds import Ranges
from hapgop.tile.index import Affine, Atom, Quotient, Var
from hapgop.tile.program import (
    At,
    Binary,
    Broadcast,
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
    Rounds,
    Select,
    Sqrt,
    Stage,
    Statement,
    Store,
    Transpose,
)

_INNERMOST = 1000  # deeper than any loop


class TileError(ValueError):
    """A tile program that is refused, with the statement and the reason."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What the checker found: the most registers that are alive at once, in any stage."""

    registers: int


def check(kernel: Kernel, registers: int | None = None) -> Checked:
    """Proves a kernel safe: every access inside its buffer, every register written before it is read.

    registers: how many vector registers there are; more than that alive at once is an error, since LLVM would spill.
    Raises TileError.
    """
    for buffer in kernel.buffers:
        if buffer.narrow and (kernel.dtype != "float32" or buffer.role not in ("in", "out")):
            raise TileError(f"{kernel.name}: {buffer.name} is narrow; only what float32 kernels are given can be")
        if buffer.octets and (kernel.dtype != "float32" or buffer.role != "in" or buffer.narrow):
            raise TileError(f"{kernel.name}: {buffer.name} has octets; only what float32 kernels read can")
        if buffer.whole and (buffer.role not in ("scratch", "private") or buffer.narrow or buffer.octets):
            raise TileError(f"{kernel.name}: {buffer.name} is whole; only a kernel's own memory can be")
    names = [b.name for b in kernel.buffers] + [s.name for s in kernel.sizes]
    if len(set(names)) != len(names):
        raise TileError(f"{kernel.name}: two buffers or sizes share a name: {names}")
    most = 0
    for stage, rounds in _stages(kernel):
        where = f"{kernel.name}, stage {stage.name}"
        try:
            _Access(kernel).stage(stage, rounds)
            pressure = _Pressure().measure(stage.body)
        except (TileError, KeyError) as error:
            raise TileError(f"{where}: {error.args[0]}") from None
        most = max(most, pressure)
        if registers is not None and pressure > registers:
            raise TileError(f"{where}: {pressure} vectors are alive at once, but there are {registers} registers")
    return Checked(most)


def _stages(kernel: Kernel) -> Iterator[tuple[Stage, Range | None]]:
    """Every stage, with the range of the rounds around it."""
    for step in kernel.steps:
        if isinstance(step, Rounds):
            yield from ((stage, step.range) for stage in step.stages)
        else:
            yield step, None


def reads(s: Statement) -> tuple[Register, ...]:
    """The registers that a statement reads."""
    match s:
        case Store():
            return (s.src,)
        case Binary():
            return (s.a, s.b)
        case Fma() | Dot():
            return (s.a, s.b, s.c)
        case Pair():
            return (s.a, s.b)
        case Select():
            return (s.a, s.b, s.x, s.y)
        case Permute() | Sqrt():
            return (s.src,)
        case Transpose():
            return s.src
    return ()


def writes(s: Statement) -> tuple[Register, ...]:
    """The registers that a statement writes."""
    match s:
        case Store() | Prefetch() | Loop() | Indirect():
            return ()
        case Transpose():
            return s.dst
    return (s.dst,)


@dataclass(slots=True)
class _Span:
    """All accesses to one buffer that differ by a constant: only the first and the last need a proof."""

    first: int
    last: int
    at: At


class _Access:
    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.ranges = Ranges()
        self.scope: set[Atom] = set(kernel.sizes)

    def stage(self, stage: Stage, rounds: Range | None = None) -> None:
        if rounds is not None:
            self.enter(rounds)
        for around in stage.repeat:
            self.enter(around)
        for var, extent in stage.grid:
            self.enter(Range(var, (Affine(),), (extent,)))
        self.body(stage.body)

    def enter(self, r: Range) -> None:
        for bound in (*r.low, *r.high):
            self.visible(bound)
        self.ranges.enter(r.var, r.low, r.high, r.step)
        self.scope.add(r.var)

    def visible(self, e: Affine) -> None:
        """Raises TileError where an expression names a variable whose loop is not around it."""
        for atom in e.terms:
            if isinstance(atom, Quotient):
                self.visible(atom.numerator)
            elif atom not in self.scope:
                raise TileError(f"{atom.name} is used outside its loop")

    def body(self, statements: tuple[Statement, ...]) -> None:
        spans: dict[tuple[str, Affine], _Span] = {}
        for s in statements:
            if isinstance(s, Loop):
                r = s.range
                if r.step < 1:
                    raise TileError(f"loop {r.var.name} has step {r.step}")
                self.enter(r)
                self.body(s.body)
                self.scope.remove(r.var)
            elif isinstance(s, Indirect):
                self.visible(s.at.index)
                self.collect(s, spans)
                self.enter(Range(s.var, (Affine(),), (Affine(s.last + 1),)))
                self.body(s.body)
                self.scope.remove(s.var)
            elif isinstance(s, Load | Store | Broadcast):
                self.visible(s.at.index)
                self.collect(s, spans)
            elif isinstance(s, Prefetch):
                self.visible(s.at.index)
            elif isinstance(s, FromIndex):
                self.visible(s.index)
            elif isinstance(s, Permute):
                lanes = self.kernel.lanes
                if len(s.order) != lanes or not all(0 <= i < lanes for i in s.order):
                    raise TileError(f"permute in the order {s.order}, of {lanes} lanes")
            elif isinstance(s, Transpose) and not len(s.src) == len(s.dst) == self.kernel.lanes:
                raise TileError(f"transpose of {len(s.src)} registers to {len(s.dst)}, of {self.kernel.lanes} lanes")
        for span in spans.values():
            self.prove(span)

    def collect(self, s: Load | Store | Broadcast | Indirect, spans: dict[tuple[str, Affine], _Span]) -> None:
        at = s.at
        if isinstance(s, Store) and at.buffer.role == "in":
            raise TileError(f"store to {at.buffer.name}, which is an input")
        if not isinstance(s, Store) and at.buffer.role == "out":
            raise TileError(f"load from {at.buffer.name}, which is an output")
        if at.buffer.whole != isinstance(s, Indirect) and not isinstance(s, Store):
            raise TileError(f"{at.buffer.name}: whole numbers are found by Indirect, and nothing else is")
        reach = 0
        if isinstance(s, Load | Store):
            if not 1 <= s.count <= self.kernel.lanes or s.stride < 1:
                raise TileError(f"{s.count} lanes with stride {s.stride} of {at.buffer.name}")
            if s.where and s.stride > (2 if isinstance(s, Load) and s.pairs else 1):
                raise TileError(f"stride {s.stride} and a coordinate, of {at.buffer.name}: only neighbours have one")
            reach = (s.count - 1) * s.stride
        if isinstance(s, Load | Broadcast) and s.pairs:
            if not at.buffer.narrow:
                raise TileError(f"pairs of {at.buffer.name}, which is not narrow")
            reach += 1
        index = at.index
        if isinstance(s, Load | Store):
            index = self.placed(s)
            at = At(at.buffer, index)
        first, last = index.const, index.const + reach
        key = (at.buffer.name, Affine(0, index.terms))
        span = spans.get(key)
        if span is None:
            spans[key] = _Span(first, last, at)
        else:
            span.first, span.last = min(span.first, first), max(span.last, last)

    def placed(self, s: Load | Store) -> Affine:
        """The index of an access, with its coordinates as variables of which only their extents are known."""
        index = s.at.index
        for i, c in enumerate(s.where):
            self.visible(c.value)
            self.visible(c.extent)
            var = Var(f"coordinate {i} < {c.extent}", _INNERMOST + i)
            self.ranges.enter(var, (Affine(),), (c.extent,))
            index = index + Affine.of(var) * c.stride
        return index

    def prove(self, span: _Span) -> None:
        buffer, variable = span.at.buffer, Affine(0, span.at.index.terms)
        lowest = self.ranges.lower(variable) + span.first
        if lowest < 0:
            raise TileError(f"{buffer.name}[{variable + span.first}] may be as low as {float(lowest):g}")
        excess = self.ranges.upper(variable + span.last + 1 - buffer.size)
        if excess > 0:
            raise TileError(
                f"{buffer.name}[{variable + span.last}] may pass the end ({buffer.size}) by {float(excess):g}"
            )


@dataclass(slots=True)
class _Pressure:
    """Live ranges of registers over the program text; a register that a loop needs lives to the loop's end."""

    clock: int = 0
    born: dict[Register, int] = field(default_factory=dict)
    died: dict[Register, int] = field(default_factory=dict)
    ended: set[Register] = field(default_factory=set)

    def measure(self, body: tuple[Statement, ...]) -> int:
        self.walk(body)
        events = [(t, 1) for t in self.born.values()] + [(t, -1) for t in self.died.values()]
        alive = most = 0
        for _, change in sorted(events, key=lambda e: (e[0], e[1])):
            alive += change
            most = max(most, alive)
        return most

    def walk(self, body: tuple[Statement, ...]) -> None:
        for s in body:
            self.clock += 1
            if isinstance(s, Loop):
                start = self.clock
                self.walk(s.body)
                self.clock += 1
                for r, birth in self.born.items():
                    if birth < start < self.died[r]:
                        self.died[r] = self.clock
                    elif birth > start:
                        self.ended.add(r)  # the loop may be empty: outside, nothing it writes first is there
                continue
            if isinstance(s, Indirect):
                self.walk(s.body)
                continue
            for r in reads(s):
                if r not in self.born or r in self.ended:
                    raise TileError(f"register {r} is read before it is written, in {s}")
                self.died[r] = self.clock
            for dst in writes(s):
                self.born.setdefault(dst, self.clock)
                self.died[dst] = max(self.died.get(dst, 0), self.clock)
