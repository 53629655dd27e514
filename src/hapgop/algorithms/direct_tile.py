"""The register tile of direct convolution: all taps and channels of some pixels and some vectors of output channels."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil

from hapgop.algorithms.epilogue import activated
from hapgop.algorithms.layout import Strides
from hapgop.algorithms.packing import Counts, Packing
from hapgop.algorithms.segments import Segment
from hapgop.algorithms.track import Track
from hapgop.tile import Affine, Buffer, Builder, Register

_UNROLL = 4  # small basic blocks: unrolled fully, LLVM would keep too much alive and spill


@dataclass(frozen=True, slots=True)
class Gather:
    """One pass over some outputs: all of a convolution's, or one residue class of an input gradient's.

    source, target     the strides of what is read and of what is written
    whole              the strides of the result before pooling
    skipped            pixels before the first one
    turns              whether tiles leave room in the registers for turning squares of pixels x channels
    streams            whether the inputs of neighbouring tiles are one run of memory, which is read once
    fetches            whether each tile asks for what the tile below it will be the first to read
    pooled             whether rows are taken in pairs and the largest of each 2 x 2 pixels is stored
    past               whether results are more than the caches keep, and are stored past them
    """

    rows: Track
    cols: Track
    packing: Packing
    pixels: int
    source: Strides
    target: Strides
    whole: Strides
    skipped: int = 0
    turns: bool = False
    streams: bool = False
    fetches: bool = False
    pooled: bool = False
    past: bool = False


@dataclass(frozen=True, slots=True)
class Buffers:
    """What a tile reads and writes; `weights` are packed, or raw where the packing says so, from element `first` on."""

    source: Buffer
    weights: Buffer
    first: int
    bias: Buffer | None
    target: Buffer
    residual: Buffer | None = None
    winners: Buffer | None = None


@dataclass(frozen=True, slots=True)
class Ahead:
    """Weights that a tile fetches while it multiplies: `size` elements from element `start` of the packed ones on.

    line  elements of a cache line
    """

    start: Affine
    size: int
    line: int


@dataclass(slots=True)
class Tile:
    """One tile, at a place that loops around it have fixed. `counts`: lanes used by each vector of channels."""

    k: Builder
    gather: Gather
    buffers: Buffers
    activation: str | None
    image: Affine
    group: Affine
    row: Affine
    column: Affine
    segment: Segment
    block: Affine
    counts: Counts
    ahead: Ahead | None = None
    acc: list[list[Register]] = field(default_factory=list)

    def emit(self) -> None:
        if self.gather.pooled:
            # The first row's results wait while the second's are summed.
            first = self.row * 2
            upper, lower = (self.results(first + i) for i in range(2))
            self.store(*self.largest(upper, lower))
        else:
            self.store(self.results(self.row))

    def results(self, row: Affine) -> list[list[Register]]:
        """[pixel][vector] of one row of outputs, as they are stored or pooled."""
        k, g, packing = self.k, self.gather, self.gather.packing
        self.acc = [[k.const(0.0) for _ in self.counts] for _ in range(self.segment.pixels)]
        if packing.depth:
            origin = (
                self.image * g.source.n
                + self.group * (packing.ic * packing.bundle * g.source.c)
                + g.skipped * g.source.w
            )
            weights = packing.start(self.group, self.block) + self.buffers.first
            row_step = packing.steps(self.counts)[0]
            if g.fetches:
                self.fetch(origin, row)
            if g.rows.always_inside and g.rows.taps == 1:
                self.taps(origin + g.rows.source(row, 0) * g.source.h, weights)
            else:
                with k.loop("tap", *g.rows.tap_range(row)) as t:
                    self.taps(origin + g.rows.source(row, t) * g.source.h, weights + t * row_step)
        self.finish(row)
        return self.acc

    def taps(self, line: Affine, weights: Affine) -> None:
        """One row of taps. `line`: where the input row starts."""
        g, packing, segment = self.gather, self.gather.packing, self.segment
        _, col_step, step = packing.steps(self.counts)
        if segment.dynamic:
            with self.k.loop("tap_column", *g.cols.tap_range(self.column)) as u:
                at = line + g.cols.source(self.column, u) * g.source.w
                self.channels([(0, at)], weights + u * col_step, packing.ic, g.source.c)
            return
        if packing.bundle > 1:
            self.side_by_side(line, weights, col_step)
            return
        pixels = range(segment.pixels)
        starts = [(p, line + g.cols.source(self.column + p, 0) * g.source.w) for p in pixels]
        merged = (
            packing.bundle == 1
            and g.source.c == 1
            and g.cols.in_tap * g.source.w == packing.ic
            and col_step == packing.ic * step
        )
        if segment.interior and merged:
            # Tap columns and channels are one contiguous axis of the input, as they are of the weights.
            self.channels(starts, weights, packing.cols.taps * packing.ic, 1)
            return
        for tap in range(packing.cols.taps):
            used = [
                (p, at + tap * g.cols.in_tap * g.source.w)
                for p, at in starts
                if segment.interior or g.cols.valid(segment.start + p, tap)
            ]
            if used:
                self.channels(used, weights + tap * col_step, packing.ic, g.source.c)

    def channels(self, starts: list[tuple[int, Affine]], weights: Affine, depth: int, stride: int) -> None:
        """acc[p] += sum over c < depth of source[start of p + c * stride] * weights[c]."""
        if self.gather.packing.bundle > 1:
            ((p, start),) = starts
            for channel in range(depth):
                w = self.k.load(self.buffers.weights, weights + channel * self.gather.packing.lanes)
                self.k.fma(self.spread(start, channel), w, self.acc[p][0], into=self.acc[p][0])
            return
        if depth == 1:
            self.step(starts, weights, Affine(0), 1, stride)
            return
        # A loop even for few channels: the taps of a border tile follow one another, and in one block they would spill.
        unroll = max(u for u in range(1, _UNROLL + 1) if depth % u == 0 and u < depth)
        with self.k.loop("channel", 0, depth, unroll) as c:
            self.step(starts, weights, c, unroll, stride)
            self.prefetch(starts, c, unroll)
            if self.ahead is not None:
                self.fetch_weights(self.ahead, weights, c, unroll)
            if self.buffers.residual is not None:
                self.fetch_residual(self.buffers.residual, c, unroll, depth)

    def side_by_side(self, line: Affine, weights: Affine, col_step: int) -> None:
        """One row of taps of several groups: each lane takes an input channel of its own group.

        What several pixels read with different taps has its lanes put in their places once.
        """
        k, g, packing, segment = self.k, self.gather, self.gather.packing, self.segment
        readers: dict[int, list[tuple[int, int]]] = {}
        for p in range(segment.pixels):
            for tap in range(packing.cols.taps):
                if segment.interior or g.cols.valid(segment.start + p, tap):
                    readers.setdefault(p * g.cols.in_step + tap * g.cols.in_tap, []).append((p, tap))
        start = line + g.cols.source(self.column, 0) * g.source.w
        for c in range(packing.ic):
            taps = sorted({tap for pairs in readers.values() for _, tap in pairs})
            w = {tap: k.load(self.buffers.weights, weights + tap * col_step + c * packing.lanes) for tap in taps}
            for place, pairs in sorted(readers.items()):
                x = self.spread(start + place * g.source.w, c)
                for p, tap in pairs:
                    k.fma(x, w[tap], self.acc[p][0], into=self.acc[p][0])

    def spread(self, at: Affine, c: int) -> Register:
        """Input channel c of each group, in the lanes of the group's outputs."""
        packing = self.gather.packing
        run = packing.oc // packing.bundle
        order = [lane // run * packing.ic + c if lane < packing.oc else 0 for lane in range(packing.lanes)]
        return self.k.permute(self.k.load(self.buffers.source, at, packing.ic * packing.bundle), order)

    def fetch(self, origin: Affine, row: Affine) -> None:
        """Prefetches the last row of inputs of the tile below."""
        g, packing = self.gather, self.gather.packing
        line = origin + g.rows.source(row + 1, g.rows.taps - 1) * g.source.h
        with self.k.loop("fetch", 0, self.segment.pixels * g.cols.in_step) as p:
            at = line + (g.cols.source(self.column, 0) + p) * g.source.w
            for c in range(0, packing.ic * packing.bundle, packing.lanes):
                self.k.prefetch(self.buffers.source, at + c)

    def prefetch(self, starts: list[tuple[int, Affine]], c: Affine, count: int) -> None:
        """A share of the next tile's input, where that follows this one's without a gap."""
        g = self.gather
        if g.streams and len(starts) == g.pixels:
            first = starts[0][1] + g.pixels * g.source.w + c * g.pixels
            for i in range(0, g.pixels * count, g.packing.lanes):
                self.k.prefetch(self.buffers.source, first + i)

    def fetch_weights(self, ahead: Ahead, weights: Affine, c: Affine, count: int) -> None:
        """These steps' share of the weights that come next, in whole lines: at most a line too many, fetched again."""
        packing = self.gather.packing
        lines = ceil(ahead.size * count / packing.depth / ahead.line)
        before = (weights - packing.start(self.group, self.block) - self.buffers.first) // packing.steps(self.counts)[2]
        at = ahead.start + (before + c) * ceil(lines * ahead.line / count)
        for i in range(lines):
            self.k.prefetch(self.buffers.weights, at + i * ahead.line)

    def fetch_residual(self, residual: Buffer, c: Affine, count: int, depth: int) -> None:
        """These steps' share of what is added to the tile's results in the end."""
        whole, lanes = self.gather.whole, self.gather.packing.lanes
        many = ceil(self.segment.pixels * count / depth)
        at = self.place(whole, self.row, self.column) + c // count * (many * whole.w)
        for p in range(many):
            for v in range(len(self.counts)):
                self.k.prefetch(residual, at + p * whole.w + v * lanes)

    def step(self, starts: list[tuple[int, Affine]], weights: Affine, c: Affine, count: int, stride: int) -> None:
        k, packing = self.k, self.gather.packing
        width = packing.steps(self.counts)[2]
        # Packed weights are padded to whole vectors; raw ones end where the channels do.
        lanes = [n if packing.raw else packing.lanes for n in self.counts]
        for u in range(count):
            at = weights + (c + u) * width
            w = [k.load(self.buffers.weights, at + v * packing.lanes, n) for v, n in enumerate(lanes)]
            for p, start in starts:
                x = k.broadcast(self.buffers.source, start + (c + u) * stride)
                for v, weight in enumerate(w):
                    k.fma(x, weight, self.acc[p][v], into=self.acc[p][v])

    @property
    def channel(self) -> Affine:
        """The first channel of the block."""
        packing = self.gather.packing
        return self.group * packing.oc + self.block * packing.width

    def finish(self, row: Affine) -> None:
        """Bias, residual, activation."""
        k, lanes = self.k, self.gather.packing.lanes
        whole = self.gather.whole
        line = self.place(whole, row, self.column)
        for p, vectors in enumerate(self.acc):
            for v, value in enumerate(vectors):
                if self.buffers.bias is not None:
                    # Loaded where it is added: kept, the bias would take registers that activations need.
                    value = k.add(value, k.load(self.buffers.bias, self.channel + v * lanes, self.counts[v]))
                if self.buffers.residual is not None:
                    at = line + p * whole.w + v * lanes * whole.c
                    value = k.add(value, k.load(self.buffers.residual, at, self.counts[v], whole.c))
                vectors[v] = activated(k, value, self.activation)

    def place(self, to: Strides, row: Affine, column: Affine) -> Affine:
        """Where the tile's first result lies."""
        g = self.gather
        line = self.image * to.n + (row * g.rows.out_step + g.rows.out_first) * to.h
        line += self.channel * to.c + g.skipped * to.w
        return line + (column * g.cols.out_step + g.cols.out_first) * to.w

    def largest(
        self, upper: list[list[Register]], lower: list[list[Register]]
    ) -> tuple[list[list[Register]], list[list[Register]]]:
        """([pixel][vector] of the largest of each 2 x 2, which of the four each is)."""
        k, most, winners = self.k, [], []
        for p in range(0, len(upper), 2):
            fours = list(zip(upper[p], upper[p + 1], lower[p], lower[p + 1], strict=True))
            if self.buffers.winners is None:
                most.append([k.max(k.max(a, b), k.max(c, d)) for a, b, c, d in fours])
                continue
            line, which = [], []
            for best, *others in fours:
                number = k.const(0.0)
                for i, other in enumerate(others, 1):
                    number = k.select("above", other, best, k.const(i), number)
                    best = k.select("above", other, best, other, best)
                line.append(best)
                which.append(number)
            most.append(line)
            winners.append(which)
        return most, winners

    def store(self, values: list[list[Register]], winners: list[list[Register]] | None = None) -> None:
        g, to = self.gather, self.gather.target
        column = self.column // 2 if g.pooled else self.column
        first = self.place(to, self.row, column)
        for buffer, lines in ((self.buffers.target, values), (self.buffers.winners, winners)):
            if buffer is None or not lines:
                continue
            if g.turns and to.c > 1 and g.cols.out_step * to.w == 1:
                self.store_by_channel(buffer, lines, first)
                continue
            for p, vectors in enumerate(lines):
                at = first + p * g.cols.out_step * to.w
                for v, count in enumerate(self.counts):
                    place = at + v * g.packing.lanes * to.c
                    self.k.store(vectors[v], buffer, place, count, to.c, streaming=g.past)

    def store_by_channel(self, target: Buffer, lines: list[list[Register]], first: Affine) -> None:
        """Pixels are neighbours, channels are not: squares of pixels x channels are turned, and stored by channel."""
        k, lanes, stride = self.k, self.gather.packing.lanes, self.gather.target.c
        for v, count in enumerate(self.counts):
            for p in range(0, len(lines), lanes):
                pixels = [vectors[v] for vectors in lines[p : p + lanes]]
                for c, channel in enumerate(k.transpose(pixels)[:count]):
                    k.store(channel, target, first + p + (v * lanes + c) * stride, len(pixels))
