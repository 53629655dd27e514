"""Depthwise convolution: every channel by a filter of its own, vectors along the channels.

A work item takes a strip of rows and goes through its vectors of channels; each is walked down tile by tile, so that
the rows that neighbouring outputs share come from the first cache. The input gradient is the same gather over the
output's gradient. Where images and results are more than the caches can hold, inputs are prefetched a strip ahead and
results are stored past the caches, a line at a time: most of the time then goes to memory, and storing otherwise reads
it first.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from hapgop.algorithms.depthwise_tile import Columns, each_tile, most_taps, reach, row_tiles, tap_row, tile_pixels
from hapgop.algorithms.depthwise_work import Work, channels_first, refusal, seconds
from hapgop.algorithms.epilogue import activated, unfused
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.track import Track
from hapgop.algorithms.turn import turn
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Kernel


@dataclass(frozen=True, slots=True)
class Depthwise(Algorithm):
    """`conv` and `grad_x` with one channel a group."""

    name: str = "depthwise"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in ("conv", "grad_x"):
            return f"computes conv and grad_x, not {problem.op}"
        reason = refusal(problem) or unfused(problem, "residual")
        if reason is not None:
            return reason
        work = Work.of(problem, machine)
        if problem.residual and problem.y_layout == "nchw":
            return "adds a residual where channels come last"
        pixels = tile_pixels(work.cols, problem.conv.kw, machine.registers, work.far)
        if not pixels:
            return f"has no registers for the {len(work.cols)} classes of columns of this stride"
        return None if row_tiles(work.cols, pixels) else "unrolls borders, and this one is too wide"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        return seconds(problem, machine)

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        s = problem.conv
        work = Work.of(problem, machine)
        one = replace(problem, shape=work.shape)
        program = _Program(one, work, machine.registers)
        first, last = program.turned
        return Recipe(
            key=f"depthwise {one} {work} {machine.cpu} {machine.isa} {machine.registers}",
            build=program.kernel,
            sizes=(s.n,),
            scratch=(
                work.packed,
                *([s.n * program.source] if first else []),
                *([s.n * program.target] if last else []),
            ),
            items=s.n * work.strips * work.channel_groups,
            tiles=f"{program.pixels} pixels x 1 vectors",
        )


@dataclass(frozen=True, slots=True)
class _Program:
    """Everything that the kernel depends on (the batch size is passed at run time)."""

    problem: Problem
    work: Work
    registers: int

    @property
    def pixels(self) -> int:
        return tile_pixels(self.work.cols, self.work.shape.kw, self.registers, self.work.far)

    @property
    def source(self) -> int:
        """Elements of an image that is read."""
        s = self.work.shape
        return s.ic * (s.ih * s.iw if self.problem.op == "conv" else s.oh * s.ow)

    @property
    def target(self) -> int:
        """Elements of an image that is written."""
        s = self.work.shape
        return s.ic * (s.oh * s.ow if self.problem.op == "conv" else s.ih * s.iw)

    @property
    def turned(self) -> tuple[bool, bool]:
        """Whether what is read, and what is written, has to be brought from channels first or to it."""
        s, p = self.work.shape, self.problem
        layouts = [(p.x_layout, s.ih * s.iw), (p.y_layout, s.oh * s.ow)]
        if p.op == "grad_x":
            layouts.reverse()
        before, after = (layout == "nchw" and pixels > 1 for layout, pixels in layouts)
        return before, after

    def kernel(self) -> Kernel:
        p, work = self.problem, self.work
        s = work.shape
        k = Builder("depthwise", p.dtype, work.lanes)
        n = k.size("n", low=0)
        names = ("x", "y") if p.op == "conv" else ("g", "dx")
        source, w = k.buffer(names[0], n * self.source, "in"), k.buffer("w", s.ic * work.taps, "in")
        bias = k.buffer("bias", p.biases, "in") if p.biases else None
        target = k.buffer(names[1], n * self.target, "out")
        residual = k.buffer("residual", n * self.target, "in") if p.residual else None
        packed = k.buffer("packed", work.packed, "scratch")
        before, after = self.turned
        given, wanted = source, target
        if before:
            source = k.buffer("source", n * self.source, "scratch")
            turn(k, "channels last", n, given, source, s.ic, self.source // s.ic)
        if after:
            target = k.buffer("target", n * self.target, "scratch")
        _pack(k, work, w, packed)
        _Gather(self, k, source, packed, bias if p.bias else None, target, residual, not after).emit(n)
        if after:
            channels_first(k, "channels first", n, target, wanted, s.ic, self.target // s.ic)
        return k.kernel()


def _pack(k: Builder, work: Work, w: Buffer, packed: Buffer) -> None:
    """Weights as [vector of channels][tap][lane]."""
    taps, lanes, channels = work.taps, work.lanes, work.shape.ic
    for label, first, vectors, used in (
        ("pack", 0, channels // lanes, lanes),
        ("pack tail", channels // lanes, 1 if channels % lanes else 0, channels % lanes),
    ):
        if not vectors:
            continue
        with k.stage(label, ("vector", vectors)) as (vector,):
            start = (vector + first) * (lanes * taps)
            done = taps - taps % lanes
            with k.loop("square", 0, done, lanes) as tap:
                _square(k, w, packed, start, tap, taps, used, lanes)
            if done < taps:
                _square(k, w, packed, start, Affine(done), taps, used, taps - done)


def _square(
    k: Builder, w: Buffer, packed: Buffer, start: Affine, tap: Affine, taps: int, used: int, count: int
) -> None:
    rows = [k.load(w, start + i * taps + tap, count) for i in range(used)]
    for i, column in enumerate(k.transpose(rows)[:count]):
        k.store(column, packed, start + (tap + i) * k.lanes)


@dataclass(slots=True)
class _Gather:
    """Writes the stage that computes."""

    program: _Program
    k: Builder
    source: Buffer
    weights: Buffer
    bias: Buffer | None
    target: Buffer
    residual: Buffer | None
    last: bool

    @property
    def in_width(self) -> int:
        """Columns of an image that is read."""
        s = self.program.work.shape
        return s.iw if self.program.problem.op == "conv" else s.ow

    def emit(self, n: Affine) -> None:
        k, work = self.k, self.program.work
        tiles = row_tiles(work.cols, self.program.pixels)
        assert tiles is not None
        grid = (("image", n), ("strip", work.strips), ("channels", work.channel_groups))
        with k.stage("gather", *grid) as (image, strip, group):
            full, rest = divmod(work.shape.ic, work.lanes)
            with k.loop("vector", group * work.per_group, [group * work.per_group + work.per_group, full]) as v:
                each_tile(k, tiles, partial(self.down, image, strip, v, work.lanes))
            if rest:
                # The last group's: a loop that runs once there and not at all elsewhere.
                with k.loop("tail", [0, work.channel_groups - 1 - group], 1):
                    each_tile(k, tiles, partial(self.down, image, strip, Affine(full), rest))

    def down(self, image: Affine, strip: Affine, vector: Affine, count: int, column: Affine, columns: Columns) -> None:
        """A tile's columns, over the rows of the strip."""
        k, work = self.k, self.program.work
        first, size = strip * work.strip, work.strip
        with k.loop("row", first, [first + size, work.height]) as row:
            if work.far:
                tile = vector * (size * work.width) + column * size + (row - first) * columns.pixels
                longest = max(work.rows, key=lambda track: track.taps)
                width, step = self.in_width * work.shape.ic, longest.in_step * work.cols[0].in_step
                line = image * self.program.source + longest.source(first + size, longest.taps - 1) * width
                work.fetch(k, self.source, line, tile * step, columns.pixels * step)
            for track in work.rows:
                if track.count == work.height:
                    self.tile(image, track, row, vector, count, column, columns)
                    continue
                with k.loop("this", row, [row + 1, track.count]) as this:
                    self.tile(image, track, this, vector, count, column, columns)

    def tile(
        self, image: Affine, track: Track, row: Affine, vector: Affine, count: int, column: Affine, columns: Columns
    ) -> None:
        k, work, p = self.k, self.program.work, self.program.problem
        s, channel = work.shape, vector * work.lanes
        out_width = s.ow if p.op == "conv" else s.iw
        met = reach(work.cols, columns)
        # Loaded for each output rather than copied: loads are what there is room for.
        acc = [k.const(0.0) if self.bias is None else k.load(self.bias, channel, count) for _ in met.outputs]
        in_step = work.cols[0].in_step
        origin = image * self.program.source + channel + column * (in_step * s.ic)
        if track.taps:
            with k.loop("tap", *track.tap_range(row)) as tap:
                line = origin + track.source(row, tap) * (self.in_width * s.ic)
                at = (vector * work.taps + (track.tap_first + tap * track.tap_step) * s.kw) * work.lanes
                tap_row(
                    k,
                    met,
                    most_taps(s.kw, self.program.registers),
                    lambda u: k.load(self.weights, at + u * work.lanes),
                    lambda c: k.load(self.source, line + c * s.ic, count),
                    acc,
                )
        line = image * self.program.target + channel + (row * track.out_step + track.out_first) * (out_width * s.ic)
        streaming = self.last and work.past
        for (i, pixel), value in zip(met.outputs, acc, strict=True):
            to = line + ((column + pixel) * work.cols[i].out_step + work.cols[i].out_first) * s.ic
            if self.residual is not None:
                value = k.add(value, k.load(self.residual, to, count))
            k.store(activated(k, value, p.activation), self.target, to, count, streaming=streaming)
