"""Batch norm in training, forward and backward, of maps whose channels come last."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hapgop.algorithms import costs
from hapgop.algorithms.batch_norm_backward import Backward, Mask
from hapgop.algorithms.batch_norm_forward import Forward
from hapgop.algorithms.pixel_blocks import PixelBlocks
from hapgop.algorithms.problem import NORM_OPS, Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.machine import Machine

# Maps of more than this share of the last cache are written past the caches: 8 to 14 % of the time saved, and the
# convolution that reads them next takes as long. Smaller ones are still there when it does.
_STREAMED = 8


@dataclass(frozen=True, slots=True)
class BatchNorm(Algorithm):
    """`batch_norm` and `batch_norm_grad`."""

    name: str = "batch norm"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in NORM_OPS:
            return f"computes batch norm, not {problem.op}"
        s = problem.maps
        if problem.activation not in (None, "relu"):
            return f"knows no {problem.activation}"
        if problem.dtype not in ("float32", "float64"):
            return f"does not know {problem.dtype}"
        if "nchw" in (problem.x_layout, problem.y_layout) and s.c > 1 and s.ih * s.iw > 1:
            return "wants the channels last"
        return None

    def seconds(self, problem: Problem, machine: Machine) -> float:
        s = problem.maps
        size = s.n * s.c * s.ih * s.iw * problem.itemsize
        passes = 3 if problem.op == "batch_norm" else 5
        return costs.traffic((passes + problem.residual) * size, machine) + costs.CALL + 2 * costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        s = problem.maps
        blocks, pixels = PixelBlocks.of(s.c, problem.dtype, machine), s.n * s.ih * s.iw
        relu = problem.activation == "relu"
        large = s.n * s.c * s.ih * s.iw * problem.itemsize > machine.l3 // _STREAMED
        streaming = large and blocks.lines(problem.itemsize)
        mask: Mask = "none" if not relu else "read" if problem.residual else "recomputed"
        if problem.op == "batch_norm":
            settings = f"{relu} {problem.residual} {problem.eps} {streaming}"
            build = partial(Forward.kernel, blocks, problem.dtype, relu, problem.residual, problem.eps, streaming)
        else:
            settings = f"{mask} {streaming}"
            build = partial(Backward.kernel, blocks, problem.dtype, mask, streaming)
        sums = blocks.count(pixels) * blocks.padded
        return Recipe(
            key=f"{problem.op} {blocks} {settings} {problem.dtype} {machine}",
            build=build,
            sizes=(pixels,),
            scratch=(sums, sums, 2 * blocks.padded),
            items=blocks.count(pixels),
            tiles=f"{blocks.pixels} pixels x {blocks.vectors} vectors",
        )
