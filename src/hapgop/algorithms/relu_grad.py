"""The gradient through a ReLU, and its sum for the bias before it, in one pass; channels last."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from hapgop.algorithms import costs
from hapgop.algorithms.pixel_blocks import Counts, PixelBlocks, store, sum_of
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.machine import Machine
from hapgop.tile import Affine, Builder, Kernel


@dataclass(frozen=True, slots=True)
class ReluGrad(Algorithm):
    """`relu_grad` of maps whose channels come last."""

    name: str = "relu gradient"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "relu_grad":
            return f"computes relu_grad, not {problem.op}"
        s = problem.maps
        if problem.dtype not in ("float32", "float64"):
            return f"does not know {problem.dtype}"
        if "nchw" in (problem.x_layout, problem.y_layout) and s.c > 1 and s.ih * s.iw > 1:
            return "wants the channels last"
        return None

    def seconds(self, problem: Problem, machine: Machine) -> float:
        s = problem.maps
        return costs.traffic(3 * s.n * s.c * s.ih * s.iw * problem.itemsize, machine) + costs.CALL + costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        s = problem.maps
        blocks, pixels = PixelBlocks.of(s.c, problem.dtype, machine), s.n * s.ih * s.iw
        return Recipe(
            key=f"relu_grad {blocks} {problem.dtype} {machine}",
            build=partial(_kernel, blocks, problem.dtype),
            sizes=(pixels,),
            scratch=(blocks.count(pixels) * blocks.padded,),
            items=blocks.count(pixels),
            tiles=f"{blocks.pixels} pixels x {blocks.vectors} vectors",
        )


def _kernel(b: PixelBlocks, dtype: str) -> Kernel:
    k = Builder("relu_grad", dtype, b.lanes)
    n = k.size("pixels", low=0)
    g, y = k.buffer("g", n * b.c, "in"), k.buffer("y", n * b.c, "in")
    dx, db = k.buffer("dx", n * b.c, "out"), k.buffer("db", b.c, "out")
    sums = k.buffer("sums", b.number(n) * b.padded, "scratch")

    def of_block(block: Affine, at: Affine, counts: Counts) -> None:
        many, zero = b.side_by_side(counts), k.const(0.0)
        totals = [[k.const(0.0) for _ in counts] for _ in range(many)]

        def pixels(places: Sequence[Affine]) -> None:
            for pixel, total in zip(places, totals, strict=False):
                given, result = b.load(k, g, pixel, at, counts), b.load(k, y, pixel, at, counts)
                through = [k.select("above", z, zero, v, zero) for z, v in zip(result, given, strict=True)]
                store(k, through, dx, pixel * b.c + at, counts, b.lanes)
                for one, value in zip(total, through, strict=True):
                    k.add(one, value, into=one)

        b.each_pixel(k, n, block, many, pixels)
        whole = [sum_of(k, [total[v] for total in totals]) for v in range(len(counts))]
        store(k, whole, sums, block * b.padded + at, (b.lanes,) * len(counts), b.lanes)

    def added(at: Affine, count: int) -> None:
        total = k.const(0.0)
        with k.loop("block", 0, b.number(n)) as block:
            k.add(total, k.load(sums, block * b.padded + at), into=total)
        k.store(total, db, at, count)

    with k.stage("mask", ("block", b.number(n))) as (block,):
        b.channels(k, partial(of_block, block))
    b.vectors_of(k, "bias", added)
    return k.kernel()
