"""Direct convolution: plain sums, register tiles, weights packed, no copy of the input.

A tile is some pixels of an output row times some vectors of output channels. For each tap and input channel it loads
the vectors of weights, broadcasts each pixel's input, and multiplies and adds. Border pixels skip the taps that fall
into the padding: nothing is ever padded in memory. The input gradient is the same gather over the output's gradient,
one for each residue class of the stride (`track`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil, prod

from hapgop.algorithms import costs, registers
from hapgop.algorithms.direct_price import cycles
from hapgop.algorithms.direct_tile import Ahead, Buffers, Gather, Tile
from hapgop.algorithms.epilogue import unfused
from hapgop.algorithms.layout import Count, groups_in_vector, image_strides, is_pointwise, vector_counts, weight_strides
from hapgop.algorithms.packing import Counts, Packing
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe
from hapgop.algorithms.segments import Segment, segments
from hapgop.algorithms.shares import Shares, Work, many
from hapgop.algorithms.track import Track, column_tracks, row_tracks
from hapgop.algorithms.turn import turn
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel

_RAW_TILES = 8  # weights that fewer tiles read are not worth packing
_CLASSES = 64  # of the pixels of grad_x, by their places between the strides: each has code of its own


@dataclass(frozen=True, slots=True)
class Direct(Algorithm):
    """`conv` of every shape, and `grad_x` of strides up to 8 x 8."""

    name: str = "direct"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in ("conv", "grad_x"):
            return f"computes conv and grad_x, not {problem.op}"
        reason = unfused(problem, "residual", "pooled")
        if reason is None and problem.op == "grad_x" and prod(problem.shape.stride) > _CLASSES:
            reason = f"has code for each pixel between the strides, and {prod(problem.shape.stride)} are too many"
        if reason is None and problem.pooled:
            gathers = _Program.of(problem, machine).gathers()
            if any(segment.dynamic for g in gathers for segment in segments(g.cols, g.pixels)):
                reason = "unrolls the border of a row that is pooled, and this one has too many tiles in it"
        return reason

    def seconds(self, problem: Problem, machine: Machine) -> float:
        program = _Program.of(problem, machine)
        gathers, bytes_ = program.gathers(), problem.itemsize
        s = program.shape
        busy = program.batch * sum(g.packing.groups * cycles(g, program.machine) for g in gathers)
        read, written = (s.ic * s.ih * s.iw, s.oc * s.oh * s.ow)
        tensors = (program.batch * (read + written) + program.w_size) * bytes_
        total = max(busy / costs.CLOCK, costs.traffic(tensors, machine))
        for name, size in program.scratch(program.batch):
            if name == "packed":
                total += size * bytes_ / costs.PACKED + costs.STAGE
            else:
                total += costs.turned(size * bytes_, machine)
        return total + costs.CALL

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        program = _Program.of(problem, machine)
        gathers = program.gathers()
        first = gathers[0]
        return Recipe(
            key=f"direct {program!r} raw={[g.packing.raw for g in gathers]}",
            build=program.kernel,
            sizes=(program.batch,),
            scratch=tuple(size for _, size in program.scratch(program.batch)),
            items=program.batch * program.shares(gathers).items,
            tiles=f"{first.pixels} pixels x {first.packing.vectors} vectors",
            pack=program.pack() if problem.packed else None,
        )


def _bundle_pixels(cols: Track, machine: Machine) -> int:
    """How many sums fit into the registers, with all the inputs that they read, a row's weights and one more."""
    most = 1
    for pixels in range(2, machine.registers):
        reads = {p * cols.in_step + tap * cols.in_tap for p in range(pixels) for tap in range(cols.taps)}
        if pixels + len(reads) + cols.taps + 2 > machine.registers:
            break
        most = pixels
    return registers.balanced(cols.count, most)


