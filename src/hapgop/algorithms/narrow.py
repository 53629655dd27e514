"""Convolution to few channels: vectors along the channels that are summed, whose lanes are added in the end.

The input gradient of a first layer has three channels, or one: vectors along those would be all but empty. A tile is
all channels of some neighbouring outputs of a row, a register for each; for each tap and vector of input channels it
loads the weights of every output channel and each pixel's inputs, and multiplies and adds lane by lane. In the end
squares of sums are turned and added, which makes whole vectors of neighbouring results. The residue classes of an input
gradient's columns share a tile, so that its results are neighbours at any stride.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.depthwise_tile import row_tiles
from hapgop.algorithms.epilogue import unfused
from hapgop.algorithms.narrow_tile import Gather
from hapgop.algorithms.narrow_work import Work
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.turn import turn
from hapgop.machine import Machine
from hapgop.tile import Builder, Kernel

_MOST_CHANNELS = 8
_ADDED = 6.0  # cycles to turn a sum with others of its square, and to add its lanes


@dataclass(frozen=True, slots=True)
class Narrow(Algorithm):
    """`conv` and `grad_x` that write few channels and read many."""

    name: str = "narrow"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in ("conv", "grad_x"):
            return f"computes conv and grad_x, not {problem.op}"
        s = problem.conv
        if s.groups > 1:
            return "takes one group"
        if (reason := unfused(problem, "residual")) is not None:
            return reason
        work = Work.of(problem, machine)
        most = min(_MOST_CHANNELS, work.lanes)  # a vector holds the biases
        if work.oc > most:
            return f"writes {most} channels or fewer, not {work.oc}"
        if not work.pixels:
            return f"has no registers for {work.oc} channels of the {len(work.cols)} classes of columns"
        return None if row_tiles(work.cols, work.pixels) else "unrolls borders, and this one is too wide"

    def seconds(self, problem: Problem, machine: Machine) -> float:
        work = Work.of(problem, machine)
        s, classes = work.shape, len(work.cols)
        sums = work.oc * work.pixels * classes
        tiles = sum(t.count for t in work.rows) * ceil(max(t.count for t in work.cols) / work.pixels)
        hits = sum(r.hits * c.hits for r in work.rows for c in work.cols) * work.vectors
        # A step is one tap's: its weights, the inputs of one class's pixels, and their products.
        step = costs.step_cycles(work.pixels, work.oc, machine.vector_bytes)
        cycles = hits / work.pixels * step + tiles * (sums * _ADDED + costs.TILE)
        pixels = s.oh * s.ow if work.forward else s.ih * s.iw
        read, written = (work.batch * size * problem.itemsize for size in (work.source_size, pixels * work.oc))
        total = max(work.batch * cycles / costs.CLOCK, costs.traffic(read + written, machine))
        return total + costs.CALL + costs.STAGE + (costs.turned(read, machine) if work.turns else 0.0)

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        work = Work.of(problem, machine)
        return Recipe(
            key=f"narrow {work!r}",
            build=partial(_kernel, work),
            sizes=(work.batch,),
            scratch=tuple(size for _, size in work.scratch(work.batch)),
            items=work.batch * work.strips,
            tiles=f"{work.pixels * len(work.cols)} pixels x {work.oc} channels",
            pack=work.pack() if problem.packed else None,
        )


def _kernel(work: Work) -> Kernel:
    p, s = work.problem, work.shape
    k = Builder("narrow", p.dtype, work.lanes)
    n = k.size("n", low=0)
    x_size, y_size = n * (s.ic * s.ih * s.iw), n * (s.oc * s.oh * s.ow)
    source = k.buffer("x", x_size, "in") if work.forward else k.buffer("g", y_size, "in")
    if p.packed:
        w = packed = k.buffer("packed", work.packed_size, "in")
    else:
        w = k.buffer("w", s.oc * s.ic * s.kh * s.kw, "in")
    bias = k.buffer("bias", p.biases, "in") if p.biases else None
    target = k.buffer("y", y_size, "out") if work.forward else k.buffer("dx", x_size, "out")
    residual = k.buffer("residual", y_size, "in") if p.residual else None
    scratch = {name: k.buffer(name, size, "scratch") for name, size in work.scratch(n)}
    if not p.packed:
        packed = scratch["packed"]
        work.emit_packing(k, w, packed)
    if work.turns:
        turn(k, "channels last", n, source, scratch["turned"], work.ic, work.source_size // work.ic)
        source = scratch["turned"]
    Gather(work, k, source, packed, bias if p.bias else None, target, residual).emit(n)
    return k.kernel()
