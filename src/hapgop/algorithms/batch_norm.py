"""Batch norm in training: y = activation((x - mean) / sqrt(var + eps) * weight + bias + r), channels last.

The statistics take one pass over memory. Each block of pixels has its mean, then the squares of what differs from that
mean, while the block is in the cache; in the end the blocks' means give the whole mean, and what each block's mean
differs from it is added to the squares. Nothing is ever subtracted from a square, so large means cost no accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Literal

from hapgop.algorithms import costs
from hapgop.algorithms.pixel_blocks import Counts, PixelBlocks, load, store, sum_of
from hapgop.algorithms.problem import NORM_OPS, Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.machine import Machine
from hapgop.shape import PoolShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_REGISTERS = {"batch_norm": 8, "batch_norm_grad": 8}  # for a vector

Mask = Literal["none", "recomputed", "read"]


@dataclass(frozen=True, slots=True)
class BatchNorm(Algorithm):
    """`batch_norm` and `batch_norm_grad` of maps whose channels come last."""

    name: str = "batch norm"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in NORM_OPS:
            return f"normalises over the batch, and does not compute {problem.op}"
        s = problem.shape
        assert isinstance(s, PoolShape)
        if "nchw" in (problem.x_layout, problem.y_layout) and s.c > 1 and s.ih * s.iw > 1:
            return "wants the channels last"
        return None

    def seconds(self, problem: Problem, machine: Machine) -> float:
        s = problem.shape
        assert isinstance(s, PoolShape)
        size = s.n * s.c * s.ih * s.iw * problem.itemsize
        passes = 3 if problem.op == "batch_norm" else 5
        return costs.traffic((passes + problem.residual) * size, machine) + costs.CALL + 2 * costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        s = problem.shape
        assert isinstance(s, PoolShape)
        registers = _REGISTERS[problem.op]
        blocks, pixels = PixelBlocks.of(s.c, problem.dtype, machine, registers), s.n * s.ih * s.iw
        relu = problem.activation == "relu"
        sums = blocks.count(pixels) * blocks.padded
        build: partial[Kernel]
        if problem.op == "batch_norm":
            build = partial(_Forward(blocks, relu, problem.residual, problem.eps).kernel, problem.dtype)
            scratch = (sums, sums, 2 * blocks.padded)
        else:
            mask: Mask = "none" if not relu else "read" if problem.residual else "recomputed"
            build = partial(_Backward(blocks, mask).kernel, problem.dtype)
            scratch = (sums, sums, 2 * blocks.padded)
        return Recipe(
            key=f"{problem.op} {build.func.__self__} {problem.dtype} {machine}",
            build=build,
            sizes=(pixels,),
            scratch=scratch,
            items=blocks.count(pixels),
            tiles=f"{blocks.pixels} pixels x {blocks.vectors} vectors",
        )


@dataclass(frozen=True, slots=True)
class _Forward:
    blocks: PixelBlocks
    relu: bool
    residual: bool
    eps: float

    def kernel(self, dtype: str) -> Kernel:
        b, c, padded = self.blocks, self.blocks.c, self.blocks.padded
        k = Builder("batch_norm", dtype, b.lanes)
        n = k.size("pixels", low=0)
        x, weight, bias = k.buffer("x", n * c, "in"), k.buffer("weight", c, "in"), k.buffer("bias", c, "in")
        r = k.buffer("r", n * c, "in")
        y, stats = k.buffer("y", n * c, "out"), k.buffer("stats", 3 * c, "out")
        means = k.buffer("means", b.number(n) * padded, "scratch")
        squares = k.buffer("squares", b.number(n) * padded, "scratch")
        scales = k.buffer("scales", 2 * padded, "scratch")  # of each channel its mean, then its scale
        with k.stage("statistics", ("block", b.number(n))) as (block,):
            b.channels(k, partial(self.of_block, k, n, block, x, means, squares))
        b.vectors_of(k, "whole", partial(self.whole, k, n, weight, means, squares, scales, stats))
        with k.stage("normalise", ("block", b.number(n))) as (block,):
            b.channels(k, partial(self.normalise, k, n, block, x, bias, r, scales, y))
        return k.kernel()

    def of_block(
        self,
        k: Builder,
        n: Affine,
        block: Affine,
        x: Buffer,
        means: Buffer,
        squares: Buffer,
        at: Affine,
        counts: Counts,
    ) -> None:
        b = self.blocks
        many, place = b.side_by_side(counts), block * b.padded + at
        size = b.size(k, n, block)

        def added(deviation: list[Register] | None) -> list[Register]:
            """Of each vector the sum over the block, or of the squares of what differs from `deviation`."""
            sums = [[k.const(0.0) for _ in counts] for _ in range(many)]

            def pixels(places: list[Affine]) -> None:
                for pixel, totals in zip(places, sums, strict=False):
                    for v, value in enumerate(b.load(k, x, pixel, at, counts)):
                        if deviation is None:
                            k.add(totals[v], value, into=totals[v])
                        else:
                            off = k.sub(value, deviation[v])
                            k.fma(off, off, totals[v], into=totals[v])

            b.each_pixel(k, n, block, many, pixels)
            return [sum_of(k, [totals[v] for totals in sums]) for v in range(len(counts))]

        mean = [k.div(total, size) for total in added(None)]
        store(k, mean, means, place, (b.lanes,) * len(counts), b.lanes)
        store(k, added(mean), squares, place, (b.lanes,) * len(counts), b.lanes)

    def whole(
        self, k: Builder, n: Affine, weight: Buffer, means: Buffer, squares: Buffer, scales: Buffer, stats: Buffer,
        at: Affine, count: int,
    ) -> None:  # fmt: skip
        b, c = self.blocks, self.blocks.c
        pixels, total = k.from_index(n), k.const(0.0)
        with k.loop("block", 0, b.number(n)) as block:
            k.fma(k.load(means, block * b.padded + at), b.size(k, n, block), total, into=total)
        mean, total = k.div(total, pixels), k.const(0.0)
        with k.loop("block", 0, b.number(n)) as block:
            place = block * b.padded + at
            off = k.sub(k.load(means, place), mean)
            k.add(total, k.fma(k.mul(off, off), b.size(k, n, block), k.load(squares, place)), into=total)
        var = k.div(total, pixels)
        inverse = k.div(k.const(1.0), k.sqrt(k.add(var, k.const(self.eps))))
        for row, value in enumerate((mean, var, inverse)):
            k.store(value, stats, at + row * c, count)
        k.store(mean, scales, at)
        k.store(k.mul(inverse, k.load(weight, at, count)), scales, at + b.padded)

    def normalise(
        self, k: Builder, n: Affine, block: Affine, x: Buffer, bias: Buffer, r: Buffer, scales: Buffer, y: Buffer,
        at: Affine, counts: Counts,
    ) -> None:  # fmt: skip
        b = self.blocks
        full = (b.lanes,) * len(counts)
        mean, scale = load(k, scales, at, full, b.lanes), load(k, scales, at + b.padded, full, b.lanes)
        shift, zero = load(k, bias, at, counts, b.lanes), k.const(0.0)

        def pixels(places: list[Affine]) -> None:
            for pixel, (v, count) in product(places, enumerate(counts)):
                place = pixel * b.c + at + v * b.lanes
                value = normalised(k, k.load(x, place, count), mean[v], scale[v], shift[v])
                if self.residual:
                    value = k.add(value, k.load(r, place, count))
                if self.relu:
                    value = k.max(value, zero)
                k.store(value, y, place, count)

        b.each_pixel(k, n, block, b.side_by_side(counts), pixels)


def normalised(k: Builder, x: Register, mean: Register, scale: Register, shift: Register) -> Register:
    """(x - mean) * scale + shift: in forward and backward the same roundings, so that ReLU's mask can be recomputed."""
    return k.fma(k.sub(x, mean), scale, shift)


