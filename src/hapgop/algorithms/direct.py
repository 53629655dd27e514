"""Direct convolution: plain sums, register tiles, weights packed, no copy of the input.

A tile is some pixels of an output row times some vectors of output channels. For each tap and input channel it loads
the vectors of weights, broadcasts each pixel's input, and multiplies and adds. Border pixels skip the taps that fall
into the padding: nothing is ever padded in memory. The input gradient is the same gather over the output's gradient,
one for each residue class of the stride (`track`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import registers
from hapgop.algorithms.layout import Strides, image_strides, vector_counts, weight_strides
from hapgop.algorithms.packing import Packing
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.segments import Segment, segments
from hapgop.algorithms.track import Track, backward, forward
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_UNROLL = 4  # small basic blocks: unrolled fully, LLVM would keep too much alive and spill


@dataclass(frozen=True, slots=True)
class Gather:
    """One pass over some outputs: all of a convolution's, or one residue class of an input gradient's.

    source, target     the strides of what is read and of what is written
    skipped            pixels before the first one
    """

    rows: Track
    cols: Track
    packing: Packing
    pixels: int
    source: Strides
    target: Strides
    skipped: int = 0


@dataclass(frozen=True, slots=True)
class Direct(Algorithm):
    """`conv` and `grad_x` of every shape."""

    name: str = "direct"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        return None if problem.op in ("conv", "grad_x") else f"computes conv and grad_x, not {problem.op}"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        assert isinstance(problem.shape, ConvShape)
        lanes = machine.lanes(problem.dtype)
        per_group = problem.shape.oc // problem.shape.groups
        if problem.op == "grad_x":
            per_group = problem.shape.ic // problem.shape.groups
        used = per_group / (len(vector_counts(per_group, lanes)) * lanes)
        return problem.shape.flops / (registers.PEAK_PER_LANE * lanes * used) + 1e-6

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        assert isinstance(problem.shape, ConvShape)
        program = _Program.of(problem, machine)
        gathers = program.gathers()
        first = gathers[0]
        return Recipe(
            key=f"direct {program!r}",
            build=program.kernel,
            sizes=(program.batch,),
            scratch=tuple(max(g.packing.size, 1) for g in gathers),
            items=max(program.batch * program.items(g) for g in gathers),
            tiles=f"{first.pixels} pixels x {first.packing.vectors} vectors",
        )


@dataclass(frozen=True, slots=True)
class _Program:
    """Everything that the kernel depends on (the batch size is passed at run time)."""

    problem: Problem
    machine: Machine
    batch: int
    splits: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> _Program:
        assert isinstance(problem.shape, ConvShape)
        shape = problem.shape
        batch = shape.n
        if problem.x_layout == problem.y_layout == "nhwc" and _is_pointwise(shape):
            # A 1x1 filter sees no rows: few pixels an image are put end to end, so that tiles can be full.
            if shape.ih * shape.iw < 28 and shape.n > 1:
                shape, batch = replace(shape, n=1, ih=1, iw=shape.n * shape.ih * shape.iw), 1
            else:
                shape = replace(shape, ih=1, iw=shape.ih * shape.iw)
        # Enough items for every core to get several, and no finer than that.
        splits = max(1, ceil(4 * machine.cores / batch))
        return cls(replace(problem, shape=shape.with_batch(1)), machine, batch, splits)

    @property
    def shape(self) -> ConvShape:
        assert isinstance(self.problem.shape, ConvShape)
        return self.problem.shape

    def __repr__(self) -> str:
        m = self.machine
        return f"{self.problem} {m.cpu} {m.isa} {m.registers} splits={self.splits}"

    def gathers(self) -> list[Gather]:
        s, lanes = self.shape, self.machine.lanes(self.problem.dtype)
        oc, ic = s.oc // s.groups, s.ic // s.groups
        vertical = (s.ih, s.kh, s.stride[0], s.padding[0], s.dilation[0], s.oh)
        horizontal = (s.iw, s.kw, s.stride[1], s.padding[2], s.dilation[1], s.ow)
        if self.problem.op == "conv":
            pairs = [(forward(*vertical), forward(*horizontal))]
        else:
            pairs = [(r, c) for r in backward(*vertical) for c in backward(*horizontal)]
            oc, ic = ic, oc
        vectors = len(vector_counts(oc, lanes))
        source = image_strides(self.problem.x_layout, s.ic, s.ih, s.iw)
        target = image_strides(self.problem.y_layout, s.oc, s.oh, s.ow)
        if self.problem.op == "grad_x":
            source, target = target, source
        out = []
        for rows, cols in pairs:
            pixels, block = registers.choose_tile(cols.count, vectors, self.machine)
            packing = Packing(s.groups, oc, ic, rows.taps, cols.taps, lanes, block)
            gather = Gather(rows, cols, packing, pixels, source, target)
            out += _cut(gather) if self.flat else [gather]
        return out

    @property
    def flat(self) -> bool:
        """Whether the image is one row of pixels that see only themselves, to be cut at will."""
        p = self.problem
        return p.x_layout == p.y_layout == "nhwc" and _is_pointwise(self.shape) and self.shape.ih == 1

    def items(self, g: Gather) -> int:
        return self.shape.groups * self.row_groups(g) * self.block_groups(g)

    def row_groups(self, g: Gather) -> int:
        return ceil(g.rows.count / self.rows_per_group(g))

    def rows_per_group(self, g: Gather) -> int:
        return ceil(g.rows.count / min(g.rows.count, self.splits))

    def blocks_per_group(self, g: Gather) -> int:
        """Blocks of channels that one item goes through: all, unless there are too few rows to share out."""
        wanted = ceil(self.splits / self.row_groups(g))
        return ceil(max(g.packing.blocks, 1) / wanted)

    def block_groups(self, g: Gather) -> int:
        return ceil(max(g.packing.blocks, 1) / self.blocks_per_group(g))

    # The program

    def kernel(self) -> Kernel:
        p, s = self.problem, self.shape
        k = Builder("direct", p.dtype, self.machine.lanes(p.dtype))
        n = k.size("n")
        x_size, y_size = n * (s.ic * s.ih * s.iw), n * (s.oc * s.oh * s.ow)
        w_size = s.oc * (s.ic // s.groups) * s.kh * s.kw
        gathers = self.gathers()
        if p.op == "conv":
            source, w = k.buffer("x", x_size, "in"), k.buffer("w", w_size, "in")
            bias = k.buffer("bias", s.oc, "in")
            target = k.buffer("y", y_size, "out")
        else:
            source, w = k.buffer("g", y_size, "in"), k.buffer("w", w_size, "in")
            bias = None
            target = k.buffer("dx", x_size, "out")
        packed = [k.buffer(f"packed{i}", max(g.packing.size, 1), "scratch") for i, g in enumerate(gathers)]
        w_strides = weight_strides(p.w_layout, s.ic // s.groups, s.kh, s.kw)
        for i, g in enumerate(gathers):
            g.packing.emit(k, str(i), w, packed[i], w_strides, p.op == "grad_x", g.rows, g.cols)
        for i, g in enumerate(gathers):
            _Pass(self, k, g, source, packed[i], bias if p.bias else None, target).emit(f"gather {i}", n)
        return k.kernel()


def _cut(g: Gather) -> list[Gather]:
    """One long row of pixels that see only themselves, as rows of one tile each, and what is left over."""
    full, rest = divmod(g.cols.count, g.pixels)
    out = []
    if full:
        rows, cols = replace(g.rows, count=full, in_size=full), replace(g.cols, count=g.pixels, in_size=g.pixels)
        source = replace(g.source, h=g.pixels * g.source.w)
        target = replace(g.target, h=g.pixels * g.target.w)
        out.append(replace(g, rows=rows, cols=cols, source=source, target=target))
    if rest:
        cols = replace(g.cols, count=rest, in_size=rest)
        out.append(replace(g, cols=cols, pixels=rest, skipped=full * g.pixels))
    return out


def _is_pointwise(s: ConvShape) -> bool:
    return (s.kh, s.kw) == (1, 1) and s.stride == (1, 1) and s.padding == (0, 0, 0, 0)


@dataclass(slots=True)
class _Pass:
    """Writes the stage of one gather."""

    program: _Program
    k: Builder
    gather: Gather
    source: Buffer
    packed: Buffer
    bias: Buffer | None
    target: Buffer

    def emit(self, label: str, n: Affine) -> None:
        k, g, program = self.k, self.gather, self.program
        groups, row_groups, block_groups = program.shape.groups, program.row_groups(g), program.block_groups(g)
        grid = (("image", n), ("group", groups), ("rows", row_groups), ("blocks", block_groups))
        with k.stage(label, *grid) as (image, group, rows, blocks):
            per_group, full = program.blocks_per_group(g), g.packing.blocks
            if full:
                # A block's weights stay in the cache while the rows stream by.
                with k.loop("block", blocks * per_group, [blocks * per_group + per_group, full]) as block:
                    self.rows(image, group, rows, block, (g.packing.lanes,) * g.packing.vectors)
            if g.packing.tail:
                # The narrower block is the last item's: a loop that runs once there and not at all elsewhere.
                with k.loop("tail", [0, block_groups - 1 - blocks], 1):
                    self.rows(image, group, rows, Affine(full), g.packing.tail)

    def rows(self, image: Affine, group: Affine, rows: Affine, block: Affine, counts: tuple[int, ...]) -> None:
        g, per_group = self.gather, self.program.rows_per_group(self.gather)
        with self.k.loop("row", rows * per_group, [rows * per_group + per_group, g.rows.count]) as row:
            for segment in segments(g.cols, g.pixels):
                if segment.stop - segment.start > segment.pixels:
                    with self.k.loop("column", segment.start, segment.stop, segment.pixels) as column:
                        self.tile(image, group, row, column, segment, block, counts)
                else:
                    self.tile(image, group, row, Affine(segment.start), segment, block, counts)

    def tile(
        self,
        image: Affine,
        group: Affine,
        row: Affine,
        column: Affine,
        segment: Segment,
        block: Affine,
        counts: tuple[int, ...],
    ) -> None:
        """All taps of one register tile, then bias, activation and the store."""
        k, g, packing = self.k, self.gather, self.gather.packing
        acc = [[k.const(0.0) for _ in counts] for _ in range(segment.pixels)]
        if packing.depth:
            width = len(counts) * packing.lanes
            weights = packing.block(group, block)
            origin = image * g.source.n + group * (packing.ic * g.source.c) + g.skipped * g.source.w
            if g.rows.always_inside and g.rows.taps == 1:
                self.taps(acc, origin, row, Affine(0), column, segment, weights, width)
            else:
                with k.loop("tap", *g.rows.tap_range(row)) as t:
                    self.taps(acc, origin, row, t, column, segment, weights, width)
        self.finish(acc, image, group, row, column, block, counts)

    def taps(
        self,
        acc: list[list[Register]],
        origin: Affine,
        row: Affine,
        t: Affine,
        column: Affine,
        segment: Segment,
        weights: Affine,
        width: int,
    ) -> None:
        """One row of taps."""
        g, packing, from_ = self.gather, self.gather.packing, self.gather.source
        line = origin + g.rows.source(row, t) * from_.h
        weights = weights + t * (packing.tap_cols * packing.ic * width)
        pixels = range(segment.pixels)
        if segment.dynamic:
            low, high = g.cols.tap_range(column)
            with self.k.loop("tap_column", low, high) as u:
                at = line + g.cols.source(column, u) * from_.w
                self.channels(acc, [(0, at)], weights + u * (packing.ic * width), packing.ic, from_.c, width)
            return
        starts = [(p, line + g.cols.source(column + p, 0) * from_.w) for p in pixels]
        if segment.interior and from_.c == 1 and g.cols.in_tap * from_.w == packing.ic:
            # Tap columns and channels are one contiguous axis of the input, as they are of the packed weights.
            self.channels(acc, starts, weights, packing.tap_cols * packing.ic, 1, width)
            return
        for column_tap in range(packing.tap_cols):
            used = [
                (p, at + column_tap * g.cols.in_tap * from_.w)
                for p, at in starts
                if segment.interior or g.cols.valid(segment.start + p, column_tap)
            ]
            if used:
                at_tap = weights + column_tap * (packing.ic * width)
                self.channels(acc, used, at_tap, packing.ic, from_.c, width)

    def channels(
        self,
        acc: list[list[Register]],
        starts: list[tuple[int, Affine]],
        weights: Affine,
        depth: int,
        stride: int,
        width: int,
    ) -> None:
        """acc[p] += sum over c < depth of source[starts[p] + c * stride] * weights[c]."""
        k, lanes = self.k, self.gather.packing.lanes
        unroll = max(u for u in range(1, _UNROLL + 1) if depth % u == 0)
        if depth <= _UNROLL:
            self.steps(acc, starts, weights, Affine(0), depth, stride, width, lanes)
            return
        with k.loop("channel", 0, depth, unroll) as c:
            self.steps(acc, starts, weights, c, unroll, stride, width, lanes)

    def steps(
        self,
        acc: list[list[Register]],
        starts: list[tuple[int, Affine]],
        weights: Affine,
        c: Affine,
        count: int,
        stride: int,
        width: int,
        lanes: int,
    ) -> None:
        k = self.k
        for u in range(count):
            at = weights + (c + u) * width
            w = [k.load(self.packed, at + v * lanes) for v in range(width // lanes)]
            for p, start in starts:
                x = k.broadcast(self.source, start + (c + u) * stride)
                for v, weight in enumerate(w):
                    k.fma(x, weight, acc[p][v], into=acc[p][v])

    def finish(
        self,
        acc: list[list[Register]],
        image: Affine,
        group: Affine,
        row: Affine,
        column: Affine,
        block: Affine,
        counts: tuple[int, ...],
    ) -> None:
        k, g, to, packing = self.k, self.gather, self.gather.target, self.gather.packing
        channel = group * packing.oc + block * packing.width
        zero = k.const(0.0) if self.program.problem.activation == "relu" else None
        bias = None
        if self.bias is not None:
            bias = [k.load(self.bias, channel + v * packing.lanes, c) for v, c in enumerate(counts)]
        line = image * to.n + (row * g.rows.out_step + g.rows.out_first) * to.h + channel * to.c + g.skipped * to.w
        for p, vectors in enumerate(acc):
            at = line + ((column + p) * g.cols.out_step + g.cols.out_first) * to.w
            for v, count in enumerate(counts):
                value = vectors[v]
                if bias is not None:
                    value = k.add(value, bias[v])
                if zero is not None:
                    value = k.max(value, zero)
                k.store(value, self.target, at + v * packing.lanes * to.c, count, to.c)
