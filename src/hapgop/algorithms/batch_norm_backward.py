"""dx = scale * (g - sum(g) / n - (x - mean) * inverse^2 * sum(g * (x - mean)) / n), g where y is above zero.

Two passes: the sums, then dx. The mask is recomputed from x, or read from y where a residual has been added; with it
the residual's gradient is written then, which the second pass reads instead of g and y.

What is wrong in the mean of g is wrong alike in every pixel of dx, and adds up in the gradient of a bias further back.
Behind a global pool all g of a channel are nearly the same, and dx a small difference from their mean. So the sum of g
is compensated, and its mean is taken off before anything is multiplied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from math import inf
from typing import Literal

from hapgop.algorithms.batch_norm_forward import normalised
from hapgop.algorithms.pixel_blocks import Counts, PixelBlocks, load, store, sum_of
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

Mask = Literal["none", "recomputed", "read"]

# (number of the vector, x, g) to g where the ReLU let it through.
_Masked = Callable[[int, Register, Register], Register]


@dataclass(slots=True)
class Backward:
    """Writes the kernel. factors: of each channel what x - mean is multiplied by in dx, then the mean of g."""

    blocks: PixelBlocks
    mask: Mask
    k: Builder
    n: Affine
    g: Buffer
    x: Buffer
    weight: Buffer
    bias: Buffer
    stats: Buffer
    y: Buffer
    dx: Buffer
    dr: Buffer
    dparams: Buffer
    sums: Buffer
    products: Buffer
    factors: Buffer

    @classmethod
    def kernel(cls, blocks: PixelBlocks, dtype: str, mask: Mask, streaming: bool) -> Kernel:
        k = Builder("batch_norm_grad", dtype, blocks.lanes)
        n = k.size("pixels", low=0)
        c, sums = blocks.c, blocks.number(n) * blocks.padded
        g, x, weight = k.buffer("g", n * c, "in"), k.buffer("x", n * c, "in"), k.buffer("weight", c, "in")
        bias, stats, y = k.buffer("bias", c, "in"), k.buffer("stats", 3 * c, "in"), k.buffer("y", n * c, "in")
        dx, dr = k.buffer("dx", n * c, "out"), k.buffer("dr", n * c, "inout")
        dparams = k.buffer("dparams", 2 * c, "out")
        one, two = k.buffer("sums", sums, "scratch"), k.buffer("products", sums, "scratch")
        factors = k.buffer("factors", 2 * blocks.padded, "scratch")
        self = cls(blocks, mask, k, n, g, x, weight, bias, stats, y, dx, dr, dparams, one, two, factors)
        with k.stage("sums", ("block", blocks.number(n))) as (block,):
            blocks.channels(k, partial(self.of_block, block))
        blocks.vectors_of(k, "whole", self.whole)
        # Back from the last block, which the sums have left in the cache.
        with k.stage("dx", ("block", blocks.number(n)), descending=True) as (block,):
            blocks.channels(k, partial(self.into_x, block, streaming))
        return k.kernel()

    def of_block(self, block: Affine, at: Affine, counts: Counts) -> None:
        """A block's sums of g and of g * (x - mean)."""
        b, k = self.blocks, self.k
        mean = load(k, self.stats, at, counts, b.lanes)
        masked, many, zero = self.masking(at, counts, mean), max(1, b.side_by_side(counts) // 2), k.const(0.0)
        two = [[k.const(0.0) for _ in counts] for _ in range(many)]
        one, lost = [k.const(0.0) for _ in counts], [k.const(0.0) for _ in counts]

        def pixels(places: Sequence[Affine]) -> None:
            some: dict[int, Register] = {}
            for (i, pixel), (v, count) in product(enumerate(places), enumerate(counts)):
                place = pixel * b.c + at + v * b.lanes
                value, given = k.load(self.x, place, count), k.load(self.g, place, count)
                if self.mask == "read":
                    given = k.select("above", k.load(self.y, place, count), zero, given, zero)
                    k.store(given, self.dr, place, count)
                else:
                    given = masked(v, value, given)
                k.fma(given, k.sub(value, mean[v]), two[i][v], into=two[i][v])
                some[v] = k.add(some[v], given) if v in some else given
                if i + 1 == len(places):
                    added(k, some[v], one[v], lost[v])

        b.each_pixel(k, self.n, block, many, pixels)
        sums = [with_lost(k, total, rest) for total, rest in zip(one, lost, strict=True)]
        products = [sum_of(k, [total[v] for total in two]) for v in range(len(counts))]
        for values, buffer in ((sums, self.sums), (products, self.products)):
            store(k, values, buffer, block * b.padded + at, (b.lanes,) * len(counts), b.lanes)

    def masking(
        self, at: Affine, counts: Counts, mean: list[Register], scale: list[Register] | None = None
    ) -> _Masked:  # fmt: skip
        """What tells from x which g count; where the mask was read or there is none, all do."""
        b, k = self.blocks, self.k
        if self.mask != "recomputed":
            return lambda v, value, given: given
        zero, shift = k.const(0.0), load(k, self.bias, at, counts, b.lanes)
        scale = scale or self.scale(at, counts)

        def masked(v: int, value: Register, given: Register) -> Register:
            return k.select("above", normalised(k, value, mean[v], scale[v], shift[v]), zero, given, zero)

        return masked

    def scale(self, at: Affine, counts: Counts) -> list[Register]:
        b, k = self.blocks, self.k
        inverse = load(k, self.stats, at + 2 * b.c, counts, b.lanes)
        return [k.mul(i, w) for i, w in zip(inverse, load(k, self.weight, at, counts, b.lanes), strict=True)]

    def whole(self, at: Affine, count: int) -> None:
        """The sums of all blocks together, and the factors, of one vector of channels."""
        b, k = self.blocks, self.k
        one, two, lost = k.const(0.0), k.const(0.0), k.const(0.0)
        with k.loop("block", 0, b.number(self.n)) as block:
            added(k, k.load(self.sums, block * b.padded + at), one, lost)
            k.add(two, k.load(self.products, block * b.padded + at), into=two)
        one = with_lost(k, one, lost)
        inverse, pixels = k.load(self.stats, at + 2 * b.c, count), k.from_index(self.n)
        weighted = k.mul(two, inverse)
        k.store(weighted, self.dparams, at, count)
        k.store(one, self.dparams, at + b.c, count)
        scale = k.sub(k.const(0.0), k.mul(inverse, k.load(self.weight, at, count)))
        k.store(k.div(k.mul(k.mul(scale, inverse), weighted), pixels), self.factors, at)
        k.store(k.div(one, pixels), self.factors, at + b.padded)

    def into_x(self, block: Affine, streaming: bool, at: Affine, counts: Counts) -> None:
        b, k = self.blocks, self.k
        mean, scale, full = load(k, self.stats, at, counts, b.lanes), self.scale(at, counts), (b.lanes,) * len(counts)
        masked = self.masking(at, counts, mean, scale)
        slope, centre = (load(k, self.factors, at + row * b.padded, full, b.lanes) for row in (0, 1))
        source = self.dr if self.mask == "read" else self.g

        def pixels(places: Sequence[Affine]) -> None:
            for pixel, (v, count) in product(places, enumerate(counts)):
                place = pixel * b.c + at + v * b.lanes
                value = k.load(self.x, place, count)
                given = masked(v, value, k.load(source, place, count))
                rest = k.mul(k.sub(value, mean[v]), slope[v])
                k.store(k.fma(k.sub(given, centre[v]), scale[v], rest), self.dx, place, count, streaming=streaming)

        b.each_pixel(k, self.n, block, b.side_by_side(counts), pixels)


def added(k: Builder, value: Register, total: Register, lost: Register) -> None:
    """Adds a value to a sum, and to `lost` what rounding takes away, which is exact where the sum is the larger one."""
    rounded = k.sub(k.add(total, value), total)
    k.add(lost, k.sub(value, rounded), into=lost)
    k.add(total, value, into=total)


def with_lost(k: Builder, total: Register, lost: Register) -> Register:
    """The sum, with what was lost; of infinite sums that is no number."""
    return k.select("above", k.const(inf), lost, k.add(total, lost), total)