@dataclass(frozen=True, slots=True)
class _Backward:
    """dx = scale * (g - sum(g) / n - (x - mean) * inverse^2 * sum(g * (x - mean)) / n), g where y is above zero.

    The mask is recomputed from x, or read from y where a residual has been added, and with it the residual's gradient
    is written, which the second pass then reads instead of g and y.
    """

    blocks: PixelBlocks
    mask: Mask

    def kernel(self, dtype: str) -> Kernel:
        b, c, padded = self.blocks, self.blocks.c, self.blocks.padded
        k = Builder("batch_norm_grad", dtype, b.lanes)
        n = k.size("pixels", low=0)
        g, x = k.buffer("g", n * c, "in"), k.buffer("x", n * c, "in")
        weight, bias, stats = k.buffer("weight", c, "in"), k.buffer("bias", c, "in"), k.buffer("stats", 3 * c, "in")
        y = k.buffer("y", n * c, "in")
        dx, dr = k.buffer("dx", n * c, "out"), k.buffer("dr", n * c, "inout")
        dparams = k.buffer("dparams", 2 * c, "out")
        sums = k.buffer("sums", b.number(n) * padded, "scratch")
        products = k.buffer("products", b.number(n) * padded, "scratch")
        factors = k.buffer("factors", 2 * padded, "scratch")
        with k.stage("sums", ("block", b.number(n))) as (block,):
            b.channels(k, partial(self.of_block, k, n, block, g, x, weight, bias, stats, y, dr, sums, products))
        b.vectors_of(k, "whole", partial(self.whole, k, n, weight, stats, sums, products, factors, dparams))
        with k.stage("dx", ("block", b.number(n))) as (block,):
            b.channels(
                k,
                partial(
                    self.into_x, k, n, block, dr if self.mask == "read" else g, x, weight, bias, stats, factors, dx
                ),
            )
        return k.kernel()

    def of_block(
        self, k: Builder, n: Affine, block: Affine, g: Buffer, x: Buffer, weight: Buffer, bias: Buffer, stats: Buffer,
        y: Buffer, dr: Buffer, sums: Buffer, products: Buffer, at: Affine, counts: Counts,
    ) -> None:  # fmt: skip
        b, zero = self.blocks, k.const(0.0)
        mean, masked = load(k, stats, at, counts, b.lanes), self.masking(k, weight, bias, stats, at, counts)
        many = max(1, b.side_by_side(counts) // 2)
        one, two = ([[k.const(0.0) for _ in counts] for _ in range(many)] for _ in range(2))

        def pixels(places: list[Affine]) -> None:
            for (i, pixel), (v, count) in product(enumerate(places), enumerate(counts)):
                place = pixel * b.c + at + v * b.lanes
                value, given = k.load(x, place, count), k.load(g, place, count)
                if self.mask == "read":
                    given = k.select("above", k.load(y, place, count), zero, given, zero)
                    k.store(given, dr, place, count)
                else:
                    given = masked(v, value, given)
                k.add(one[i][v], given, into=one[i][v])
                k.fma(given, k.sub(value, mean[v]), two[i][v], into=two[i][v])

        b.each_pixel(k, n, block, many, pixels)
        for totals, buffer in ((one, sums), (two, products)):
            values = [sum_of(k, [total[v] for total in totals]) for v in range(len(counts))]
            store(k, values, buffer, block * b.padded + at, (b.lanes,) * len(counts), b.lanes)

    def masking(self, k: Builder, weight: Buffer, bias: Buffer, stats: Buffer, at: Affine, counts: Counts):  # type: ignore[no-untyped-def]
        b, zero = self.blocks, k.const(0.0)
        if self.mask != "recomputed":
            return lambda v, value, given: given
        mean, shift = load(k, stats, at, counts, b.lanes), load(k, bias, at, counts, b.lanes)
        inverse = load(k, stats, at + 2 * b.c, counts, b.lanes)
        scale = [k.mul(i, w) for i, w in zip(inverse, load(k, weight, at, counts, b.lanes), strict=True)]

        def masked(v: int, value: Register, given: Register) -> Register:
            return k.select("above", normalised(k, value, mean[v], scale[v], shift[v]), zero, given, zero)

        return masked

    def whole(
        self, k: Builder, n: Affine, weight: Buffer, stats: Buffer, sums: Buffer, products: Buffer, factors: Buffer,
        dparams: Buffer, at: Affine, count: int,
    ) -> None:  # fmt: skip
        b, c = self.blocks, self.blocks.c
        one, two = k.const(0.0), k.const(0.0)
        with k.loop("block", 0, b.number(n)) as block:
            k.add(one, k.load(sums, block * b.padded + at), into=one)
            k.add(two, k.load(products, block * b.padded + at), into=two)
        inverse, pixels, none = k.load(stats, at + 2 * c, count), k.from_index(n), k.const(0.0)
        weighted = k.mul(two, inverse)
        k.store(weighted, dparams, at, count)
        k.store(one, dparams, at + c, count)
        scale = k.sub(none, k.mul(inverse, k.load(weight, at, count)))
        k.store(k.div(k.mul(k.mul(scale, inverse), weighted), pixels), factors, at)
        k.store(k.div(k.mul(scale, one), pixels), factors, at + b.padded)

    def into_x(
        self, k: Builder, n: Affine, block: Affine, g: Buffer, x: Buffer, weight: Buffer, bias: Buffer, stats: Buffer,
        factors: Buffer, dx: Buffer, at: Affine, counts: Counts,
    ) -> None:  # fmt: skip
        b, full = self.blocks, (self.blocks.lanes,) * len(counts)
        mean, masked = load(k, stats, at, counts, b.lanes), self.masking(k, weight, bias, stats, at, counts)
        inverse = load(k, stats, at + 2 * b.c, counts, b.lanes)
        scale = [k.mul(i, w) for i, w in zip(inverse, load(k, weight, at, counts, b.lanes), strict=True)]
        slope, offset = load(k, factors, at, full, b.lanes), load(k, factors, at + b.padded, full, b.lanes)

        def pixels(places: list[Affine]) -> None:
            for pixel, (v, count) in product(places, enumerate(counts)):
                place = pixel * b.c + at + v * b.lanes
                value = k.load(x, place, count)
                given = masked(v, value, k.load(g, place, count))
                rest = k.fma(k.sub(value, mean[v]), slope[v], offset[v])
                k.store(k.fma(given, scale[v], rest), dx, place, count)

        b.each_pixel(k, n, block, b.side_by_side(counts), pixels)
