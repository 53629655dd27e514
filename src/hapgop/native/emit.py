"""A tile program as LLVM IR text.

The whole kernel becomes one function, `run(data, thread, threads, barrier)`: each thread calls it, works through its
own share of every stage's items, and meets the others at the barrier between stages. `data` is an array of 64-bit
words: the buffers' addresses in their order, then the sizes.

Addresses are computed where their loop variable gets its value, so that the innermost loop only adds constants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from hapgop.native.statements import StatementWriter, streamed
from hapgop.tile import (
    Affine,
    Buffer,
    Coordinate,
    Kernel,
    Loop,
    Quotient,
    Range,
    Rounds,
    Size,
    Stage,
    Statement,
    Var,
    apart,
    depth,
)

_START = "begin"
_FLUSH_DENORMALS = 0x8040  # FTZ and DAZ of the x86 control register MXCSR


@dataclass(slots=True)
class Scope:
    """A loop's body: what is computed once at its start, and where it ends."""

    header: list[str] = field(default_factory=list)
    known: dict[object, str] = field(default_factory=dict)


class Emitter:
    """Writes one kernel; `text()` is the module."""

    def __init__(self, kernel: Kernel, x86: bool, fma: bool, bf16: bool) -> None:
        self.kernel, self.x86, self.fma, self.bf16 = kernel, x86, fma, bf16
        self.scalar = "double" if kernel.dtype == "float64" else "float"
        self.itemsize = 8 if kernel.dtype == "float64" else 4
        self.vector = f"<{kernel.lanes} x {self.scalar}>"
        self.declared: set[str] = set()
        self.functions: list[str] = []
        self._names = 0
        self.lines: list[str] = []
        self.scopes: list[Scope] = []
        self.bases: dict[tuple[str, Affine], str] = {}
        self.streaming = False
        self.label = "entry"
        self.count = 0

    def text(self) -> str:
        stages: list[tuple[Stage, Range | None]] = []
        for step in self.kernel.steps:
            within = step.range if isinstance(step, Rounds) else None
            stages += [(stage, within) for stage in (step.stages if isinstance(step, Rounds) else (step,))]
        for i, (stage, rounds) in enumerate(stages):
            self.functions.append(self.stage(f"stage{i}", stage, rounds))
            if streamed(stage.body, self.kernel.lanes):
                self.streaming = True
                self.functions.append(self.stage(f"streaming{i}", stage, rounds))
                self.streaming = False
        self.functions.append(self.run())
        attributes = 'attributes #0 = { nounwind "prefer-vector-width"="512" }'
        return "\n".join([*sorted(self.declared), *self.functions, attributes, "!0 = !{i32 1}", ""])

    def fresh(self) -> str:
        self._names += 1
        return f"%t{self._names}"

    # Integers and addresses

    def integer(self, e: Affine) -> str:
        """The SSA name (or literal) of an integer expression, computed as far out as its atoms allow."""
        if not e.terms:
            return str(e.const)
        base = self.sum(e)
        if not e.const:
            return base
        return self.once(self.deepest(e), ("int", e), f"add nsw i64 {base}, {e.const}")

    def sum(self, e: Affine) -> str:
        """The variable part of an expression."""
        here, outer = self.split(e)
        parts = [self.product(atom, c) for atom, c in here.terms.items()]
        if outer.terms:
            parts.insert(0, self.sum(outer))
        at = self.deepest(e)
        total = parts[0]
        for i, part in enumerate(parts[1:]):
            total = self.once(at, ("sum", Affine(0, e.terms), i), f"add nsw i64 {total}, {part}")
        return total

    def pointer(self, buffer: Buffer, index: Affine) -> str:
        """The address of an element: one addition for each loop that moves it, constants last."""
        base = self.base(buffer, Affine(0, index.terms))
        if not index.const:
            return base
        name = self.fresh()
        self.lines.append(f"{name} = getelementptr inbounds {self.element(buffer)}, ptr {base}, i64 {index.const}")
        return name

    def element(self, buffer: Buffer) -> str:
        return "i8" if buffer.octets else "i16" if buffer.narrow else self.scalar

    def base(self, buffer: Buffer, variable: Affine) -> str:
        if not variable.terms:
            return f"%b_{buffer.name}"
        # Loop variables have names of their own, so what was found once in a stage stays right.
        key = (buffer.name, variable)
        name = self.bases.get(key)
        if name is None:
            here, outer = self.split(variable)
            start, offset = self.base(buffer, outer), self.sum(here)
            line = f"getelementptr inbounds {self.element(buffer)}, ptr {start}, i64 {offset}"
            name = self.bases[key] = self.once(self.deepest(variable), ("ptr", *key), line)
        return name

    def split(self, e: Affine) -> tuple[Affine, Affine]:
        """The terms that get their value in the deepest scope, and the rest."""
        deepest = self.deepest(e)
        here = {a: c for a, c in e.terms.items() if self.scopes[depth(a)] is deepest}
        rest = {a: c for a, c in e.terms.items() if a not in here}
        return Affine(0, here), Affine(0, rest)

    def deepest(self, e: Affine) -> Scope:
        return self.scopes[max(map(depth, e.terms), default=0)]

    def product(self, atom: Size | Var | Quotient, c: int) -> str:
        name = self.atom(atom)
        if c == 1:
            return name
        scope = self.scopes[depth(atom)]
        return self.once(scope, ("mul", atom, c), f"mul nsw i64 {name}, {c}")

    def atom(self, atom: Size | Var | Quotient) -> str:
        if isinstance(atom, Size):
            return f"%s_{atom.name}"
        if isinstance(atom, Var):
            return f"%i_{atom.name}"
        scope = self.scopes[depth(atom)]
        top = self.integer(atom.numerator)
        # Rounds down: a negative numerator is first lowered by divisor - 1.
        sign = self.once(scope, ("sign", atom), f"ashr i64 {top}, 63")
        fix = self.once(scope, ("fix", atom), f"and i64 {sign}, {atom.divisor - 1}")
        low = self.once(scope, ("low", atom), f"sub nsw i64 {top}, {fix}")
        return self.once(scope, ("div", atom), f"sdiv i64 {low}, {atom.divisor}")

    def once(self, scope: Scope, key: object, instruction: str) -> str:
        """The name of a value that a scope computes at its start, at most once."""
        name = scope.known.get(key)
        if name is None:
            name = scope.known[key] = self.fresh()
            scope.header.append(f"{name} = {instruction}")
        return name

    def inside(self, where: tuple[Coordinate, ...]) -> str:
        """Whether every coordinate is inside its extent."""
        total = ""
        for c in where:
            depths = max(map(depth, [*c.value.terms, *c.extent.terms]), default=0)
            scope = self.scopes[depths]
            one = self.once(
                scope, ("in", c.value, c.extent), f"icmp ult i64 {self.integer(c.value)}, {self.integer(c.extent)}"
            )
            total = one if not total else self.both(total, one)
        return total

    def both(self, a: str, b: str) -> str:
        name = self.fresh()
        self.lines.append(f"{name} = and i1 {a}, {b}")
        return name

    # Control

    def body(self, statements: tuple[Statement, ...], writer: StatementWriter) -> None:
        for s in statements:
            if isinstance(s, Loop):
                self.loop(s.range, partial(self.body, s.body, writer))
            else:
                writer.write(s)

    def extremum(self, bounds: Iterable[Affine], kind: str) -> str:
        names = [self.integer(b) for b in bounds]
        total = names[0]
        for name in names[1:]:
            self.declared.add(f"declare i64 @llvm.{kind}.i64(i64, i64)")
            left, total = total, self.fresh()
            self.lines.append(f"{total} = call i64 @llvm.{kind}.i64(i64 {left}, i64 {name})")
        return total

    def loop(self, r: Range, inside: Callable[[], None]) -> None:
        """A loop that tests at its end, behind a guard where it could be empty."""
        first, stop = self.extremum(r.low, "smax"), self.extremum(r.high, "smin")
        n = self.fresh()[2:]
        head, latch, out = f"head{n}", f"latch{n}", f"exit{n}"
        before = self.label
        if first.lstrip("-").isdigit() and stop.lstrip("-").isdigit() and int(first) < int(stop):
            self.lines.append(f"br label %{head}")
        else:
            some = self.fresh()
            self.lines.append(f"{some} = icmp slt i64 {first}, {stop}")
            self.lines.append(f"br i1 {some}, label %{head}, label %{out}")
        i = f"%i_{r.var.name}"
        outer, self.lines, self.label = self.lines, [], head
        scope = Scope()
        self.scopes.append(scope)
        inside()
        self.scopes.pop()
        self.lines.append(f"br label %{latch}")
        body, self.lines = self.lines, outer
        self.lines += [
            f"{head}:",
            f"{i} = phi i64 [ {first}, %{before} ], [ {i}.next, %{latch} ]",
            *scope.header,
            *body,
            f"{latch}:",
            f"{i}.next = add nsw i64 {i}, {r.step}",
            f"{i}.more = icmp slt i64 {i}.next, {stop}",
            f"br i1 {i}.more, label %{head}, label %{out}",
            f"{out}:",
        ]
        self.label = out

    # Functions

    def parameters(self) -> str:
        buffers = ", ".join(f"ptr noalias %b_{b.name}" for b in self.kernel.buffers)
        sizes = "".join(f", i64 %s_{s.name}" for s in self.kernel.sizes)
        return buffers + sizes

    def stage(self, name: str, stage: Stage, rounds: Range | None) -> str:
        entry = Scope()
        self.lines, self.label = [], "start"
        self.scopes = [entry, entry] if rounds else [entry]
        turn = f", i64 %i_{rounds.var.name}" if rounds else ""
        self.bases.clear()
        writer = StatementWriter(self, stage.body)
        items = Range(Var("item", 0), (Affine.of(Size("lo")),), (Affine.of(Size("hi")),))
        around: Callable[[], None] = partial(self.loop, items, partial(self.item, stage, writer))
        for r in reversed(stage.repeat):
            around = partial(self.loop, r, around)
        around()
        lines = [
            f"define internal void @{name}({self.parameters()}{turn}, i64 %s_lo, i64 %s_hi) #0 {{",
            *writer.allocations,
            "br label %start",
            "start:",
            *entry.header,
            *self.lines,
            "ret void",
            "}",
        ]
        return "\n".join(lines)

    def item(self, stage: Stage, writer: StatementWriter) -> None:
        """Turns the item's number into the grid's variables, then the body."""
        scope = self.scopes[-1]
        self.scopes += [scope] * (len(stage.grid) - 1)
        rest = "%down" if stage.descending else "%i_item"
        if stage.descending:
            scope.header += ["%end = add i64 %s_lo, %s_hi", "%left = sub i64 %end, %i_item", "%down = sub i64 %left, 1"]
        for var, extent in reversed(stage.grid[1:]):
            size, name, next_rest = self.integer(extent), f"%i_{var.name}", self.fresh()
            scope.header += [f"{name} = urem i64 {rest}, {size}", f"{next_rest} = udiv i64 {rest}, {size}"]
            rest = next_rest
        scope.header.append(f"%i_{stage.grid[0][0].name} = add i64 {rest}, 0")
        self.body(stage.body, writer)
        del self.scopes[len(self.scopes) - (len(stage.grid) - 1) :]

    def run(self) -> str:
        """The function that a thread calls."""
        out = ["define void @run(ptr %data, i64 %thread, i64 %threads, ptr %barrier) #0 {"]
        self.lines, self.scopes, self.label = [], [Scope()], _START
        if self.x86:
            out += self.denormals()
        words = [(f"%b_{b.name}", "ptr") for b in self.kernel.buffers]
        words += [(f"%s_{s.name}", "i64") for s in self.kernel.sizes]
        for w, (name, kind) in enumerate(words):
            private = w < len(self.kernel.buffers) and self.kernel.buffers[w].role == "private"
            out.append(f"%w{w} = getelementptr i64, ptr %data, i64 {w}")
            out.append(f"{name + '.all' if private else name} = load {kind}, ptr %w{w}")
        for buffer in self.kernel.buffers:
            if buffer.role == "private":
                size = self.integer(apart(buffer.size))
                name = f"%b_{buffer.name}"
                self.lines.append(f"{name}.skip = mul i64 %thread, {size}")
                self.lines.append(f"{name} = getelementptr {self.scalar}, ptr {name}.all, i64 {name}.skip")
        arguments = ", ".join(f"{kind} {name}" for name, kind in words)
        self.count = 0
        for step in self.kernel.steps:
            if isinstance(step, Rounds):
                turn = f", i64 %i_{step.range.var.name}"
                self.loop(step.range, partial(self.phases, step.stages, arguments + turn))
            else:
                self.phases((step,), arguments)
        out += [f"br label %{_START}", f"{_START}:", *self.scopes[0].header, *self.lines]
        if self.x86:
            out.append("call void @llvm.x86.sse.ldmxcsr(ptr %mode)")
        return "\n".join([*out, "ret void", "}"])

    def phases(self, stages: tuple[Stage, ...], arguments: str) -> None:
        """Stages, each behind the barrier that ends what was before."""
        for stage in stages:
            if self.count or len(self.scopes) > 1:
                self.barrier(self.count)
            self.share(self.count, stage, arguments)
            self.count += 1

    def share(self, i: int, stage: Stage, arguments: str) -> None:
        items = "1"
        for _, extent in stage.grid:
            left, size = items, self.integer(extent)
            items = self.fresh()
            self.lines.append(f"{items} = mul i64 {left}, {size}")
        p = f"%st{i}"
        self.lines += [
            f"{p}.a = mul i64 {items}, %thread",
            f"{p}.lo = udiv i64 {p}.a, %threads",
            f"{p}.b = add i64 {p}.a, {items}",
            f"{p}.hi = udiv i64 {p}.b, %threads",
        ]
        call = f"({arguments}, i64 {p}.lo, i64 {p}.hi)"
        buffers = sorted(b.name for b in streamed(stage.body, self.kernel.lanes))
        if not buffers:
            self.lines.append(f"call void @stage{i}{call}")
            return
        # Stores past the caches want whole vectors of memory, and only the caller's addresses tell.
        total = "0"
        for name in buffers:
            left, word, total = total, self.fresh(), self.fresh()
            self.lines.append(f"{word} = ptrtoint ptr %b_{name} to i64")
            self.lines.append(f"{total} = or i64 {left}, {word}")
        self.lines += [
            f"{p}.odd = and i64 {total}, {self.kernel.lanes * self.itemsize - 1}",
            f"{p}.whole = icmp eq i64 {p}.odd, 0",
            f"br i1 {p}.whole, label %past{i}, label %through{i}",
            f"past{i}:",
            f"call void @streaming{i}{call}",
            *self.fence(),
            f"br label %done{i}",
            f"through{i}:",
            f"call void @stage{i}{call}",
            f"br label %done{i}",
            f"done{i}:",
        ]
        self.label = f"done{i}"

    def fence(self) -> list[str]:
        """What was stored past the caches is there before the thread meets the others."""
        if not self.x86:
            return ["fence seq_cst"]
        self.declared.add("declare void @llvm.x86.sse.sfence()")
        return ["call void @llvm.x86.sse.sfence()"]

    def barrier(self, i: int) -> None:
        self.lines += [
            f"%alone{i} = icmp eq i64 %threads, 1",
            f"br i1 %alone{i}, label %go{i}, label %wait{i}",
            f"wait{i}:",
            "call void %barrier()",
            f"br label %go{i}",
            f"go{i}:",
        ]
        self.label = f"go{i}"

    def denormals(self) -> list[str]:
        """Numbers below 2**-126 count as zero while the kernel runs: they cost a hundred times a normal one."""
        self.declared.add("declare void @llvm.x86.sse.stmxcsr(ptr)")
        self.declared.add("declare void @llvm.x86.sse.ldmxcsr(ptr)")
        return [
            "%mode = alloca i32",
            "%fast = alloca i32",
            "call void @llvm.x86.sse.stmxcsr(ptr %mode)",
            "%mode.old = load i32, ptr %mode",
            f"%mode.new = or i32 %mode.old, {_FLUSH_DENORMALS}",
            "store i32 %mode.new, ptr %fast",
            "call void @llvm.x86.sse.ldmxcsr(ptr %fast)",
        ]


def emit(kernel: Kernel, x86: bool = True, fma: bool = True, bf16: bool = False) -> str:
    """The LLVM IR text of a kernel.

    x86: the control register of x86 can be set. fma: the CPU multiplies and adds with one rounding; without it that
    would become a call of the C library, so the product is rounded too. bf16: it rounds to bfloat16 in one instruction.
    """
    return Emitter(kernel, x86, fma, bf16).text()
