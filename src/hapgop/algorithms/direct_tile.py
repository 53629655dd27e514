"""The register tile of direct convolution: all taps and channels of some pixels and some vectors of output channels."""

from __future__ import annotations

from dataclasses import dataclass, field

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
    skipped            pixels before the first one
    turns              whether tiles leave room in the registers for turning squares of pixels x channels
    streams            whether the inputs of neighbouring tiles are one run of memory, which is read once
    """

    rows: Track
    cols: Track
    packing: Packing
    pixels: int
    source: Strides
    target: Strides
    skipped: int = 0
    turns: bool = False
    streams: bool = False


@dataclass(frozen=True, slots=True)
class Buffers:
    """What a tile reads and writes; `weights` are packed, or raw where the packing says so, from element `first` on."""

    source: Buffer
    weights: Buffer
    first: int
    bias: Buffer | None
    target: Buffer


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
    acc: list[list[Register]] = field(default_factory=list)

    def emit(self) -> None:
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
            if g.rows.always_inside and g.rows.taps == 1:
                self.taps(origin + g.rows.source(self.row, 0) * g.source.h, weights)
            else:
                with k.loop("tap", *g.rows.tap_range(self.row)) as t:
                    self.taps(origin + g.rows.source(self.row, t) * g.source.h, weights + t * row_step)
        self.finish()

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

    def prefetch(self, starts: list[tuple[int, Affine]], c: Affine, count: int) -> None:
        """A share of the next tile's input, where that follows this one's without a gap."""
        g = self.gather
        if g.streams and len(starts) == g.pixels:
            first = starts[0][1] + g.pixels * g.source.w + c * g.pixels
            for i in range(0, g.pixels * count, g.packing.lanes):
                self.k.prefetch(self.buffers.source, first + i)

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

    def finish(self) -> None:
        """Bias, activation, store."""
        k, g, to, packing = self.k, self.gather, self.gather.target, self.gather.packing
        channel = self.group * packing.oc + self.block * packing.width
        bias = None
        if self.buffers.bias is not None:
            places = [channel + v * packing.lanes for v in range(len(self.counts))]
            bias = [k.load(self.buffers.bias, at, n) for at, n in zip(places, self.counts, strict=True)]
        line = self.image * to.n + (self.row * g.rows.out_step + g.rows.out_first) * to.h
        line += channel * to.c + g.skipped * to.w
        for vectors in self.acc:
            for v, value in enumerate(vectors):
                if bias is not None:
                    value = k.add(value, bias[v])
                vectors[v] = activated(k, value, self.activation)
        first = line + (self.column * g.cols.out_step + g.cols.out_first) * to.w
        if g.turns and to.c > 1 and g.cols.out_step * to.w == 1:
            self.store_by_channel(first)
            return
        for p, vectors in enumerate(self.acc):
            at = first + p * g.cols.out_step * to.w
            for v, count in enumerate(self.counts):
                k.store(vectors[v], self.buffers.target, at + v * packing.lanes * to.c, count, to.c)

    def store_by_channel(self, first: Affine) -> None:
        """Pixels are neighbours, channels are not: squares of pixels x channels are turned, and stored by channel."""
        k, lanes, stride = self.k, self.gather.packing.lanes, self.gather.target.c
        for v, count in enumerate(self.counts):
            for p in range(0, len(self.acc), lanes):
                pixels = [vectors[v] for vectors in self.acc[p : p + lanes]]
                for c, channel in enumerate(k.transpose(pixels)[:count]):
                    k.store(channel, self.buffers.target, first + p + (v * lanes + c) * stride, len(pixels))
