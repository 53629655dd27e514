"""The fast weight gradient: the same triple, with the outputs' gradient transformed by A and the sums by G.

dW = G^T [ sum over tiles of (B^T x B) * (A g A^T) ] G, a product of matrices for each entry of the tile: gradients
times inputs, summed over tiles. Three ways lead through the tiles:

once    few tiles: all are transformed, then each thread takes blocks of channels from the sums to the filters
parts   many tiles, few channels: the tiles are cut into parts, each with sums of its own, added at the end; up to
        three passes over the tiles, each for some of the products, keep these sums in the second cache
rounds  many tiles, many channels: block after block, each shared by all threads, its sums added to memory

F(1x1, 1x1) is plain sums, over panels: pixels of many channels lie kilobytes apart, on pages of their own and in few
places of the caches, and are copied side by side first.

The order of additions depends on the shape and the machine alone, and no chain of them is long.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

from hapgop.algorithms import costs
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.winograd import price
from hapgop.algorithms.winograd.grad_w_kernel import build
from hapgop.algorithms.winograd.grad_w_work import Work
from hapgop.algorithms.winograd.points import GROWTH
from hapgop.algorithms.winograd.refusal import refusal
from hapgop.algorithms.winograd.triple import transposed
from hapgop.machine import Machine

_FEW = 4  # weights of a quarter of the first cache: with fewer, a pixel is copied for next to nothing


@dataclass(frozen=True, slots=True)
class WinogradGradW(Algorithm):
    """`grad_w` with tiles of m x m outputs, for filters of r x r."""

    m: int
    r: int
    stride: int = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        step = f" stride {self.stride}" if self.stride > 1 else ""
        if self.r == 1:
            return f"panels{step} grad_w"
        return f"winograd F({self.m}x{self.m}, {self.r}x{self.r}){step} grad_w"

    def growth(self, problem: Problem) -> float:
        return GROWTH[self.m, self.r] if self.stride == 1 or self.r == 1 else 2

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "grad_w":
            return f"computes grad_w, not {problem.op}"
        reason = refusal(problem, machine, self.m, self.r, self.stride)
        least = machine.l1 // _FEW
        if reason is None and self.r == 1 and _weights(problem) < least:
            return f"copies pixels side by side, which pays where they meet weights of {least} bytes and more"
        if reason is None and self.r == 1 and any(problem.conv.padding):
            return "multiplies by the zeros of the padding, which plain sums leave out"
        return reason

    def seconds(self, problem: Problem, machine: Machine) -> float:
        w = Work.of(problem, machine, self.m)
        a, s, wide, itemsize = w.triple, w.shape, machine.vector_bytes, problem.itemsize
        blocks = ceil(max(1, w.batch * w.tiles) / w.block)
        steps = blocks * w.block * s.groups * w.products * len(w.co) * w.lanes / w.rows * len(w.ci) / w.width
        total = steps * costs.step_cycles(w.rows, w.width, wide) / costs.CLOCK
        every = blocks * w.block * s.groups
        total += price.seconds(every * len(w.ci), a.bt, wide)
        total += price.seconds(every * len(w.co), transposed(a.at), wide)
        total += price.seconds(s.oc * len(w.ci), transposed(a.g), wide)
        sums = costs.traffic(w.sums_size * itemsize, machine) / 2
        if w.way == "rounds":
            total += (blocks * 2 + 1) * (sums + costs.STAGE)
        elif w.way == "parts":
            # Sums that stay in the second cache cost little more than the instructions that add them.
            kept = w.sums_size * itemsize <= machine.l2 // 2
            total += (blocks * (0.5 if kept else 2) + 2 * w.parts) * sums
        total += costs.traffic(itemsize * w.batch * (s.ic * s.ih * s.iw + s.oc * s.oh * s.ow), machine)
        total += costs.traffic(itemsize * s.oc * w.x.channels * s.kh * s.kw, machine)
        for layout, side in ((problem.x_layout, w.x), (problem.y_layout, w.g)):
            if layout == "nchw":
                total += costs.turned(itemsize * w.batch * side.total * side.height * side.width, machine)
        return total + costs.CALL + 2 * costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        w = Work.of(problem, machine, self.m)
        channels = len(w.co) * (w.lanes // w.rows) * len(w.ci_blocks)
        products = w.products * len(w.ci_blocks)
        items = {"once": channels, "parts": w.parts, "rounds": max(products, w.block)}[w.way]
        return Recipe(
            key=f"{self.name} {w.problem} {machine} {w.way} {w.passes} block={w.block} {w.way == 'once' and w.batch}",
            build=lambda: build(w),
            sizes=(w.batch,),
            scratch=tuple(size for _, size in w.scratch_sizes),
            private=tuple(size for _, size in w.private_sizes),
            items=w.groups * items,
            tiles=f"{w.rows} channels x {w.width} vectors, blocks of {w.block} tiles",
        )


def _weights(problem: Problem) -> int:
    """Bytes of the weights."""
    s = problem.conv
    return problem.itemsize * prod(s.w_shape)
