"""The operations of the tile language as LLVM IR, one method each; `tile.interpret` says what they mean."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from hapgop.tile import (
    Affine,
    Binary,
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
    Register,
    Select,
    Sqrt,
    Statement,
    Store,
    Transpose,
    writes,
)


class Context(Protocol):
    """What a statement needs of the function around it."""

    kernel: Kernel
    scalar: str
    vector: str
    itemsize: int
    fma: bool
    bf16: bool
    streaming: bool
    declared: set[str]
    lines: list[str]

    def fresh(self) -> str: ...
    def integer(self, e: Affine) -> str: ...
    def pointer(self, buffer: Buffer, index: Affine) -> str: ...
    def element(self, buffer: Buffer) -> str: ...
    def inside(self, where: tuple[Coordinate, ...]) -> str: ...


_DUMP = -1


def streamed(body: tuple[Statement, ...], lanes: int) -> set[Buffer]:
    """The buffers with a store that can go past the caches once they start at a whole vector."""
    found = set()
    for s in body:
        if isinstance(s, Loop | Indirect):
            found |= streamed(s.body, lanes)
        elif isinstance(s, Store) and _whole(s, lanes):
            found.add(s.at.buffer)
    return found


def _whole(s: Store, lanes: int) -> bool:
    """Whether a streaming store writes a whole vector at a multiple of its size: the only kind that CPUs have."""
    steps = (s.at.index.const, *s.at.index.terms.values())
    return (
        s.streaming and not s.where and s.count == lanes and s.stride == 1 and all(step % lanes == 0 for step in steps)
    )


def _written(body: tuple[Statement, ...]) -> Iterator[Register]:
    for s in body:
        if isinstance(s, Loop | Indirect):
            yield from _written(s.body)
        else:
            yield from writes(s)


class StatementWriter:
    """Writes statements into the context's lines.

    A register that is written once is an SSA value; one that is written again (an accumulator) is a stack slot, which
    LLVM's `sroa` turns into a register.
    """

    def __init__(self, context: Context, body: tuple[Statement, ...]) -> None:
        self.c = context
        self.slots = {r for r, times in Counter(_written(body)).items() if times > 1}
        self.allocations = [f"%slot{r} = alloca {context.vector}" for r in sorted(self.slots)]
        self.names: dict[Register, str] = {}
        self.suffix = f"v{context.kernel.lanes}f{8 * context.itemsize}"

    def write(self, s: Statement) -> None:
        match s:
            case Const():
                self.set(s.dst, self.splat_literal(s.value))
            case FromIndex():
                number = self.op(f"sitofp i64 {self.c.integer(s.index)} to {self.c.scalar}")
                self.set(s.dst, self.splat(number))
            case Load():
                self.load(s)
            case Broadcast():
                self.set(s.dst, self.splat(self.element(s.at.buffer, s.at.index, s.pairs)))
            case Store():
                self.store(s)
            case Binary():
                self.binary(s)
            case Fma():
                self.set(s.dst, self.fma(self.get(s.a), self.get(s.b), self.get(s.c)))
            case Sqrt():
                v, name = self.c.vector, f"@llvm.sqrt.{self.suffix}"
                self.c.declared.add(f"declare {v} {name}({v})")
                self.set(s.dst, self.op(f"call {v} {name}({v} {self.get(s.src)})"))
            case Select():
                self.select(s)
            case Pair():
                self.pair(s)
            case Dot():
                self.set(s.dst, self.dot(self.get(s.a), self.get(s.b), self.get(s.c)))
            case Permute():
                v, order = self.c.vector, ", ".join(f"i32 {i}" for i in s.order)
                mask = f"<{len(s.order)} x i32> <{order}>"
                self.set(s.dst, self.op(f"shufflevector {v} {self.get(s.src)}, {v} poison, {mask}"))
            case Transpose():
                self.transpose(s)
            case Prefetch():
                p = self.c.pointer(s.at.buffer, s.at.index)
                self.c.declared.add("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
                self.c.lines.append(f"call void @llvm.prefetch.p0(ptr {p}, i32 0, i32 3, i32 1)")

    # Registers

    def op(self, text: str) -> str:
        name = self.c.fresh()
        self.c.lines.append(f"{name} = {text}")
        return name

    def get(self, r: Register) -> str:
        return self.op(f"load {self.c.vector}, ptr %slot{r}") if r in self.slots else self.names[r]

    def set(self, r: Register, value: str) -> None:
        if r in self.slots:
            self.c.lines.append(f"store {self.c.vector} {value}, ptr %slot{r}")
        else:
            self.names[r] = value

    def literal(self, value: float) -> str:
        # LLVM wants a float's literal as the hexadecimal digits of the double of equal value.
        if value == 0 and str(value)[0] != "-":
            return "0.0"
        rounded = float(value) if self.c.itemsize == 8 else _to_float32(value)
        return "0x" + _double_bits(rounded)

    def splat_literal(self, value: float) -> str:
        if value == 0 and str(value)[0] != "-":
            return "zeroinitializer"
        return f"splat ({self.c.scalar} {self.literal(value)})"

    def splat(self, scalar: str) -> str:
        v, n = self.c.vector, self.c.kernel.lanes
        one = self.op(f"insertelement {v} poison, {self.c.scalar} {scalar}, i32 0")
        return self.op(f"shufflevector {v} {one}, {v} poison, <{n} x i32> zeroinitializer")

    # Memory

    def element(self, buffer: Buffer, index: Affine, pairs: bool = False) -> str:
        """One element of memory, or a pair of them."""
        p = self.c.pointer(buffer, index)
        if buffer.octets:
            return self.op(f"uitofp i8 {self.op(f'load i8, ptr {p}, align 1')} to float")
        if pairs or not buffer.narrow:
            return self.op(f"load {self.c.scalar}, ptr {p}, align {2 if pairs else self.c.itemsize}")
        wide = self.op(f"zext i16 {self.op(f'load i16, ptr {p}, align 2')} to i32")
        return self.op(f"bitcast i32 {self.op(f'shl i32 {wide}, 16')} to float")

    def widened(self, value: str) -> str:
        """A vector of bfloat16's bits as numbers."""
        n = self.c.kernel.lanes
        high = self.op(f"shl <{n} x i32> {self.op(f'zext <{n} x i16> {value} to <{n} x i32>')}, splat (i32 16)")
        return self.op(f"bitcast <{n} x i32> {high} to {self.c.vector}")

    def narrowed(self, value: str) -> str:
        """The bits of the nearest bfloat16s, as `tile.bfloat16` defines them."""
        n, v = self.c.kernel.lanes, self.c.vector
        halves, words = f"<{n} x i16>", f"<{n} x i32>"
        if self.c.bf16:
            near = self.op(f"fptrunc {v} {value} to <{n} x bfloat>")
            return self.op(f"bitcast <{n} x bfloat> {near} to {halves}")
        bits = self.op(f"bitcast {v} {value} to {words}")
        high = self.op(f"lshr {words} {bits}, splat (i32 16)")
        odd = self.op(f"and {words} {high}, splat (i32 1)")
        bias = self.op(f"add {words} {odd}, splat (i32 32767)")
        near = self.op(f"lshr {words} {self.op(f'add {words} {bits}, {bias}')}, splat (i32 16)")
        quiet = self.op(f"or {words} {high}, splat (i32 64)")
        nan = self.op(f"fcmp uno {v} {value}, {value}")
        best = self.op(f"select <{n} x i1> {nan}, {words} {quiet}, {words} {near}")
        return self.op(f"trunc {words} {best} to {halves}")

    def whole(self, value: str) -> str:
        """The numbers rounded down, between bounds that are an instruction each: NaN is not above zero."""
        n, v, most = self.c.kernel.lanes, self.c.vector, self.splat_literal(float(1 << 30))
        above = self.op(f"fcmp ogt {v} {value}, zeroinitializer")
        value = self.op(f"select <{n} x i1> {above}, {v} {value}, {v} zeroinitializer")
        below = self.op(f"fcmp olt {v} {value}, {most}")
        value = self.op(f"select <{n} x i1> {below}, {v} {value}, {v} {most}")
        return self.op(f"fptosi {v} {value} to <{n} x i32>")

    def mask(self, count: int) -> str:
        lanes = self.c.kernel.lanes
        return f"<{lanes} x i1> <{', '.join('i1 1' if i < count else 'i1 0' for i in range(lanes))}>"

    def place(self, s: Load | Store, nowhere: str) -> str:
        """The address of an access without a stride; `nowhere` where a coordinate is outside."""
        index = s.at.index
        for c in s.where:
            index = index + c.value * c.stride
        p = self.c.pointer(s.at.buffer, index)
        return p if not s.where else self.op(f"select i1 {self.c.inside(s.where)}, ptr {p}, ptr {nowhere}")

    def kind(self, buffer: Buffer) -> tuple[str, str, int]:
        """What vectors of a buffer's elements are: their type, the suffix of LLVM's names for it, bytes of one."""
        n = self.c.kernel.lanes
        if buffer.octets:
            return f"<{n} x i8>", f"v{n}i8", 1
        if buffer.whole:
            return f"<{n} x i32>", f"v{n}i32", 4
        return (f"<{n} x i16>", f"v{n}i16", 2) if buffer.narrow else (self.c.vector, self.suffix, self.c.itemsize)

    def load(self, s: Load) -> None:
        lanes, narrow, octets = self.c.kernel.lanes, s.at.buffer.narrow and not s.pairs, s.at.buffer.octets
        if s.stride == 1 + s.pairs:
            v, suffix, size = (self.c.vector, self.suffix, 2) if s.pairs else self.kind(s.at.buffer)
            p = self.place(s, "@nothing")
            if s.where:
                self.c.declared.add(f"@nothing = internal constant {self.c.vector} zeroinitializer")
            if s.count == lanes:
                value = self.op(f"load {v}, ptr {p}, align {size}")
            else:
                name = f"@llvm.masked.load.{suffix}.p0"
                self.c.declared.add(f"declare {v} {name}(ptr, i32, <{lanes} x i1>, {v})")
                value = self.op(f"call {v} {name}(ptr {p}, i32 {size}, {self.mask(s.count)}, {v} zeroinitializer)")
            if octets:
                value = self.op(f"uitofp {v} {value} to {self.c.vector}")
            self.set(s.dst, self.widened(value) if narrow else value)
            return
        v, value = self.c.vector, "zeroinitializer"
        for i in range(s.count):
            one = self.element(s.at.buffer, s.at.index + i * s.stride, s.pairs)
            value = self.op(f"insertelement {v} {value}, {self.c.scalar} {one}, i32 {i}")
        self.set(s.dst, value)

    def store(self, s: Store) -> None:
        v, suffix, size = self.kind(s.at.buffer)
        lanes, value = self.c.kernel.lanes, self.get(s.src)
        if s.at.buffer.narrow:
            value = self.narrowed(value)
        if s.at.buffer.whole:
            value = self.whole(value)
        if s.stride == 1:
            if s.where and _DUMP not in self.names:
                self.names[_DUMP] = "%dump"
                self.allocations.append(f"%dump = alloca {self.c.vector}")
            p = self.place(s, "%dump")
            if s.count == lanes:
                past = self.c.streaming and _whole(s, lanes)
                how = f"align {lanes * size}, !nontemporal !0" if past else f"align {size}"
                self.c.lines.append(f"store {v} {value}, ptr {p}, {how}")
                return
            name = f"@llvm.masked.store.{suffix}.p0"
            self.c.declared.add(f"declare void {name}({v}, ptr, i32, <{lanes} x i1>)")
            self.c.lines.append(f"call void {name}({v} {value}, ptr {p}, i32 {size}, {self.mask(s.count)})")
            return
        scalar = self.c.element(s.at.buffer)
        for i in range(s.count):
            p = self.c.pointer(s.at.buffer, s.at.index + i * s.stride)
            one = self.op(f"extractelement {v} {value}, i32 {i}")
            self.c.lines.append(f"store {scalar} {one}, ptr {p}, align {size}")

    # Arithmetic

    def fma(self, a: str, b: str, c: str) -> str:
        v = self.c.vector
        if not self.c.fma:
            return self.op(f"fadd {v} {self.op(f'fmul {v} {a}, {b}')}, {c}")
        self.c.declared.add(f"declare {v} @llvm.fma.{self.suffix}({v}, {v}, {v})")
        return self.op(f"call {v} @llvm.fma.{self.suffix}({v} {a}, {v} {b}, {v} {c})")

    def pair(self, s: Pair) -> None:
        n, v = self.c.kernel.lanes, self.c.vector
        words = f"<{n} x i32>"
        a, b = (self.op(f"bitcast {v} {self.get(r)} to {words}") for r in (s.a, s.b))
        low = self.op(f"lshr {words} {a}, splat (i32 16)")
        both = self.op(f"or {words} {low}, {self.op(f'and {words} {b}, splat (i32 -65536)')}")
        self.set(s.dst, self.op(f"bitcast {words} {both} to {v}"))

    def dot(self, a: str, b: str, c: str) -> str:
        n, v = self.c.kernel.lanes, self.c.vector
        if self.c.bf16:
            halves, name = f"<{2 * n} x bfloat>", f"@llvm.x86.avx512bf16.dpbf16ps.{32 * n}"
            self.c.declared.add(f"declare {v} {name}({v}, {halves}, {halves})")
            x, y = (self.op(f"bitcast {v} {r} to {halves}") for r in (a, b))
            return self.op(f"call {v} {name}({v} {c}, {halves} {x}, {halves} {y})")
        (a1, a2), (b1, b2) = self.parts(a), self.parts(b)
        return self.fma(a1, b1, self.fma(a2, b2, c))

    def parts(self, pairs: str) -> tuple[str, str]:
        """The first and the second number of each pair."""
        n, v = self.c.kernel.lanes, self.c.vector
        words = f"<{n} x i32>"
        bits = self.op(f"bitcast {v} {pairs} to {words}")
        first = self.op(f"bitcast {words} {self.op(f'shl {words} {bits}, splat (i32 16)')} to {v}")
        return first, self.op(f"bitcast {words} {self.op(f'and {words} {bits}, splat (i32 -65536)')} to {v}")

    def binary(self, s: Binary) -> None:
        v, a, b = self.c.vector, self.get(s.a), self.get(s.b)
        if s.op not in _EXTREMES:
            self.set(s.dst, self.op(f"f{s.op} {v} {a}, {b}"))
            return
        # a where a is the extreme or is NaN, else b (which may be NaN): max and a blend on x86, and where a is a
        # constant, max alone.
        n = self.c.kernel.lanes
        beyond = self.op(f"fcmp {_EXTREMES[s.op]} {v} {a}, {b}")
        best = self.op(f"select <{n} x i1> {beyond}, {v} {a}, {v} {b}")
        nan = self.op(f"fcmp uno {v} {a}, {a}")
        self.set(s.dst, self.op(f"select <{n} x i1> {nan}, {v} {a}, {v} {best}"))

    def select(self, s: Select) -> None:
        v, n = self.c.vector, self.c.kernel.lanes
        a, b, x, y = (self.get(r) for r in (s.a, s.b, s.x, s.y))
        if s.test == "equal":
            test = self.op(f"fcmp oeq {v} {a}, {b}")
        else:
            above, nan = self.op(f"fcmp ogt {v} {a}, {b}"), self.op(f"fcmp uno {v} {a}, {a}")
            test = self.op(f"or <{n} x i1> {above}, {nan}")
        self.set(s.dst, self.op(f"select <{n} x i1> {test}, {v} {x}, {v} {y}"))

    def transpose(self, s: Transpose) -> None:
        """log2(lanes) rounds; each interleaves the first half of the registers with the second."""
        v, n = self.c.vector, self.c.kernel.lanes
        low = ", ".join(f"i32 {i // 2 + n * (i % 2)}" for i in range(n))
        high = ", ".join(f"i32 {n // 2 + i // 2 + n * (i % 2)}" for i in range(n))
        rows = [self.get(r) for r in s.src]
        for _ in range(n.bit_length() - 1):
            pairs = zip(rows[: n // 2], rows[n // 2 :], strict=True)
            rows = [
                self.op(f"shufflevector {v} {a}, {v} {b}, <{n} x i32> <{order}>")
                for a, b in pairs
                for order in (low, high)
            ]
        for dst, row in zip(s.dst, rows, strict=True):
            self.set(dst, row)


_EXTREMES = {"max": "ogt", "min": "olt"}


def _double_bits(value: float) -> str:
    return struct.pack(">d", value).hex().upper()


def _to_float32(value: float) -> float:
    return float(struct.unpack("f", struct.pack("f", value))[0])
