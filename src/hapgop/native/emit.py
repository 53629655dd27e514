"""A tile program as LLVM IR text.

The whole kernel becomes one function, `run(data, thread, threads, barrier)`: each thread calls it, works through its
own share of every stage's items, and meets the others at the barrier between stages. `data` is an array of 64-bit
words: the buffers' addresses in their order, then the sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from hapgop.native.addresses import Addresses, Scope
from hapgop.native.statements import StatementWriter, streamed
from hapgop.tile import (
    Affine,
    Indirect,
    Kernel,
    Loop,
    Range,
    Rounds,
    Size,
    Stage,
    Statement,
    Var,
    apart,
)

_START = "begin"
_FLUSH_DENORMALS = 0x8040  # FTZ and DAZ of the x86 control register MXCSR


class Emitter(Addresses):
    """Writes one kernel; `text()` is the module."""

    def __init__(self, kernel: Kernel, x86: bool, fma: bool, bf16: bool) -> None:
        super().__init__(kernel)
        self.x86, self.fma, self.bf16 = x86, fma, bf16
        self.itemsize = 8 if kernel.dtype == "float64" else 4
        self.vector = f"<{kernel.lanes} x {self.scalar}>"
        self.declared: set[str] = set()
        self.functions: list[str] = []
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

    # Control

    def body(self, statements: tuple[Statement, ...], writer: StatementWriter) -> None:
        for s in statements:
            if isinstance(s, Loop):
                self.loop(s.range, partial(self.body, s.body, writer))
            elif isinstance(s, Indirect):
                self.indirect(s, writer)
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

    def indirect(self, s: Indirect, writer: StatementWriter) -> None:
        """The body behind the number that is found in memory."""
        self.declared.add("declare i32 @llvm.umin.i32(i32, i32)")
        found = writer.op(f"load i32, ptr {self.pointer(s.at.buffer, s.at.index)}, align 4")
        inside = writer.op(f"call i32 @llvm.umin.i32(i32 {found}, i32 {s.last})")
        self.lines.append(f"%i_{s.var.name} = zext i32 {inside} to i64")
        outer, self.lines = self.lines, []
        scope = Scope()
        self.scopes.append(scope)
        self.body(s.body, writer)
        self.scopes.pop()
        self.lines = [*outer, *scope.header, *self.lines]

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
