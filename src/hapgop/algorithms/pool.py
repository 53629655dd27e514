"""Max and average pooling, forward and backward, vectors along the channels.

Forward, each output goes through its window, clipped to the image. Backward, each input goes through the windows that
hold it and gathers its share: nothing is ever added from two sides, so threads need not wait for one another.
The winner of a max pool is remembered as its position in the window, a small number in the tensor's own type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from hapgop.algorithms.layout import Strides, image_strides, vector_counts
from hapgop.algorithms.problem import POOL_OPS, Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.track import Track, forward
from hapgop.machine import Machine
from hapgop.shape import PoolShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_VECTORS = 4  # vectors of channels at a time: enough to hide the latency of a chain of comparisons
_UNROLLED = 16  # windows up to this many taps are unrolled where they are inside


@dataclass(frozen=True, slots=True)
class Pool(Algorithm):
    """`max_pool`, `avg_pool` and their gradients, of every shape."""

    name: str = "pool"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        return None if problem.op in POOL_OPS else f"computes pools, not {problem.op}"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        assert isinstance(problem.shape, PoolShape)
        s = problem.shape
        return (s.n * s.c * s.oh * s.ow * (s.kh * s.kw + 2)) / (machine.lanes(problem.dtype) * 1e9) + 1e-6

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        assert isinstance(problem.shape, PoolShape)
        s = problem.shape
        program = _Program(replace(problem, shape=replace(s, n=1)), machine)
        tables = (program.divisors(),) if problem.op.startswith("avg") else ()
        rows = s.oh if program.by_window else s.ih
        return Recipe(
            key=f"pool {program.problem} {machine}",
            build=program.kernel,
            sizes=(s.n,),
            tables=tables,
            items=s.n * rows,
            tiles=f"1 pixel x {min(_VECTORS, len(program.counts))} vectors",
        )


@dataclass(frozen=True, slots=True)
class _Program:
    problem: Problem
    machine: Machine

    @property
    def shape(self) -> PoolShape:
        assert isinstance(self.problem.shape, PoolShape)
        return self.problem.shape

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def counts(self) -> tuple[int, ...]:
        return vector_counts(self.shape.c, self.lanes)

    @property
    def rows(self) -> Track:
        s = self.shape
        return forward(s.ih, s.kh, s.stride[0], s.padding[0], s.dilation[0], s.oh)

    @property
    def cols(self) -> Track:
        s = self.shape
        return forward(s.iw, s.kw, s.stride[1], s.padding[2], s.dilation[1], s.ow)

    @property
    def tiled(self) -> bool:
        """Windows that neither overlap nor leave gaps: each input belongs to one of them, or to none at the far edge."""
        s = self.shape
        inside = self.rows.always_inside and self.cols.always_inside
        return s.stride == (s.kh, s.kw) and s.dilation == (1, 1) and inside and not any(s.padding)

    @property
    def by_window(self) -> bool:
        return self.tiled or not self.problem.op.endswith("grad")

    def divisors(self) -> np.ndarray[tuple[int], np.dtype[np.floating]]:
        """What each output of an average pool is divided by: the taps of its window, inside the padding or the image."""
        s, p = self.shape, self.problem

        def along(track: Track, kernel: int, size: int, before: int, after: int) -> list[int]:
            low, high = (-before, size + after) if p.count_include_pad else (0, size)
            places = [[track.source(q, t).const for t in range(kernel)] for q in range(track.count)]
            return [sum(low <= i < high for i in window) for window in places]

        vertical = along(self.rows, s.kh, s.ih, s.padding[0], s.padding[1])
        horizontal = along(self.cols, s.kw, s.iw, s.padding[2], s.padding[3])
        return np.outer(vertical, horizontal).astype(p.dtype).ravel()

    def kernel(self) -> Kernel:
        p, s = self.problem, self.shape
        k = Builder("pool", p.dtype, self.lanes)
        n = k.size("n")
        x_size, y_size = n * (s.c * s.ih * s.iw), n * (s.c * s.oh * s.ow)
        x, y = image_strides(p.x_layout, s.c, s.ih, s.iw), image_strides(p.y_layout, s.c, s.oh, s.ow)
        divisors = s.oh * s.ow
        if p.op == "max_pool":
            source = k.buffer("x", x_size, "in")
            targets = [k.buffer("y", y_size, "out"), k.buffer("winners", y_size, "out")]
            _Forward(self, k, source, x, y).max(n, targets)
        elif p.op == "avg_pool":
            source, target = k.buffer("x", x_size, "in"), k.buffer("y", y_size, "out")
            _Forward(self, k, source, x, y).average(n, target, k.buffer("divisors", divisors, "in"))
        elif p.op == "max_pool_grad":
            g, winners = k.buffer("g", y_size, "in"), k.buffer("winners", y_size, "in")
            _Backward(self, k, g, winners, None, k.buffer("dx", x_size, "out"), x, y).emit(n)
        else:
            g, target = k.buffer("g", y_size, "in"), k.buffer("dx", x_size, "out")
            _Backward(self, k, g, None, k.buffer("divisors", divisors, "in"), target, x, y).emit(n)
        return k.kernel()

    def blocks(self, k: Builder, visit: Callable[[Affine, tuple[int, ...]], None]) -> None:
        """Visits all channels: whole blocks in a loop, then the rest."""
        width = _VECTORS * self.lanes
        whole = self.shape.c // width
        if whole:
            with k.loop("block", 0, whole) as block:
                visit(block * width, (self.lanes,) * _VECTORS)
        if self.shape.c % width:
            visit(Affine(whole * width), vector_counts(self.shape.c % width, self.lanes))

    def lane_offsets(self, counts: tuple[int, ...], stride: int) -> list[tuple[int, int]]:
        """(elements from the block's first channel, lanes used) of each vector."""
        return [(v * self.lanes * stride, count) for v, count in enumerate(counts)]


@dataclass(slots=True)
class _Forward:
    program: _Program
    k: Builder
    source: Buffer
    x: Strides
    y: Strides

    def max(self, n: Affine, targets: list[Buffer]) -> None:
        k, program = self.k, self.program
        kw = program.shape.kw

        def visit(
            image: Affine, oh: Affine, ow: Affine, inside: bool, channel: Affine, counts: tuple[int, ...]
        ) -> None:
            best = [k.const(-np.inf) for _ in counts]
            where = [k.const(0.0) for _ in counts]
            if not inside:
                # Before any comparison the winner is the first tap inside: it keeps a window of nothing but -inf.
                self.first_tap(oh, ow, where)

            def tap(t: Affine, u: Affine) -> None:
                values = self.values(image, oh, ow, t, u, channel, counts)
                position = k.from_index(t * kw + u)
                for v, value in enumerate(values):
                    k.select("above", value, best[v], position, where[v], into=where[v])
                    k.select("above", value, best[v], value, best[v], into=best[v])

            self.taps(oh, ow, inside, tap)
            for target, registers in zip(targets, (best, where), strict=True):
                self.store(target, image, oh, ow, channel, counts, registers)

        self.outputs(n, visit)

    def average(self, n: Affine, target: Buffer, divisors: Buffer) -> None:
        k, ow_count = self.k, self.program.shape.ow

        def visit(
            image: Affine, oh: Affine, ow: Affine, inside: bool, channel: Affine, counts: tuple[int, ...]
        ) -> None:
            total = [k.const(0.0) for _ in counts]

            def tap(t: Affine, u: Affine) -> None:
                for v, value in enumerate(self.values(image, oh, ow, t, u, channel, counts)):
                    k.add(total[v], value, into=total[v])

            self.taps(oh, ow, inside, tap)
            divisor = k.broadcast(divisors, oh * ow_count + ow)
            self.store(target, image, oh, ow, channel, counts, [k.div(t, divisor) for t in total])

        self.outputs(n, visit)

    def outputs(
        self, n: Affine, visit: Callable[[Affine, Affine, Affine, bool, Affine, tuple[int, ...]], None]
    ) -> None:
        """Every output: border columns with taps found at run time, the others with all of them."""
        k, program = self.k, self.program
        first, last = program.cols.interior
        with k.stage("pool", ("image", n), ("row", program.shape.oh)) as (image, oh):
            for low, high, inside in ((0, first, False), (first, last, True), (last, program.shape.ow, False)):
                if low < high:
                    with k.loop("column", low, high) as ow:
                        program.blocks(k, partial(visit, image, oh, ow, inside))

    def taps(self, oh: Affine, ow: Affine, inside: bool, visit: Callable[[Affine, Affine], None]) -> None:
        rows, cols = self.program.rows, self.program.cols
        if inside and rows.always_inside and rows.taps * cols.taps <= _UNROLLED:
            for t, u in np.ndindex(rows.taps, cols.taps):
                visit(Affine(t), Affine(u))
            return
        with self.k.loop("tap", *rows.tap_range(oh)) as row:
            if inside and cols.taps <= _UNROLLED:
                for u in range(cols.taps):
                    visit(row, Affine(u))
            else:
                with self.k.loop("tap_column", *cols.tap_range(ow)) as column:
                    visit(row, column)

    def first_tap(self, oh: Affine, ow: Affine, where: list[Register]) -> None:
        """where = the position of the first tap that is inside; loops of one turn, for their lower bound is a maximum."""
        rows, cols = self.program.rows, self.program.cols
        zero = self.k.const(0.0)
        with self.k.loop("first", *rows.tap_range(oh), step=rows.taps) as t:
            with self.k.loop("first_column", *cols.tap_range(ow), step=cols.taps) as u:
                position = self.k.from_index(t * cols.taps + u)
                for register in where:
                    self.k.add(position, zero, into=register)

    def values(
        self, image: Affine, oh: Affine, ow: Affine, t: Affine, u: Affine, channel: Affine, counts: tuple[int, ...]
    ) -> list[Register]:
        rows, cols, x = self.program.rows, self.program.cols, self.x
        at = image * x.n + rows.source(oh, t) * x.h + cols.source(ow, u) * x.w + channel * x.c
        return [self.k.load(self.source, at + o, c, x.c) for o, c in self.program.lane_offsets(counts, x.c)]

    def store(
        self,
        target: Buffer,
        image: Affine,
        oh: Affine,
        ow: Affine,
        channel: Affine,
        counts: tuple[int, ...],
        values: list[Register],
    ) -> None:
        y = self.y
        at = image * y.n + oh * y.h + ow * y.w + channel * y.c
        for (offset, count), value in zip(self.program.lane_offsets(counts, y.c), values, strict=True):
            self.k.store(value, target, at + offset, count, y.c)


@dataclass(slots=True)
class _Backward:
    """dx: of a max pool where `winners` is given, of an average pool where `divisors` is."""

    program: _Program
    k: Builder
    g: Buffer
    winners: Buffer | None
    divisors: Buffer | None
    target: Buffer
    x: Strides
    y: Strides

    def emit(self, n: Affine) -> None:
        if self.program.tiled:
            self.by_window(n)
        else:
            self.by_input(n)

    def by_window(self, n: Affine) -> None:
        """Windows that tile the image: each hands its gradient to its own inputs."""
        k, s, program = self.k, self.program.shape, self.program
        with k.stage("windows", ("image", n), ("row", s.oh)) as (image, oh):
            with k.loop("column", 0, s.ow) as ow:

                def visit(channel: Affine, counts: tuple[int, ...]) -> None:
                    share = self.share(image, oh, ow, channel, counts)

                    def tap(t: Affine, u: Affine) -> None:
                        zeros = [k.const(0.0) for _ in counts]
                        self.gather(share, t * s.kw + u, zeros)
                        self.put(image, oh * s.kh + t, ow * s.kw + u, channel, counts, zeros)

                    if s.kh * s.kw <= _UNROLLED:
                        for t, u in np.ndindex(s.kh, s.kw):
                            tap(Affine(t), Affine(u))
                    else:
                        with k.loop("tap", 0, s.kh) as row, k.loop("tap_column", 0, s.kw) as column:
                            tap(row, column)

                program.blocks(k, visit)
            self.clear(image, oh * s.kh, oh * s.kh + s.kh, s.ow * s.kw)
        below = s.oh * s.kh
        if below < s.ih:
            with k.stage("below", ("image", n), ("row", s.ih - below)) as (image, row):
                self.clear(image, row + below, row + below + 1, 0)

    def clear(self, image: Affine, low: Affine, high: Affine, column: int) -> None:
        """Inputs that no window reads have gradient zero."""
        k, s = self.k, self.program.shape
        if column < s.iw:
            with k.loop("unread_row", low, high) as ih, k.loop("unread", column, s.iw) as iw:
                self.program.blocks(
                    k, lambda c, counts: self.put(image, ih, iw, c, counts, [k.const(0.0) for _ in counts])
                )

    def by_input(self, n: Affine) -> None:
        """Windows that overlap: each input gathers from all that hold it."""
        k, s, program = self.k, self.program.shape, self.program
        rows, cols = program.rows, program.cols
        with k.stage("inputs", ("image", n), ("row", s.ih)) as (image, ih), k.loop("column", 0, s.iw) as iw:

            def visit(channel: Affine, counts: tuple[int, ...]) -> None:
                total = [k.const(0.0) for _ in counts]

                def window(oh: Affine, t: Affine, ow: Affine, u: Affine) -> None:
                    self.gather(self.share(image, oh, ow, channel, counts), t * s.kw + u, total)

                self.holders(rows, ih, lambda oh, t: self.holders(cols, iw, lambda ow, u: window(oh, t, ow, u)))
                self.put(image, ih, iw, channel, counts, total)

            program.blocks(k, visit)

    def holders(self, track: Track, i: Affine, visit: Callable[[Affine, Affine], None]) -> None:
        """Visits (output, tap) of every window that holds input i, outputs ascending (taps, where dilated)."""
        k = self.k
        offset = i - track.in_first
        if track.in_tap == 1:
            low = -((-offset + (track.taps - 1)) // track.in_step)
            high = offset // track.in_step + 1
            with k.loop("window", [Affine(0), low], [Affine(track.count), high]) as q:
                visit(q, offset - q * track.in_step)
            return
        with k.loop("tap", 0, track.taps) as t:
            # Runs once where the stride divides what is left, else not at all.
            rest = offset - t * track.in_tap
            low, high = -(-rest // track.in_step), rest // track.in_step + 1
            with k.loop("window", [Affine(0), low], [Affine(track.count), high]) as q:
                visit(q, t)

    def share(
        self, image: Affine, oh: Affine, ow: Affine, channel: Affine, counts: tuple[int, ...]
    ) -> list[tuple[Register, Register | None]]:
        """A window's gradient (of an average: divided), and its winner's position."""
        k, y, s = self.k, self.y, self.program.shape
        at = image * y.n + oh * y.h + ow * y.w + channel * y.c
        places = [(at + o, c) for o, c in self.program.lane_offsets(counts, y.c)]
        g = [k.load(self.g, place, count, y.c) for place, count in places]
        if self.divisors is not None:
            divisor = k.broadcast(self.divisors, oh * s.ow + ow)
            return [(k.div(value, divisor), None) for value in g]
        assert self.winners is not None
        return [(v, k.load(self.winners, place, c, y.c)) for v, (place, c) in zip(g, places, strict=True)]

    def gather(self, share: list[tuple[Register, Register | None]], position: Affine, total: list[Register]) -> None:
        """total += the share, where this position is the winner's."""
        k = self.k
        here = k.from_index(position) if self.winners is not None else None
        zero = k.const(0.0)
        for v, (g, winner) in enumerate(share):
            if here is not None and winner is not None:
                g = k.select("equal", winner, here, g, zero)
            k.add(total[v], g, into=total[v])

    def put(
        self, image: Affine, ih: Affine, iw: Affine, channel: Affine, counts: tuple[int, ...], values: list[Register]
    ) -> None:
        x = self.x
        at = image * x.n + ih * x.h + iw * x.w + channel * x.c
        for (offset, count), value in zip(self.program.lane_offsets(counts, x.c), values, strict=True):
            self.k.store(value, self.target, at + offset, count, x.c)
