"""Fast convolution: `conv` and `grad_x` by (A, B, G), a quarter of the products at F(4x4, 3x3).

Many tiles: each thread takes blocks of them through all three phases, in buffers of its own that stay in its cache; the
filters are transformed before. Few tiles: all of them are transformed first, then each thread takes blocks of output
channels, whose filters it transforms as it goes, so that they never leave its cache.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe
from hapgop.algorithms.winograd import price
from hapgop.algorithms.winograd.conv_kernel import build, build_pack, private_sizes, scratch_sizes
from hapgop.algorithms.winograd.points import GROWTH
from hapgop.algorithms.winograd.refusal import refusal
from hapgop.algorithms.winograd.tiling import Tiling
from hapgop.machine import Machine


@dataclass(frozen=True, slots=True)
class Winograd(Algorithm):
    """`conv` and `grad_x` with tiles of m x m outputs, for filters of r x r."""

    m: int
    r: int
    stride: int = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        step = f" stride {self.stride}" if self.stride > 1 else ""
        return f"winograd F({self.m}x{self.m}, {self.r}x{self.r}){step}"

    def growth(self, problem: Problem) -> float:
        return GROWTH[self.m, self.r] if self.stride == 1 else 2

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in ("conv", "grad_x"):
            return f"computes conv and grad_x, not {problem.op}"
        reason = refusal(problem, machine, self.m, self.r, self.stride)
        if reason is None and problem.op == "grad_x" and self.stride > 1:
            top, _, left, _ = problem.shape.padding
            if (top - left) % self.stride:
                reason = f"has one order of residue classes for rows and columns, not of paddings {top} and {left}"
        return reason

    def seconds(self, problem: Problem, machine: Machine) -> float:
        return _seconds(_tiling(problem, machine, self.m))

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        t = _tiling(problem, machine, self.m)
        f = t.filters
        items = t.parts if t.own else len(f.blocks) if t.few else -(-t.batch * t.tiles // t.block)
        pack = Pack(
            f"{self.name} {problem.dtype} {machine} {f}",
            lambda: build_pack(t),
            f.size,
            private=f.private,
            items=len(f.blocks) * 4,
        )
        return Recipe(
            key=f"{self.name} {t.problem} {machine} block={t.block} tile={t.tile} few={t.few and t.batch} own={t.own}",
            build=lambda: build(t),
            sizes=(t.batch,),
            scratch=tuple(size for _, size in scratch_sizes(t)),
            private=tuple(size for _, size in private_sizes(t)),
            items=t.shape.groups * items,
            tiles=f"{t.tile[0]} tiles x {t.tile[1]} vectors, blocks of {t.block}",
            pack=pack if problem.packed else None,
        )


def _tiling(problem: Problem, machine: Machine, m: int) -> Tiling:
    return Tiling(replace(problem, shape=problem.conv.with_batch(1)), machine, m, problem.conv.n)


def _seconds(t: Tiling) -> float:
    s, wide, itemsize = t.shape, t.machine.vector_bytes, t.problem.itemsize
    pixels, width = t.tile
    every = t.batch * t.tiles * s.groups
    steps = ceil(t.batch * t.tiles / pixels) * s.groups * t.products * t.source.channels * t.out_vectors / width
    total = steps * costs.step_cycles(pixels, width, wide) / costs.CLOCK
    total += price.seconds(every * t.in_vectors, t.triple.bt, wide)
    total += price.seconds(every * t.out_vectors, t.triple.at, wide)
    f = t.filters
    size = f.size * itemsize
    if not t.problem.packed:
        turned = s.groups * t.source.channels * t.out_vectors
        total += price.seconds(turned, t.triple.g, wide) + turned * f.taps * costs.SQUARE / costs.CLOCK
        total += (0 if t.few else costs.traffic(size, t.machine)) + costs.STAGE
        total += costs.traffic(size * f.taps // f.products, t.machine)
    passes = 1 if t.few else max(1, t.batch * t.tiles / t.block)
    if not t.few or t.problem.packed:
        total += passes * costs.traffic(max(0, size - t.machine.l2 // 2), t.machine)
    read, written = t.source.total * t.source.height * t.source.width, t.result.total * t.result.height * t.result.width
    more = s.oc * s.oh * s.ow * t.problem.residual + written * (t.problem.pooled and t.problem.winners)
    total += costs.traffic(itemsize * t.batch * (read + written + more), t.machine)
    for turns, side in ((t.turns_source, t.source), (t.turns_target, t.target)):
        total += turns * costs.turned(itemsize * t.batch * side.total * side.height * side.width, t.machine)
    return total + costs.CALL + (costs.STAGE if t.few else 0)
