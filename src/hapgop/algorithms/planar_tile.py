"""The register tile of planar convolution: all taps and channels of some vectors of pixels and some output channels."""

from __future__ import annotations

from dataclasses import dataclass, field

from hapgop.algorithms.epilogue import activated
from hapgop.algorithms.layout import Strides, vector_counts
from hapgop.algorithms.margins import Margins
from hapgop.algorithms.segments import Segment
from hapgop.algorithms.track import Track
from hapgop.tile import Affine, Buffer, Builder, Register

_MOST_UNROLLED = 128  # multiply-adds of a basic block: in larger ones LLVM would keep too much alive and spill


@dataclass(frozen=True, slots=True)
class Plane:
    """Some rows of outputs. oc, ic: of one group, as the gather sees them; `swap`: the weights' two are exchanged.

    channels, vectors  of a tile
    skipped            pixels before the first one
    """

    rows: Track
    cols: Track
    margins: Margins
    oc: int
    ic: int
    channels: int
    vectors: int
    lanes: int
    target: Strides
    weights: Strides
    swap: bool
    skipped: int = 0

    @property
    def width(self) -> int:
        """Pixels of a tile."""
        return self.vectors * self.lanes


@dataclass(frozen=True, slots=True)
class Buffers:
    """What a tile reads and writes; `numbers` holds the number of each lane."""

    source: Buffer
    weights: Buffer
    bias: Buffer | None
    target: Buffer
    numbers: Buffer
    residual: Buffer | None


@dataclass(slots=True)
class Tile:
    """One tile, at a place that loops around it have fixed."""

    k: Builder
    plane: Plane
    buffers: Buffers
    activation: str | None
    image: Affine
    group: Affine
    row: Affine
    column: Affine
    segment: Segment
    block: Affine
    channels: int
    acc: list[list[Register]] = field(default_factory=list)
    numbers: Register = -1

    @property
    def counts(self) -> tuple[int, ...]:
        return vector_counts(self.segment.pixels, self.plane.lanes)

    def emit(self) -> None:
        k, plane = self.k, self.plane
        self.acc = [[k.const(0.0) for _ in self.counts] for _ in range(self.channels)]
        if not self.segment.interior:
            self.numbers = k.load(self.buffers.numbers, 0)
        margins = plane.margins
        source = self.image * margins.size + self.group * (plane.ic * margins.plane) + self.column + plane.skipped
        weights = self.group * (plane.weights.n * (plane.ic if plane.swap else plane.oc))
        weights += self.block * (plane.channels * self.out_stride)
        if len(self.counts) * self.channels * plane.cols.taps <= _MOST_UNROLLED:
            with k.loop("channel", 0, plane.ic) as c, k.loop("tap", *plane.rows.tap_range(self.row)) as t:
                for u in range(plane.cols.taps):
                    self.step(*self.places(source, weights, c, t, u), u)
        else:
            with k.loop("tap", *plane.rows.tap_range(self.row)) as t:
                for u in range(plane.cols.taps):
                    with k.loop("channel", 0, plane.ic) as c:
                        self.step(*self.places(source, weights, c, t, u), u)
        self.finish()

    @property
    def out_stride(self) -> int:
        return self.plane.weights.c if self.plane.swap else self.plane.weights.n

    def places(self, source: Affine, weights: Affine, c: Affine, t: Affine, u: int) -> tuple[Affine, Affine]:
        """Of the inputs and the weights of one tap and channel."""
        plane, margins, strides = self.plane, self.plane.margins, self.plane.weights
        line = plane.rows.source(self.row, t) * margins.row
        row = (plane.rows.tap_first + t * plane.rows.tap_step) * strides.h
        column = (plane.cols.tap_first + u * plane.cols.tap_step) * strides.w
        return (
            source + c * margins.plane + line + margins.source(plane.cols, u),
            weights + c * (strides.n if plane.swap else strides.c) + row + column,
        )

    def step(self, source: Affine, weights: Affine, tap: int) -> None:
        k = self.k
        inside = [self.inside(v, count, tap) for v, count in enumerate(self.counts)]
        x = [
            k.load(self.buffers.source, source + v * k.lanes, count) if lanes else -1
            for v, (count, lanes) in enumerate(zip(self.counts, inside, strict=True))
        ]
        for j, sums in enumerate(self.acc):
            w = k.broadcast(self.buffers.weights, weights + j * self.out_stride)
            for v, lanes in enumerate(inside):
                if lanes:
                    self.add(x[v], w, sums[v], lanes, self.counts[v])

    def inside(self, v: int, count: int, tap: int) -> tuple[int, int] | None:
        """[first, last) of a vector's lanes for which a tap is inside, if any."""
        if self.segment.interior:
            return 0, count
        first = self.segment.start + v * self.plane.lanes
        lanes = [i for i in range(count) if self.plane.cols.valid(first + i, tap)]
        return (lanes[0], lanes[-1] + 1) if lanes else None

    def add(self, x: Register, w: Register, total: Register, lanes: tuple[int, int], count: int) -> None:
        """total += x * w in these lanes; the others keep what they have, whatever x and w are."""
        k, (first, last) = self.k, lanes
        if (first, last) == (0, count):
            k.fma(x, w, total, into=total)
            return
        value = k.fma(x, w, total)
        if first > 0 and last < count:
            value = k.select("above", self.numbers, k.const(first - 0.5), value, total)
        if last < count:
            k.select("above", k.const(last - 0.5), self.numbers, value, total, into=total)
        else:
            k.select("above", self.numbers, k.const(first - 0.5), value, total, into=total)

    def finish(self) -> None:
        """Bias, residual, activation, store."""
        k, plane, to = self.k, self.plane, self.plane.target
        channel = self.group * plane.oc + self.block * plane.channels
        at = self.image * to.n + channel * to.c + self.column + plane.skipped
        at += (self.row * plane.rows.out_step + plane.rows.out_first) * to.h
        for j, sums in enumerate(self.acc):
            bias = None if self.buffers.bias is None else k.broadcast(self.buffers.bias, channel + j)
            for v, count in enumerate(self.counts):
                value = sums[v] if bias is None else k.add(sums[v], bias)
                place = at + j * to.c + v * k.lanes
                if self.buffers.residual is not None:
                    value = k.add(value, k.load(self.buffers.residual, place, count))
                k.store(activated(k, value, self.activation), self.buffers.target, place, count)
