"""The gradients of a first layer's weights and bias where a ReLU and a 2x2 max pool follow: from the pooled map's own.

Three of four pixels of the convolution's own gradient are zero, and nobody else wants it. So an image's is made in the
cache: what the ReLU lets through goes to the winners, and zeros stand elsewhere. Such a layer has few filters, six in
LeNet-5's, so vectors lie along pixels and output channels as they follow one another in memory. What they meet is the
input with every pixel written once for each output channel, `aab bcc` for `abc` and two of them: a tap's column further
is as many elements further on. A register tile is some taps; it holds the gradient of as many rows as there are rows of
taps, and goes along them.

Images are dealt to a number of groups that depends on the shape alone, and the groups' sums are added in order. Around
images lie zeros, which an infinite gradient makes NaN of; by the definition nothing would be there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, lcm

import numpy as np

from hapgop.algorithms import costs, registers
from hapgop.algorithms.layout import vector_counts, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_GROUPS = 32  # enough for any usual number of cores to share out evenly; fixed, so that the bits are
_CHANNELS = 4  # most input channels: each is written anew for every output channel


@dataclass(frozen=True, slots=True)
class PooledGradW(Algorithm):
    """`pooled_grad_w` of layers with few input channels."""

    name: str = "pooled grad_w"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "pooled_grad_w":
            return f"computes the gradient through a pool and a convolution at once, not {problem.op}"
        s = problem.conv
        if problem.dtype not in ("float32", "float64"):
            return f"does not know {problem.dtype}"
        if problem.activation != "relu":
            return "wants a ReLU before the pool"
        for name, layout, channels in (("input", problem.x_layout, s.ic), ("gradient", problem.y_layout, s.oc)):
            if layout != "nhwc" and channels > 1:
                return f"wants channels last, but the {name}'s come first"
        if s.stride != (1, 1) or s.dilation != (1, 1) or s.groups > 1:
            return "knows neither strides nor dilations nor groups"
        if s.ic > _CHANNELS:
            return f"keeps the input once for each output channel, and has no room for {s.ic} input channels"
        if s.oc >= machine.lanes(problem.dtype):
            return "is for few output channels, which fill no vector"
        if sum(_Work.of(problem, machine).private) * problem.itemsize > machine.l2:
            return "keeps an image and its gradient in the second cache, and these are too large"
        return None

    def seconds(self, problem: Problem, machine: Machine) -> float:
        work = _Work.of(problem, machine)
        s = work.shape
        rows, columns = work.taps
        step = costs.step_cycles(rows, columns, machine.vector_bytes) + costs.LOOP
        steps = s.ic * s.ih * work.vectors * ceil(s.kh / rows) * ceil(s.kw / columns)
        written = costs.STORE * (s.ic * s.ih + 2 * s.oh) * work.vectors
        cycles = problem.shape.n * (steps * step + written)
        return cycles / costs.CLOCK + costs.CALL + costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        work = _Work.of(problem, machine)
        rows, columns = work.taps
        return Recipe(
            key=f"pooled_grad_w {work}",
            build=work.kernel,
            sizes=(problem.shape.n,),
            tables=(work.positions,),
            scratch=(work.groups * work.size,),
            private=work.private,
            items=work.groups,
            tiles=f"{rows} x {columns} taps",
        )


@dataclass(frozen=True)
class _Work:
    """What the kernel depends on; the batch is passed at run time. The pooled map is (pooled rows, columns, oc)."""

    problem: Problem
    machine: Machine
    groups: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> _Work:
        s = problem.conv
        return cls(replace(problem, shape=s.with_batch(1)), machine, min(max(s.n, 1), _GROUPS))

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def period(self) -> int:
        """Elements after which a row's vectors have the same output channels in their lanes again."""
        return lcm(self.shape.oc, self.lanes)

    @property
    def phases(self) -> int:
        """Vectors of a period; each has sums of its own."""
        return self.period // self.lanes

    @property
    def vectors(self) -> int:
        """Of a row of the gradient."""
        return ceil(self.shape.ow * self.shape.oc / self.lanes)

    @property
    def g_row(self) -> int:
        """Elements of a row of the gradient, in whole vectors."""
        return self.vectors * self.lanes

    @property
    def x_row(self) -> int:
        """Elements of a row of the input: what the last tap of a row's last vector reads is inside."""
        return ceil((self.g_row + (self.shape.kw - 1) * self.shape.oc) / self.lanes) * self.lanes

    @property
    def above(self) -> int:
        """Rows of zeros above the gradient: those that the last tap of the input's first row reads."""
        return max(0, self.shape.kh - 1 - self.shape.padding[0])

    @property
    def g_rows(self) -> int:
        """Rows of the gradient, with those of zeros."""
        return self.above + max(self.shape.oh, self.shape.ih + self.shape.padding[0])

    @property
    def private(self) -> tuple[int, int]:
        """Elements of an image's input and of its gradient."""
        return self.shape.ic * self.shape.ih * self.x_row, self.g_rows * self.g_row

    @property
    def size(self) -> int:
        """Elements of a group's sums: [ic][kh][kw][phase][lane] of the weights, then [phase][lane] of the bias."""
        return (self.weights + 1) * self.period

    @property
    def weights(self) -> int:
        """Of one output channel."""
        return self.shape.ic * self.shape.kh * self.shape.kw

    @property
    def taps(self) -> tuple[int, int]:
        """(rows, columns) of taps of a tile: their sums, a row of the gradient for each of their rows, an input."""
        s, free = self.shape, self.machine.registers - 1
        fit = [(r, min(s.kw, (free - r) // r)) for r in range(1, s.kh + 1) if 2 * r <= free]
        rows, columns = max(fit, key=lambda tile: (tile[0] * tile[1], tile[0]))
        return registers.balanced(s.kh, rows), registers.balanced(s.kw, columns)

    @property
    def halves(self) -> int:
        """Vectors after which lanes have the same column of their window, and the same output channel, again."""
        return lcm(2 * self.shape.oc, self.lanes) // self.lanes

    @cached_property
    def positions(self) -> np.ndarray:
        """[row of the window][vector of `halves`][lane]: the lane's position in its window."""
        column = np.arange(self.halves * self.lanes) // self.shape.oc % 2
        return np.stack((column, column + 2)).astype(self.problem.dtype).ravel()

    def kernel(self) -> Kernel:
        s = self.shape
        pool = (s.oh // 2) * (s.ow // 2) * s.oc
        k = Builder("pooled_grad_w", self.problem.dtype, self.lanes)
        n = k.size("n", low=0)
        x = k.buffer("x", n * (s.ic * s.ih * s.iw), "in")
        g, z, winners = (k.buffer(name, n * pool, "in") for name in ("g", "z", "winners"))
        dw, db = k.buffer("dw", s.oc * self.weights, "out"), k.buffer("db", s.oc, "out")
        positions = k.buffer("positions", len(self.positions), "in")
        sums = k.buffer("sums", self.groups * self.size, "scratch")
        inside, gradient = (
            k.buffer(name, size, "private") for name, size in zip(("inside", "gradient"), self.private, strict=True)
        )
        with k.stage("sums", ("group", self.groups)) as (group,):
            for buffer, first, size in ((sums, group * self.size, self.size), (inside, 0, 0), (gradient, 0, 0)):
                with k.loop("zero", 0, size or buffer.size, self.lanes) as at:
                    k.store(k.const(0.0), buffer, at + first)
            with k.loop("image", group, n, self.groups) as image:
                self.spread(k, x, inside, image)
                self.unpool(k, (g, z, winners, positions), gradient, image, sums, group * self.size)
                with k.loop("channel", 0, s.ic) as channel:
                    for tile in self.tiles():
                        for phase in range(self.phases):
                            self.add(k, inside, gradient, sums, group * self.size, channel, tile, phase)
        self.total(k, sums, dw, db)
        return k.kernel()

    def spread(self, k: Builder, x: Buffer, inside: Buffer, image: Affine) -> None:
        """The input of an image, each pixel once for each output channel; beside it stay zeros."""
        s, lanes = self.shape, self.lanes
        pixels = self.period // s.oc
        whole, rest = divmod(s.iw, pixels)
        with k.loop("channel", 0, s.ic) as channel, k.loop("row", 0, s.ih) as row:
            at = (image * s.ih + row) * (s.iw * s.ic) + channel
            to = (channel * s.ih + row) * self.x_row + s.padding[2] * s.oc

            def run(first: Affine, columns: int) -> None:
                for v, count in enumerate(vector_counts(columns * s.oc, lanes)):
                    pixel = v * lanes // s.oc
                    order = [(v * lanes + min(lane, count - 1)) // s.oc - pixel for lane in range(lanes)]
                    some = k.load(x, at + (first + pixel) * s.ic, order[-1] + 1, s.ic)
                    k.store(k.permute(some, order), inside, to + first * s.oc + v * lanes, count)

            with k.loop("period", 0, whole) as period:
                run(period * pixels, pixels)
            run(Affine(whole * pixels), rest)

    def unpool(
        self, k: Builder, buffers: tuple[Buffer, ...], gradient: Buffer, image: Affine, sums: Buffer, first: Affine
    ) -> None:
        """The convolution's gradient of an image, and its sum for the bias; zeros stay around it."""
        g, z, winners, positions = buffers
        s, lanes, zero = self.shape, self.lanes, k.const(0.0)
        rows, columns = s.oh // 2, s.ow // 2
        windows = self.halves * lanes // (2 * s.oc)  # of a run of `halves` vectors
        whole, rest = divmod(columns, windows)
        of_bias = [first + self.weights * self.period + phase * lanes for phase in range(self.phases)]
        totals = [k.load(sums, place) for place in of_bias]
        with k.loop("row", 0, rows) as row:
            at = (image * rows + row) * (columns * s.oc)
            to = (row * 2 + self.above) * self.g_row

            def run(window: Affine, count: int) -> None:
                for v, used in enumerate(vector_counts(count * 2 * s.oc, lanes)):
                    dense = range(v * lanes, v * lanes + used)
                    wanted = [lane // (2 * s.oc) * s.oc + lane % s.oc for lane in dense]
                    low, many = min(wanted), max(wanted) + 1 - min(wanted)
                    # Behind a row's end lanes take what was not loaded, which is zero.
                    order = [place - low for place in wanted] + [many] * (lanes - used)
                    here = at + window * s.oc + low
                    through = k.select("above", k.load(z, here, many), zero, k.load(g, here, many), zero)
                    spread, winner = k.permute(through, order), k.permute(k.load(winners, here, many), order)
                    total = totals[v % self.phases]
                    for half in (0, 1):
                        position = k.load(positions, (half * self.halves + v) * lanes)
                        value = k.select("equal", winner, position, spread, zero)
                        k.store(value, gradient, to + half * self.g_row + window * (2 * s.oc) + v * lanes)
                        k.add(total, value, into=total)

            with k.loop("windows", 0, whole) as block:
                run(block * windows, windows)
            run(Affine(whole * windows), rest)
        for place, total in zip(of_bias, totals, strict=True):
            k.store(total, sums, place)

    def tiles(self) -> Iterator[tuple[range, range]]:
        """The taps' rows and columns of each tile."""
        s, (rows, columns) = self.shape, self.taps
        for t in range(0, s.kh, rows):
            for u in range(0, s.kw, columns):
                yield range(t, min(t + rows, s.kh)), range(u, min(u + columns, s.kw))

    def add(
        self, k: Builder, inside: Buffer, gradient: Buffer, sums: Buffer, first: Affine, channel: Affine,
        tile: tuple[range, range], phase: int,
    ) -> None:  # fmt: skip
        """The sums of an image for some taps, of every vector of one phase."""
        s = self.shape
        rows, columns = tile
        of_channel = first + channel * (s.kh * s.kw * self.period) + phase * self.lanes
        places = [[of_channel + (t * s.kw + u) * self.period for u in columns] for t in rows]
        acc = [[k.load(sums, place) for place in line] for line in places]
        with k.loop("row", 0, s.ih) as row, k.loop("vector", phase, self.vectors, self.phases) as vector:
            # Input row `row` meets tap row t in the gradient's row `row + padding - t`.
            at = (row + (self.above + s.padding[0])) * self.g_row + vector * self.lanes
            held = [k.load(gradient, at - t * self.g_row) for t in rows]
            source = (channel * s.ih + row) * self.x_row + vector * self.lanes
            for j, u in enumerate(columns):
                value = k.load(inside, source + u * s.oc)
                for line, g in zip(acc, held, strict=True):
                    k.fma(value, g, line[j], into=line[j])
        for at_row, of_row in zip(places, acc, strict=True):
            for place, value in zip(at_row, of_row, strict=True):
                k.store(value, sums, place)

    def total(self, k: Builder, sums: Buffer, dw: Buffer, db: Buffer) -> None:
        """The groups' sums in order, then the pixels of a period; written in the weights' layout."""
        s = self.shape
        strides = weight_strides(self.problem.w_layout, s.ic, s.kh, s.kw)
        with k.stage("weights", ("channel", s.ic), ("tap_row", s.kh), ("tap_column", s.kw)) as (c, t, u):
            total = self.summed(k, sums, ((c * s.kh + t) * s.kw + u) * self.period)
            k.store(total, dw, c * strides.c + t * strides.h + u * strides.w, s.oc, strides.n)
        with k.stage("bias", ("all", 1)) as (_,):
            k.store(self.summed(k, sums, Affine(self.weights * self.period)), db, 0, s.oc)

    def summed(self, k: Builder, sums: Buffer, at: Affine) -> Register:
        """A vector of the output channels."""
        for phase in range(self.phases):
            total, place = k.load(sums, at + phase * self.lanes), at + phase * self.lanes
            with k.loop("group", 1, self.groups) as group:
                k.add(total, k.load(sums, place + group * self.size), into=total)
            k.store(total, sums, place)
        return _in_pairs(k, [k.load(sums, at + first, self.shape.oc) for first in range(0, self.period, self.shape.oc)])


def _in_pairs(k: Builder, values: Sequence[Register]) -> Register:
    """Their sum; in pairs, for its error to grow with the logarithm of their number."""
    while len(values) > 1:
        odd = values[-1:] if len(values) % 2 else []
        values = [*(k.add(a, b) for a, b in zip(values[::2], values[1::2], strict=False)), *odd]
    return values[0]
