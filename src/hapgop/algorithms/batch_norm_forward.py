"""y = activation((x - mean) / sqrt(var + eps) * weight + bias + r), and the statistics.

The statistics take one pass over memory. Each block of pixels has its mean, then the squares of what differs from that
mean, while the block is in the cache; in the end the blocks' means give the whole mean, and what each block's mean
differs from it is added to the squares. Nothing is ever subtracted from a square, so large means cost no accuracy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

from hapgop.algorithms.pixel_blocks import Counts, PixelBlocks, load, store, sum_of
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register


@dataclass(slots=True)
class Forward:
    """Writes the kernel. scales: of each channel its mean, then inverse * weight."""

    blocks: PixelBlocks
    k: Builder
    n: Affine
    x: Buffer
    weight: Buffer
    bias: Buffer
    r: Buffer | None
    y: Buffer
    stats: Buffer
    means: Buffer
    squares: Buffer
    scales: Buffer

    @classmethod
    def kernel(cls, blocks: PixelBlocks, dtype: str, relu: bool, residual: bool, eps: float, streaming: bool) -> Kernel:
        k = Builder("batch_norm", dtype, blocks.lanes)
        n = k.size("pixels", low=0)
        c, sums = blocks.c, blocks.number(n) * blocks.padded
        x, weight, bias = k.buffer("x", n * c, "in"), k.buffer("weight", c, "in"), k.buffer("bias", c, "in")
        r, y, stats = k.buffer("r", n * c, "in"), k.buffer("y", n * c, "out"), k.buffer("stats", 3 * c, "out")
        means, squares = k.buffer("means", sums, "scratch"), k.buffer("squares", sums, "scratch")
        scales = k.buffer("scales", 2 * blocks.padded, "scratch")
        beside = r if residual else None
        self = cls(blocks, k, n, x, weight, bias, beside, y, stats, means, squares, scales)
        with k.stage("statistics", ("block", blocks.number(n))) as (block,):
            blocks.channels(k, partial(self.of_block, block))
        blocks.vectors_of(k, "whole", partial(self.whole, eps))
        # Back from the last block, which the first look has left in the cache.
        with k.stage("normalise", ("block", blocks.number(n)), descending=True) as (block,):
            blocks.channels(k, partial(self.normalise, block, relu, streaming))
        return k.kernel()

    def of_block(self, block: Affine, at: Affine, counts: Counts) -> None:
        """A block's mean, and the squares of what differs from it."""
        b, k = self.blocks, self.k
        many, size = b.side_by_side(counts), b.size(k, self.n, block)

        def added(deviation: list[Register] | None) -> list[Register]:
            """Of each vector the sum over the block, or of the squares of what differs from `deviation`."""
            sums = [[k.const(0.0) for _ in counts] for _ in range(many)]

            def pixels(places: Sequence[Affine]) -> None:
                for pixel, totals in zip(places, sums, strict=False):
                    for v, value in enumerate(b.load(k, self.x, pixel, at, counts)):
                        if deviation is None:
                            k.add(totals[v], value, into=totals[v])
                        else:
                            off = k.sub(value, deviation[v])
                            k.fma(off, off, totals[v], into=totals[v])

            b.each_pixel(k, self.n, block, many, pixels)
            return [sum_of(k, [totals[v] for totals in sums]) for v in range(len(counts))]

        mean = [k.div(total, size) for total in added(None)]
        full = (b.lanes,) * len(counts)
        store(k, mean, self.means, block * b.padded + at, full, b.lanes)
        store(k, added(mean), self.squares, block * b.padded + at, full, b.lanes)

    def whole(self, eps: float, at: Affine, count: int) -> None:
        """The statistics of all blocks together, of one vector of channels."""
        b, k = self.blocks, self.k
        pixels, total = k.from_index(self.n), k.const(0.0)
        with k.loop("block", 0, b.number(self.n)) as block:
            size = b.size(k, self.n, block)
            k.fma(k.load(self.means, block * b.padded + at), size, total, into=total)
        mean, total = k.div(total, pixels), k.const(0.0)
        with k.loop("block", 0, b.number(self.n)) as block:
            place, size = block * b.padded + at, b.size(k, self.n, block)
            off = k.sub(k.load(self.means, place), mean)
            k.add(total, k.fma(k.mul(off, off), size, k.load(self.squares, place)), into=total)
        var = k.div(total, pixels)
        inverse = k.div(k.const(1.0), k.sqrt(k.add(var, k.const(eps))))
        for row, value in enumerate((mean, var, inverse)):
            k.store(value, self.stats, at + row * b.c, count)
        k.store(mean, self.scales, at)
        k.store(k.mul(inverse, k.load(self.weight, at, count)), self.scales, at + b.padded)

    def normalise(self, block: Affine, relu: bool, streaming: bool, at: Affine, counts: Counts) -> None:
        b, k = self.blocks, self.k
        full, zero = (b.lanes,) * len(counts), k.const(0.0)
        mean, scale = (load(k, self.scales, at + row * b.padded, full, b.lanes) for row in (0, 1))
        shift = load(k, self.bias, at, counts, b.lanes)

        def pixels(places: Sequence[Affine]) -> None:
            for pixel, (v, count) in product(places, enumerate(counts)):
                place = pixel * b.c + at + v * b.lanes
                value = normalised(k, k.load(self.x, place, count), mean[v], scale[v], shift[v])
                if self.r is not None:
                    value = k.add(value, k.load(self.r, place, count))
                if relu:
                    value = k.max(value, zero)
                k.store(value, self.y, place, count, streaming=streaming)

        b.each_pixel(k, self.n, block, b.side_by_side(counts), pixels)


def normalised(k: Builder, x: Register, mean: Register, scale: Register, shift: Register) -> Register:
    """(x - mean) * scale + shift: in forward and backward the same roundings, so that ReLU's mask can be recomputed."""
    return k.fma(k.sub(x, mean), scale, shift)
