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
from hapgop.algorithms.direct_tile import Buffers, Gather, Tile
from hapgop.algorithms.layout import Count, image_strides, vector_counts, weight_strides
from hapgop.algorithms.packing import Counts, Packing
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe
from hapgop.algorithms.segments import Segment, segments
from hapgop.algorithms.shares import Shares, splits
from hapgop.algorithms.track import backward, forward
from hapgop.algorithms.turn import turn
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel

_RAW_TILES = 8  # weights that fewer tiles read are not worth packing


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
            key=f"direct {program!r} raw={[g.packing.raw for g in gathers]}",
            build=program.kernel,
            sizes=(program.batch,),
            scratch=tuple(size for _, size in program.scratch(program.batch)),
            items=max(program.batch * program.shares(g).items for g in gathers),
            tiles=f"{first.pixels} pixels x {first.packing.vectors} vectors",
            pack=program.pack() if problem.packed else None,
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
        if _is_pointwise(shape):
            # A 1x1 filter sees no rows: few pixels an image are put end to end, so that tiles can be full.
            last = problem.x_layout == problem.y_layout == "nhwc"
            if last and shape.ih * shape.iw < 28 and shape.n > 1:
                shape, batch = replace(shape, n=1, ih=1, iw=shape.n * shape.ih * shape.iw), 1
            else:
                shape = replace(shape, ih=1, iw=shape.ih * shape.iw)
        return cls(replace(problem, shape=shape.with_batch(1)), machine, batch, splits(batch, machine))

    @property
    def shape(self) -> ConvShape:
        assert isinstance(self.problem.shape, ConvShape)
        return self.problem.shape

    def __repr__(self) -> str:
        m = self.machine
        return f"{self.problem} {m.cpu} {m.isa} {m.vector_bytes} {m.registers} splits={self.splits}"

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
        x_layout, y_layout = self.problem.x_layout, self.problem.y_layout
        if self.problem.op == "conv":
            source, target = image_strides("nhwc", s.ic, s.ih, s.iw), image_strides(y_layout, s.oc, s.oh, s.ow)
        else:
            source, target = image_strides("nhwc", s.oc, s.oh, s.ow), image_strides(x_layout, s.ic, s.ih, s.iw)
        weights, swap = weight_strides(self.problem.w_layout, s.ic // s.groups, s.kh, s.kw), self.problem.op == "grad_x"
        out_stride = weights.c if swap else weights.n
        out = []
        for rows, cols in pairs:
            pixels, block = registers.choose_tile(cols.count, vectors, self.machine)
            tiles = rows.count * ceil(cols.count / pixels) * self.batch
            raw = tiles <= _RAW_TILES and out_stride == 1 and not self.problem.packed
            packing = Packing(s.groups, oc, ic, rows, cols, weights, swap, lanes, block, raw)
            # The accumulators that are still waiting, and a square of results.
            turns = pixels * block - min(pixels, lanes) + lanes < self.machine.registers
            gather = Gather(rows, cols, packing, pixels, source, target, turns=turns)
            out += _cut(gather) if self.flat else [gather]
        return out

    def packings(self) -> dict[Packing, int]:
        """What has to be packed, and where each lies in the packed weights.

        The leftover pixels of a long row read the weights of the others.
        """
        out: dict[Packing, int] = {}
        for packing in dict.fromkeys(g.packing for g in self.gathers() if g.packing.size):
            out[packing] = sum(other.size for other in out)
        return out

    @property
    def source(self) -> tuple[int, int]:
        """(channels, pixels) of an image of what is read."""
        s = self.shape
        return (s.ic, s.ih * s.iw) if self.problem.op == "conv" else (s.oc, s.oh * s.ow)

    def scratch(self, n: Count) -> list[tuple[str, Count]]:
        """The scratch buffers, for so many images: packed weights, and what is read with its channels last."""
        channels, pixels = self.source
        layout = self.problem.x_layout if self.problem.op == "conv" else self.problem.y_layout
        sizes: list[tuple[str, Count]] = []
        if self.packed_size and not self.problem.packed:
            sizes.append(("packed", n * 0 + self.packed_size))
        if layout == "nchw" and channels > 1 and pixels > 1:
            sizes.append(("turned", n * (channels * pixels)))
        return sizes

    @property
    def packed_size(self) -> int:
        return sum(packing.size for packing in self.packings())

    @property
    def w_size(self) -> int:
        s = self.shape
        return s.oc * (s.ic // s.groups) * s.kh * s.kw

    def pack(self) -> Pack:
        m, dtype = self.machine, self.problem.dtype

        def build() -> Kernel:
            k = Builder("direct_pack", dtype, m.lanes(dtype))
            w, packed = k.buffer("w", self.w_size, "in"), k.buffer("packed", self.packed_size, "out")
            self.emit_packing(k, w, packed)
            return k.kernel()

        return Pack(
            key=f"direct_pack {[p.key for p in self.packings()]} {dtype} {m.cpu} {m.isa} {m.vector_bytes}",
            build=build,
            size=self.packed_size,
            items=max((p.items for p in self.packings()), default=1),
        )

    def emit_packing(self, k: Builder, w: Buffer, packed: Buffer) -> None:
        for i, (packing, first) in enumerate(self.packings().items()):
            packing.emit(k, str(i), w, packed, first)

    @property
    def flat(self) -> bool:
        """Whether the image is one row of pixels that see only themselves, to be cut at will."""
        return _is_pointwise(self.shape) and self.shape.ih == 1

    def shares(self, g: Gather) -> Shares:
        return Shares(self.shape.groups, g.rows.count, g.packing.blocks, bool(g.packing.tail), self.splits)

    # The program

    def kernel(self) -> Kernel:
        p, s = self.problem, self.shape
        k = Builder("direct", p.dtype, self.machine.lanes(p.dtype))
        n = k.size("n", low=0)
        channels, pixels = self.source
        x_size, y_size = n * (s.ic * s.ih * s.iw), n * (s.oc * s.oh * s.ow)
        source = k.buffer("x", x_size, "in") if p.op == "conv" else k.buffer("g", y_size, "in")
        if p.packed:
            w = packed = k.buffer("packed", self.packed_size, "in")
        else:
            w = k.buffer("w", self.w_size, "in")
        bias = k.buffer("bias", s.oc, "in") if p.op == "conv" else None
        target = k.buffer("y", y_size, "out") if p.op == "conv" else k.buffer("dx", x_size, "out")
        scratch = {name: k.buffer(name, size, "scratch") for name, size in self.scratch(n)}
        if "packed" in scratch:
            packed = scratch["packed"]
            self.emit_packing(k, w, packed)
        if "turned" in scratch:
            turn(k, "channels last", n, source, scratch["turned"], channels, pixels)
            source = scratch["turned"]
        places = self.packings()
        for i, g in enumerate(self.gathers()):
            weights, first = (packed, places[g.packing]) if g.packing in places else (w, 0)
            buffers = Buffers(source, weights, first, bias if p.bias else None, target)
            _Pass(self, k, g, buffers).emit(f"gather {i}", n)
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
    buffers: Buffers

    def emit(self, label: str, n: Affine) -> None:
        self.program.shares(self.gather).emit(self.k, label, n, self.row)

    def row(self, image: Affine, group: Affine, row: Affine, block: Affine, tail: bool) -> None:
        packing = self.gather.packing
        counts = packing.tail if tail else (packing.lanes,) * packing.vectors
        for segment in segments(self.gather.cols, self.gather.pixels):
            if segment.stop - segment.start > segment.pixels:
                with self.k.loop("column", segment.start, segment.stop, segment.pixels) as column:
                    self.tile((image, group, row, column), segment, block, counts)
            else:
                self.tile((image, group, row, Affine(segment.start)), segment, block, counts)

    def tile(
        self,
        place: tuple[Affine, Affine, Affine, Affine],
        segment: Segment,
        block: Affine,
        counts: Counts,
    ) -> None:
        activation = self.program.problem.activation
        Tile(self.k, self.gather, self.buffers, activation, *place, segment, block, counts).emit()