@dataclass(frozen=True, slots=True)
class _Program:
    """Everything that the kernel depends on (the batch size is passed at run time)."""

    problem: Problem
    machine: Machine
    batch: int
    images: int
    past: bool

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> _Program:
        shape = problem.conv
        batch = shape.n
        if is_pointwise(shape) and not problem.pooled:
            # A 1x1 filter sees no rows: few pixels an image are put end to end, so that tiles can be full.
            last = problem.x_layout == problem.y_layout == "nhwc"
            if last and shape.ih * shape.iw < 28 and shape.n > 1:
                shape, batch = replace(shape, n=1, ih=1, iw=shape.n * shape.ih * shape.iw), 1
            else:
                shape = replace(shape, ih=1, iw=shape.ih * shape.iw)
        oc = problem.conv.oc if problem.op == "conv" else problem.conv.ic
        if problem.conv.groups == 1:
            machine = registers.fitting(oc, problem.dtype, machine)
        y = prod(problem.conv.y_shape if problem.op == "conv" else problem.conv.x_shape) * problem.itemsize
        past = y // (4 if problem.pooled else 1) > machine.l3 // 2
        return cls(replace(problem, shape=shape.with_batch(1)), machine, batch, many(batch, machine), past)

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

    def __repr__(self) -> str:
        m = self.machine
        return (
            f"{self.problem} {m.cpu} {m.isa} {m.vector_bytes} {m.registers} {m.l1} {m.l2} images={self.images}"
            f" cores={m.cores} past={self.past}"
        )

    def gathers(self) -> list[Gather]:
        s, lanes = self.shape, self.machine.lanes(self.problem.dtype)
        oc, ic = s.oc // s.groups, s.ic // s.groups
        pooled = self.problem.pooled
        columns = column_tracks(s, self.problem.op)
        if pooled:
            columns = [replace(cols, count=cols.count // 2 * 2) for cols in columns]
        pairs = [(rows, cols) for rows in row_tracks(s, self.problem.op) for cols in columns]
        if self.problem.op == "grad_x":
            oc, ic = ic, oc
        # Groups side by side have a row's weights in registers at a time, a sum and an input.
        fit = max(cols.taps for cols in columns) + 2 <= self.machine.registers
        bundle = groups_in_vector(s.groups, max(oc, ic), lanes) if fit and not pooled else 1
        oc *= bundle
        vectors = len(vector_counts(oc, lanes))
        x_layout, y_layout = self.problem.x_layout, self.problem.y_layout
        if self.problem.op == "conv":
            source, whole = image_strides("nhwc", s.ic, s.ih, s.iw), image_strides(y_layout, s.oc, s.oh, s.ow)
        else:
            source, whole = image_strides("nhwc", s.oc, s.oh, s.ow), image_strides(x_layout, s.ic, s.ih, s.iw)
        target = image_strides(y_layout, s.oc, s.oh // 2, s.ow // 2) if pooled else whole
        weights, swap = weight_strides(self.problem.w_layout, s.ic // s.groups, s.kh, s.kw), self.problem.op == "grad_x"
        out_stride = weights.c if swap else weights.n
        out = []
        for rows, cols in pairs:
            step = cols.in_step * source.w * self.problem.itemsize
            most = registers.together(step)
            # What is fetched ahead takes the compiler's freedom to use the last registers without a spill.
            streams = self.flat and s.groups == 1
            free = replace(self.machine, registers=self.machine.registers - self.machine.registers // 16 * streams)
            width = max(c.count for _, c in pairs)  # all residue classes in blocks of the same channels
            if pooled:
                # Two rows of pairs of pixels.
                quarter = replace(free, registers=(free.registers - 2) // 4 + 2)
                pixels, block = registers.choose_tile(width // 2, vectors, quarter, max(1, most // 2))
                pixels *= 2
            else:
                pixels, block = registers.choose_tile(width, vectors, free, most)
            tiles = rows.count * ceil(cols.count / pixels) * self.batch
            raw = tiles <= _RAW_TILES and out_stride == 1 and not self.problem.packed
            if bundle > 1:
                pixels, block, raw = _bundle_pixels(cols, self.machine), 1, False
            packing = Packing(s.groups // bundle, oc, ic, rows, cols, weights, swap, lanes, block, raw, bundle)
            # Groups leave gaps between the inputs of neighbours, which the CPU then does not fetch ahead by itself.
            fetches = s.groups > 1 and source.n * self.problem.itemsize > self.machine.l2 // 4
            # The accumulators that are still waiting, and a square of results.
            waiting = pixels * block // (2 if pooled and not self.problem.winners else 1)
            turns = waiting - min(pixels, lanes) + lanes < self.machine.registers
            # Past the caches only whole lines: halves would be written one by one.
            past = self.past and (block == vectors or block * self.machine.vector_bytes % costs.LINE == 0)
            gather = Gather(
                rows, cols, packing, pixels, source, target, whole, 0, turns, streams, fetches, pooled, past
            )  # fmt: skip
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
        return is_pointwise(self.shape) and self.shape.ih == 1

    @staticmethod
    def stored(g: Gather) -> int:
        """Rows that are stored."""
        return g.rows.count // 2 if g.pooled else g.rows.count

    def firsts(self, gathers: list[Gather]) -> list[int]:
        """The first row of each gather: pieces of a long row follow one another, residue classes share their rows."""
        counts = [self.stored(g) for g in gathers]
        return [sum(counts[:i]) if self.flat else 0 for i in range(len(counts))]

    def shares(self, gathers: list[Gather]) -> Shares:
        g, p, bytes_ = gathers[0], gathers[0].packing, self.problem.itemsize
        source = bytes_ * p.ic * g.rows.count * g.rows.in_step * g.cols.count * g.cols.in_step
        weights = bytes_ * p.oc * sum(packing.depth for packing in {other.packing for other in gathers})
        seconds = sum(cycles(other, self.machine) for other in gathers) / costs.CLOCK
        rows = max(first + self.stored(g) for first, g in zip(self.firsts(gathers), gathers, strict=True))
        groups, blocks, tail = p.groups, p.blocks, bool(p.tail)
        if p.bundle > 1:
            groups, source, weights, seconds = 1, source * groups, weights * groups, seconds * groups
        return Shares.of(Work(self.images, groups, rows, blocks, tail, source, weights, seconds), self.machine)

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
        bias = k.buffer("bias", p.biases, "in") if p.biases else None
        size = n * prod(p.pool.y_shape) if p.pooled else y_size
        target = k.buffer("y", size, "out") if p.op == "conv" else k.buffer("dx", x_size, "out")
        residual = k.buffer("residual", y_size, "in") if p.residual else None
        winners = k.buffer("winners", size, "out") if p.pooled else None
        scratch = {name: k.buffer(name, size, "scratch") for name, size in self.scratch(n)}
        if "packed" in scratch:
            packed = scratch["packed"]
            self.emit_packing(k, w, packed)
        if "turned" in scratch:
            turn(k, "channels last", n, source, scratch["turned"], channels, pixels)
            source = scratch["turned"]
        places = self.packings()
        gathers, bodies = self.gathers(), []
        shares = self.shares(gathers)
        for first, g in zip(self.firsts(gathers), gathers, strict=True):
            weights, at = (packed, places[g.packing]) if g.packing in places else (w, 0)
            wanted = winners if p.winners else None
            buffers = Buffers(source, weights, at, bias if p.bias else None, target, residual, wanted)
            each = _Pass(self, k, g, buffers, first, shares.rows_per_group)
            bodies.append((first, self.stored(g), each.row))
        # Where weights stay in the first cache, all results of a pixel are stored in one run.
        rows_first = self.flat and self.packed_size * p.itemsize <= self.machine.l1 // 2
        shares.emit(k, "gather", n, bodies, rows_first)
        return k.kernel()


def _cut(g: Gather) -> list[Gather]:
    """One long row of pixels that see only themselves, as rows of one tile each, and what is left over."""
    full, rest = divmod(g.cols.count, g.pixels)
    out = []
    if full:
        rows, cols = replace(g.rows, count=full, in_size=full), replace(g.cols, count=g.pixels, in_size=g.pixels)
        source, target, whole = (replace(t, h=g.pixels * t.w) for t in (g.source, g.target, g.whole))
        out.append(replace(g, rows=rows, cols=cols, source=source, target=target, whole=whole))
    if rest:
        cols = replace(g.cols, count=rest, in_size=rest)
        out.append(replace(g, cols=cols, pixels=rest, skipped=full * g.pixels))
    return out


@dataclass(slots=True)
class _Pass:
    """Writes what is done for one row of a gather, whose first is row `first` of those that are shared out.

    together: rows that a thread goes through with a block of weights
    """

    program: _Program
    k: Builder
    gather: Gather
    buffers: Buffers
    first: int
    together: int

    def row(self, image: Affine, group: Affine, row: Affine, block: Affine, tail: bool) -> None:
        packing = self.gather.packing
        counts = packing.tail if tail else (packing.lanes,) * packing.vectors
        for segment in segments(self.gather.cols, self.gather.pixels):
            with self.k.loop("column", segment.start, segment.stop, segment.pixels) as column:
                if packing.bundle > 1:
                    # A pixel's channels lie together: all groups of a tile's pixels, then the next pixels.
                    with self.k.loop("group", 0, packing.groups) as each:
                        self.tile((image, each, row, column), segment, block, counts)
                elif segment.stop - segment.start > segment.pixels:
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
        Tile(
            self.k, self.gather, self.buffers, activation, *place, segment, block, counts, self.ahead(*place, block)
        ).emit()

    def ahead(self, image: Affine, group: Affine, row: Affine, column: Affine, block: Affine) -> Ahead | None:
        """The share of a tile of the next block's weights, which are far where all are half of the second cache."""
        g, packing, program = self.gather, self.gather.packing, self.program
        if packing.raw or packing.bundle > 1 or packing.size * program.problem.itemsize < program.machine.l2 // 2:
            return None
        tiles = ceil(g.cols.count / g.pixels)
        size = ceil(packing.width * packing.depth / (self.together * tiles))
        shared = row + self.first
        number = (shared - shared // self.together * self.together) * tiles + column // g.pixels
        start = packing.start(group, block + 1) + self.buffers.first + number * size
        return Ahead(start, size, costs.LINE // self.program.problem.itemsize)
