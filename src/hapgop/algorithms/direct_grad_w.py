"""The weight gradient by plain sums: each weight is the sum over all pixels of input times output gradient.

A register tile is some (tap column, input channel) pairs times some vectors of output channels; the inner loop runs
over the pixels of a row, loads the vectors of the gradient, and broadcasts the input that each pair meets there.
Threads share out tiles and groups of images, never the terms of one sum in an order that depends on them: the images
are dealt to a number of groups that depends on the shape alone, and the groups' sums are added in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import registers
from hapgop.algorithms.layout import image_strides, vector_counts, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.track import Track, forward
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_ITEMS = 32  # enough for any usual number of cores to share out evenly; fixed, so that the bits are
_MOST_GROUPS = 16
_BORDER_COLUMNS = 16  # more border columns than this are not unrolled


@dataclass(frozen=True, slots=True)
class DirectGradW(Algorithm):
    """`grad_w` of every shape."""

    name: str = "direct grad_w"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        return None if problem.op == "grad_w" else f"computes grad_w, not {problem.op}"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        assert isinstance(problem.shape, ConvShape)
        lanes = machine.lanes(problem.dtype)
        oc = problem.shape.oc // problem.shape.groups
        used = oc / (len(vector_counts(oc, lanes)) * lanes)
        return problem.shape.flops / (registers.PEAK_PER_LANE * lanes * used) + 2e-6

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        program = _Program.of(problem, machine)
        return Recipe(
            key=f"direct_grad_w {program.image_groups} {program.row_block} {program.problem} {machine}",
            build=program.kernel,
            sizes=(program.batch,),
            scratch=(program.sums_size * program.image_groups, program.turned_size(program.batch)),
            items=program.image_groups * program.tiles,
            tiles=f"{program.pairs} pairs x {program.vectors} vectors",
        )


@dataclass(frozen=True, slots=True)
class _Program:
    problem: Problem
    machine: Machine
    batch: int
    image_groups: int
    row_block: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> _Program:
        assert isinstance(problem.shape, ConvShape)
        s, batch = problem.shape, problem.shape.n
        if problem.x_layout == problem.y_layout == "nhwc" and s.kh == s.kw == s.ih == s.iw == 1 and s.n > 1:
            # A batch of single pixels is an image of as many: the inner loop runs over the batch.
            s, batch = replace(s, n=1, iw=s.n, padding=(0, 0, 0, 0), stride=(1, 1)), 1
        # As many rows at a time as leave input and gradient in half of the second cache.
        row_bytes = problem.itemsize * (s.iw * s.ic * s.stride[0] + s.ow * s.oc)
        row_block = min(s.oh, max(1, machine.l2 // 2 // row_bytes))
        one = cls(replace(problem, shape=s.with_batch(1)), machine, batch, 1, row_block)
        groups = min(batch, _MOST_GROUPS, ceil(_ITEMS / one.tiles))
        return replace(one, image_groups=groups)

    @property
    def shape(self) -> ConvShape:
        assert isinstance(self.problem.shape, ConvShape)
        return self.problem.shape

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def oc(self) -> int:
        return self.shape.oc // self.shape.groups

    @property
    def ic(self) -> int:
        return self.shape.ic // self.shape.groups

    @property
    def counts(self) -> tuple[int, ...]:
        return vector_counts(self.oc, self.lanes)

    @property
    def cols(self) -> Track:
        s = self.shape
        return forward(s.iw, s.kw, s.stride[1], s.padding[2], s.dilation[1], s.ow)

    @property
    def rows(self) -> Track:
        s = self.shape
        return forward(s.ih, s.kh, s.stride[0], s.padding[0], s.dilation[0], s.oh)

    @property
    def narrow(self) -> bool:
        """Few input channels: a tile's pairs run over the tap columns too, so that it is large enough."""
        first, last = self.cols.interior
        border = self.shape.ow - (last - first)
        few = self.ic < 8 and self.shape.kw * self.ic <= self.machine.registers - 3
        return few and self.shape.kw > 1 and border <= _BORDER_COLUMNS

    @property
    def tile(self) -> tuple[int, int]:
        """(pairs, vectors) of a register tile."""
        if self.narrow:
            pairs = self.shape.kw * self.ic
            most = (self.machine.registers - 1) // (pairs + 1)
            return pairs, max(1, min(most, len(self.counts), 4))
        return registers.choose_tile(self.ic, len(self.counts), self.machine)

    @property
    def pairs(self) -> int:
        return self.tile[0]

    @property
    def vectors(self) -> int:
        return self.tile[1]

    @property
    def whole_blocks(self) -> int:
        return self.oc // (self.vectors * self.lanes)

    @property
    def tail(self) -> tuple[int, ...]:
        """Lanes used by each vector of the last, narrower block; empty where there is none."""
        return vector_counts(self.oc % (self.vectors * self.lanes), self.lanes)

    @property
    def blocks(self) -> int:
        return self.whole_blocks + bool(self.tail)

    @property
    def tiles(self) -> int:
        s = self.shape
        across = 1 if self.narrow else s.kw * ceil(self.ic / self.pairs)
        return s.groups * s.kh * across * self.blocks

    @property
    def padded(self) -> int:
        """Output channels of a group, in whole vectors."""
        return len(self.counts) * self.lanes

    @property
    def sums_size(self) -> int:
        """Elements of one image group's sums: [group][kh][kw][ic][padded oc]."""
        return self.shape.groups * self.shape.kh * self.shape.kw * self.ic * self.padded

    @property
    def turns(self) -> bool:
        """Whether the gradient is first laid out with its channels last, for whole vectors to be loaded."""
        return self.problem.y_layout == "nchw" and self.shape.oc > 1 and self.shape.oh * self.shape.ow > 1

    def turned_size(self, batch: int) -> int:
        return batch * self.shape.oc * self.shape.oh * self.shape.ow if self.turns else 1

    def kernel(self) -> Kernel:
        p, s = self.problem, self.shape
        k = Builder("direct_grad_w", p.dtype, self.lanes)
        n = k.size("n")
        pixels = s.oh * s.ow
        x = k.buffer("x", n * (s.ic * s.ih * s.iw), "in")
        g = k.buffer("g", n * (s.oc * pixels), "in")
        dw = k.buffer("dw", s.oc * self.ic * s.kh * s.kw, "out")
        sums = k.buffer("sums", self.image_groups * self.sums_size, "scratch")
        turned = k.buffer("turned", n * (s.oc * pixels) if self.turns else 1, "scratch")
        if self.turns:
            with k.stage("channels last", ("image", n), ("row", s.oh)) as (image, row):
                line = image * (s.oc * pixels)
                with k.loop("column", 0, s.ow) as column:
                    for v, count in enumerate(vector_counts(s.oc, self.lanes)):
                        at = line + row * s.ow + column + v * self.lanes * pixels
                        to = line + (row * s.ow + column) * s.oc + v * self.lanes
                        k.store(k.load(g, at, count, pixels), turned, to, count)
            g = turned
        with k.stage("zero", ("row", self.image_groups * self.sums_size // self.lanes)) as (row,):
            k.store(k.const(0.0), sums, row * self.lanes)
        self.emit_sums(k, n, x, g, sums)
        self.emit_total(k, sums, dw)
        return k.kernel()

    def emit_sums(self, k: Builder, n: Affine, x: Buffer, g: Buffer, sums: Buffer) -> None:
        s = self.shape
        full, rest = divmod(self.ic, self.pairs) if not self.narrow else (1, 0)
        columns = 1 if self.narrow else s.kw
        # One image group's images are every `image_groups`-th: a thread does its tiles for one image, then the next.
        around = (("base", 0, n, self.image_groups), ("rows", 0, s.oh, self.row_block))
        for name, count, pairs, first in (
            ("sums", full, self.pairs, 0),
            ("sums tail", 1 if rest else 0, rest, full * self.pairs),
        ):
            if not count:
                continue
            grid = (
                ("images", self.image_groups),
                ("group", s.groups),
                ("tap_row", s.kh),
                ("tap_column", columns),
                ("pairs", count),
                ("block", self.blocks),
            )
            with k.stage(name, *grid, repeat=around) as (base, rows, images, group, kh, kw, pair, block):
                with k.loop("image", base + images, [n, base + images + 1]) as image:
                    tap = (group * s.kh + kh) * s.kw + kw
                    ic = first + pair * self.pairs
                    # A loop of one turn, for whole blocks or for the narrower last one.
                    first_narrow, every = Affine(self.whole_blocks), (self.lanes,) * self.vectors
                    for low, high, lanes in (
                        ((block,), (block + 1, first_narrow), every if self.whole_blocks else ()),
                        ((block, first_narrow), (block + 1,), self.tail),
                    ):
                        if not lanes:
                            continue
                        with k.loop("this", low, high) as b:
                            vector = b * self.vectors
                            to = images * self.sums_size + (tap * self.ic + ic) * self.padded + vector * self.lanes
                            one = _Tile(self, k, x, g, pairs, lanes)
                            one.emit(sums, to, image, rows, group, kh, kw, ic, vector)

    def emit_total(self, k: Builder, sums: Buffer, dw: Buffer) -> None:
        """Adds the image groups' sums in order, and writes them in the weights' layout."""
        s = self.shape
        strides = weight_strides(self.problem.w_layout, self.ic, s.kh, s.kw)
        grid = (("group", s.groups), ("tap_row", s.kh), ("tap_column", s.kw), ("ic", self.ic))
        with k.stage("total", *grid) as (group, kh, kw, ic):
            at = (((group * s.kh + kh) * s.kw + kw) * self.ic + ic) * self.padded
            to = group * (self.oc * strides.n) + ic * strides.c + kh * strides.h + kw * strides.w
            for low, high, count in _runs(self.counts):
                with k.loop("vector", low, high) as v:
                    total = k.load(sums, at + v * self.lanes)
                    for i in range(1, self.image_groups):
                        total = k.add(total, k.load(sums, at + v * self.lanes + i * self.sums_size))
                    k.store(total, dw, to + v * (self.lanes * strides.n), count, strides.n)


def _runs(counts: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(first, last + 1, lanes) of equal vectors: (16, 16, 8) is [(0, 2, 16), (2, 3, 8)]."""
    out: list[tuple[int, int, int]] = []
    for i, count in enumerate(counts):
        if out and out[-1][2] == count:
            out[-1] = (out[-1][0], i + 1, count)
        else:
            out.append((i, i + 1, count))
    return out


@dataclass(slots=True)
class _Tile:
    """Writes one register tile: its sums over a block of rows of one image, added to what memory holds."""

    program: _Program
    k: Builder
    x: Buffer
    g: Buffer
    pairs: int
    counts: tuple[int, ...]

    def emit(
        self,
        sums: Buffer,
        to: Affine,
        image: Affine,
        rows: Affine,
        group: Affine,
        kh: Affine,
        kw: Affine,
        ic: Affine,
        vector: Affine,
    ) -> None:
        k, program, s = self.k, self.program, self.program.shape
        places = [
            to + i * program.padded + v * program.lanes for i in range(self.pairs) for v in range(len(self.counts))
        ]
        flat = [k.load(sums, place) for place in places]
        width = len(self.counts)
        acc = [flat[i * width : i * width + width] for i in range(self.pairs)]
        x_strides = image_strides(program.problem.x_layout, s.ic, s.ih, s.iw)
        g_strides = image_strides("nhwc" if program.turns else program.problem.y_layout, s.oc, s.oh, s.ow)
        x_base = image * x_strides.n + (group * program.ic + ic) * x_strides.c
        g_base = image * g_strides.n + (group * program.oc + vector * program.lanes) * g_strides.c
        with k.loop("row", *self.rows(rows, kh)) as row:
            x_row = x_base + program.rows.source(row, kh) * x_strides.h
            g_row = g_base + row * g_strides.h
            if program.narrow:
                self.narrow_row(acc, x_row, g_row, x_strides.w, x_strides.c, g_strides.w, g_strides.c)
            else:
                offsets = [(i, i * x_strides.c) for i in range(self.pairs)]
                with k.loop("column", *_outputs(program.cols, kw)) as column:
                    at = x_row + program.cols.source(column, kw) * x_strides.w
                    self.step(acc, at, g_row + column * g_strides.w, offsets, g_strides.c)
        for place, value in zip(places, flat, strict=True):
            k.store(value, sums, place)

    def rows(self, rows: Affine, kh: Affine) -> tuple[list[Affine], list[Affine]]:
        """Output rows of the block for which tap row kh is inside."""
        low, high = _outputs(self.program.rows, kh)
        return [rows, *low], [rows + self.program.row_block, *high]

    def narrow_row(
        self,
        acc: list[list[Register]],
        x_row: Affine,
        g_row: Affine,
        x_step: int,
        channel: int,
        g_step: int,
        g_lane: int,
    ) -> None:
        """All tap columns at once: border outputs one by one with the taps that are inside, the rest in a loop."""
        program, cols = self.program, self.program.cols
        every = [
            (u * program.ic + c, u * cols.in_tap * x_step + c * channel)
            for u in range(cols.taps)
            for c in range(program.ic)
        ]
        first, last = cols.interior
        for q in [*range(first), *range(last, cols.count)]:
            offsets = [(i, at) for i, at in every if cols.valid(q, i // program.ic)]
            if offsets:
                self.step(acc, x_row + cols.source(q, 0) * x_step, g_row + q * g_step, offsets, g_lane)
        if first < last:
            with self.k.loop("column", first, last) as q:
                self.step(acc, x_row + cols.source(q, 0) * x_step, g_row + q * g_step, every, g_lane)

    def step(
        self,
        acc: list[list[Register]],
        x_at: Affine,
        g_at: Affine,
        offsets: list[tuple[int, int]],
        g_lane: int,
    ) -> None:
        """One pixel: acc[pair] += x[pair] * g."""
        k, lanes = self.k, self.program.lanes
        g = [k.load(self.g, g_at + v * lanes * g_lane, c, g_lane) for v, c in enumerate(self.counts)]
        for i, offset in offsets:
            x = k.broadcast(self.x, x_at + offset)
            for v, value in enumerate(g):
                k.fma(x, value, acc[i][v], into=acc[i][v])


def _outputs(track: Track, tap: Affine) -> tuple[list[Affine], list[Affine]]:
    """(lows, highs) of the outputs for which a tap is inside: 0 <= q * in_step + in_first + tap * in_tap < in_size."""
    if track.always_inside:
        return [Affine(0)], [Affine(track.count)]
    offset = tap * track.in_tap + track.in_first
    low = -(offset // track.in_step)
    high = (track.in_size - offset + (track.in_step - 1)) // track.in_step
    return [Affine(0), low], [Affine(track.count), high]
