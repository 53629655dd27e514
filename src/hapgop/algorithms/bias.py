"""The bias gradient: the sum of the output's gradient over images and pixels, for each channel.

Rows are summed, then the rows of an image, then the images of a group, then the groups in order: sums of sums keep
the rounding error small, and the order depends on the shape alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from hapgop.algorithms.layout import image_strides, vector_counts
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Builder, Kernel

_GROUPS = 16
_VECTORS = 4  # vectors of channels at a time: enough to hide the latency of a chain of additions


@dataclass(frozen=True, slots=True)
class Bias(Algorithm):
    """`grad_b` of every shape."""

    name: str = "bias"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        return None if problem.op == "grad_b" else f"computes grad_b, not {problem.op}"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        assert isinstance(problem.shape, ConvShape)
        n, c, h, w = problem.shape.y_shape
        return n * c * h * w * problem.itemsize / 20e9 + 1e-6

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        assert isinstance(problem.shape, ConvShape)
        n, c, h, w = problem.shape.y_shape
        if h * w == 1:  # a batch of single pixels is an image of as many
            n, h, w, layout = 1, n, 1, "nhwc"
        else:
            layout = problem.y_layout
        groups = min(max(n, 1), _GROUPS)
        lanes = machine.lanes(problem.dtype)
        counts = vector_counts(c, lanes)

        def build() -> Kernel:
            k = Builder("bias", problem.dtype, lanes)
            images = k.size("n", low=0)
            g = k.buffer("g", images * (c * h * w), "in")
            db = k.buffer("db", c, "out")
            sums = k.buffer("sums", groups * len(counts) * lanes, "scratch")
            strides = image_strides(layout, c, h, w)
            for first in range(0, len(counts), _VECTORS):
                block = counts[first : first + _VECTORS]
                with k.stage(f"sums {first}", ("group", groups)) as (group,):
                    totals = [k.const(0.0) for _ in block]
                    with k.loop("image", group, images, groups) as image:
                        of_image = [k.const(0.0) for _ in block]
                        with k.loop("row", 0, h) as row:
                            of_row = [k.const(0.0) for _ in block]
                            with k.loop("column", 0, w) as column:
                                at = image * strides.n + row * strides.h + column * strides.w
                                for v, count in enumerate(block):
                                    place = at + (first + v) * lanes * strides.c
                                    k.add(of_row[v], k.load(g, place, count, strides.c), into=of_row[v])
                            for total, part in zip(of_image, of_row, strict=True):
                                k.add(total, part, into=total)
                        for total, part in zip(totals, of_image, strict=True):
                            k.add(total, part, into=total)
                    for v, total in enumerate(totals):
                        k.store(total, sums, (group * len(counts) + first + v) * lanes)
            with k.stage("total", ("all", 1)) as (_,):
                for v, count in enumerate(counts):
                    total = k.const(0.0)
                    with k.loop("group", 0, groups) as group:
                        k.add(total, k.load(sums, (group * len(counts) + v) * lanes), into=total)
                    k.store(total, db, Affine(v * lanes), count)
            return k.kernel()

        return Recipe(
            key=f"bias {problem.dtype} {layout} {c} {h} {w} {groups} {machine}",
            build=build,
            sizes=(n,),
            scratch=(groups * len(counts) * lanes,),
            items=groups,
            tiles=f"{min(_VECTORS, len(counts))} vectors",
        )
