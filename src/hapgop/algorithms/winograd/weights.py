"""Filters transformed: U = G g G^T for every pair of channels, as [group][product][block of out][in][lanes of block],
or with the blocks outside of the products, where a block goes through all products before the next one begins.

"In" and "out" are those of the op: for an input gradient they are exchanged, and the filter is turned by half.
"""

from __future__ import annotations

from dataclasses import dataclass

from hapgop.algorithms.layout import Strides, block_runs, vector_counts
from hapgop.algorithms.winograd.transform import sandwich
from hapgop.algorithms.winograd.triple import Triple
from hapgop.tile import Affine, Buffer, Builder, Register


@dataclass(frozen=True, slots=True)
class Filters:
    """oc, ic: channels of one group, as the op sees them. vectors: of a block of output channels.

    by_block: the products of a block lie side by side, not the blocks of a product.
    """

    triple: Triple
    groups: int
    oc: int
    ic: int
    strides: Strides
    swap: bool
    lanes: int
    vectors: int
    by_block: bool = False

    @property
    def products(self) -> int:
        return self.triple.products**2

    @property
    def counts(self) -> tuple[int, ...]:
        """Lanes used by each vector of output channels."""
        return vector_counts(self.oc, self.lanes)

    @property
    def padded(self) -> int:
        return len(self.counts) * self.lanes

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(first vector, vectors) of each block."""
        total = len(self.counts)
        return [(v, min(self.vectors, total - v)) for v in range(0, total, self.vectors)]

    def product_step(self, width: int) -> int:
        """Elements from one product of a block of `width` vectors to the next.

        They are a line more than they need to be, or all products would fall into one set of a cache.
        """
        return (width * self.lanes if self.by_block else self.padded) * self.ic + self.lanes

    @property
    def size(self) -> int:
        gaps = len(self.blocks) if self.by_block else 1
        return self.groups * self.products * (self.padded * self.ic + gaps * self.lanes)

    def start(self, group: Affine, product: Affine, vector: Affine, width: int) -> Affine:
        """Where the block of `width` vectors, `vector` the first, has its first input channel."""
        every, inside = self.size // self.groups, vector * (self.lanes * self.ic)
        if self.by_block:
            # Those before it are whole.
            inside = vector // self.vectors * (self.products * self.product_step(self.vectors))
        return group * every + inside + product * self.product_step(width)

    # Squares of lanes x lanes channels, turned where the output channels are no neighbours

    @property
    def taps(self) -> int:
        return self.triple.taps**2

    @property
    def out_stride(self) -> int:
        return self.strides.c if self.swap else self.strides.n

    @property
    def in_stride(self) -> int:
        return self.strides.n if self.swap else self.strides.c

    @property
    def private(self) -> tuple[int, int]:
        """Elements of the two private buffers: a square of filters, and what a transform needs."""
        return self.taps * self.lanes**2, self.triple.products * self.triple.taps * self.lanes

    def square(
        self, k: Builder, w: Buffer, squares: Buffer, group: Affine, vector: Affine | int, count: int,
        first: Affine | int, depth: int,
    ) -> None:  # fmt: skip
        """squares[in channel][tap] = a vector of output channels, for `depth` input channels from `first` on."""
        lanes, taps, r = self.lanes, self.taps, self.triple.taps
        side = self.ic if self.swap else self.oc
        at = group * (side * self.strides.n) + Affine.of(vector) * (lanes * self.out_stride)
        at = at + Affine.of(first) * self.in_stride
        if self.out_stride > 1 and self.in_stride == taps:
            # Input channel and tap are one contiguous axis.
            for start in range(0, depth * taps, lanes):
                width = min(lanes, depth * taps - start)
                rows = [k.load(w, at + o * self.out_stride + start, width) for o in range(count)]
                for number, column in enumerate(k.transpose(rows)[:width]):
                    k.store(column, squares, (start + number) * lanes)
            return
        if self.out_stride == taps and taps % lanes == 0:
            # Output channel and tap are; of 9 or 25 taps, squares of 16 would be half empty.
            with k.loop("in", 0, depth) as c:
                for start in range(0, taps, lanes):
                    width, from_ = min(lanes, taps - start), at + c * self.in_stride + start
                    rows = [k.load(w, from_ + o * taps, width) for o in range(count)]
                    for number, column in enumerate(k.transpose(rows)[:width]):
                        k.store(column, squares, c * (taps * lanes) + (start + number) * lanes)
            return
        with k.loop("tap_row", 0, r) as i, k.loop("tap_column", 0, r) as j:
            tap, to = at + i * self.strides.h + j * self.strides.w, (i * r + j) * lanes
            if self.out_stride > 1 and self.in_stride == 1:
                rows = [k.load(w, tap + o * self.out_stride, depth) for o in range(count)]
                for number, column in enumerate(k.transpose(rows)[:depth]):
                    k.store(column, squares, to + number * (taps * lanes))
            else:
                with k.loop("in", 0, depth) as c:
                    value = k.load(w, tap + c * self.in_stride, count, self.out_stride)
                    k.store(value, squares, to + c * (taps * lanes))

    def transform(
        self, k: Builder, squares: Buffer, patch: Buffer, depth: int, to: Buffer, at: Affine, product: int, step: int
    ) -> None:
        """to[at + (i * products + j) * product + in channel * step] = a vector, for each channel of the square."""
        lanes, r, n = self.lanes, self.triple.taps, self.triple.products
        with k.loop("in", 0, depth) as c:

            def load(row: Affine | int, column: Affine | int) -> Register:
                tap = Affine.of(row) * r + column
                if self.swap:
                    tap = self.taps - 1 - tap
                return k.load(squares, c * (self.taps * lanes) + tap * lanes)

            def store(value: Register, i: Affine | int, j: Affine | int) -> None:
                k.store(value, to, at + c * step + (Affine.of(i) * n + j) * product)

            sandwich(k, self.triple.g, patch, load, store)

    def depths(self) -> list[tuple[int, int, int]]:
        """(first input channel, channels of a square, squares): whole ones, then what is left."""
        whole, rest = divmod(self.ic, self.lanes)
        runs = [(0, self.lanes, whole)] if whole else []
        return [*runs, (whole * self.lanes, rest, 1)] if rest else runs

    def emit(self, k: Builder, w: Buffer, to: Buffer, squares: Buffer, patch: Buffer) -> None:
        """The stages that transform all filters."""
        for first, depth, runs in self.depths():
            for begin, width, blocks in self.runs():
                product, step = self.product_step(width), width * self.lanes
                grid = (("group", self.groups), ("block", blocks), ("square", runs))
                with k.stage(f"filters {begin}", *grid) as (g, b, s):
                    channel = s * self.lanes + first
                    for v in range(width):
                        vector = b * self.vectors + begin + v
                        count = self.counts[begin + v]
                        self.square(k, w, squares, g, vector, count, channel, depth)
                        block = self.start(g, Affine(0), b * self.vectors + begin, width)
                        at = block + channel * step + v * self.lanes
                        self.transform(k, squares, patch, depth, to, at, product, step)

    def fill(self, k: Builder, to: Buffer) -> None:
        """The stage that writes what lies between the products, so that every element of `to` is written."""
        for begin, width, blocks in self.runs() if self.by_block else [(0, len(self.counts), 1)]:
            with k.stage(f"between {begin}", ("group", self.groups), ("block", blocks), ("product", self.products)) as (
                g, b, xi,
            ):  # fmt: skip
                start = self.start(g, xi, b * self.vectors + begin, width)
                k.store(k.const(0.0), to, start + width * self.lanes * self.ic)

    def runs(self) -> list[tuple[int, int, int]]:
        """(first vector, vectors of a block, blocks) of blocks that are alike: of the same lanes."""
        return block_runs(self.counts, self.vectors, self.lanes)
