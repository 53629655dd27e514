"""The gradient through a 2x2 max pool and the ReLU before it, and its sum for the bias before that; channels last.

A window's winner is above zero where the window's result is: so what the ReLU lets through is seen on the pooled map, a
quarter of the pixels. Rows are dealt to a number of groups that depends on the shape alone, for the bias' sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.layout import vector_counts
from hapgop.algorithms.pixel_blocks import load, store
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.machine import Machine
from hapgop.shape import PoolShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_GROUPS = 32  # enough for any usual number of cores to share out evenly; fixed, so that the bits are
_VECTORS = 4  # of channels at a time: four cache lines of each pixel that is written


@dataclass(frozen=True, slots=True)
class PooledGrad(Algorithm):
    """`pooled_grad` of maps whose channels come last."""

    name: str = "pooled gradient"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "pooled_grad":
            return f"computes the gradient through a pool and a ReLU, not {problem.op}"
        s = problem.maps
        if problem.dtype not in ("float32", "float64"):
            return f"does not know {problem.dtype}"
        if "nchw" in (problem.x_layout, problem.y_layout) and s.c > 1:
            return "wants the channels last"
        if s != PoolShape(*s.x_shape, 2, 2):
            return "knows only windows of 2 x 2 side by side"
        return None

    def seconds(self, problem: Problem, machine: Machine) -> float:
        s = problem.maps
        elements = s.n * s.c * (s.ih * s.iw + 3 * s.oh * s.ow)
        return costs.traffic(elements * problem.itemsize, machine) + costs.CALL + costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        s = problem.maps
        lanes, groups = machine.lanes(problem.dtype), min(max(s.n * s.oh, 1), _GROUPS)
        # Each vector has a sum, a gradient and its winner; the gradient is read beside the map that lets it through.
        vectors = min(_VECTORS, (machine.registers - 8) // 4, ceil(s.c / lanes))
        work = _Work(s.with_batch(1), lanes, vectors, groups)
        return Recipe(
            key=f"pooled_grad {work} {problem.dtype} {machine}",
            build=partial(work.kernel, problem.dtype),
            sizes=(s.n,),
            scratch=(groups * work.padded,),
            items=groups * ceil(s.c / (vectors * lanes)),
            tiles=f"1 window x {vectors} vectors",
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """What the kernel depends on; the batch is passed at run time."""

    shape: PoolShape
    lanes: int
    vectors: int
    groups: int

    @property
    def padded(self) -> int:
        """Channels rounded up to whole vectors."""
        return ceil(self.shape.c / self.lanes) * self.lanes

    def kernel(self, dtype: str) -> Kernel:
        s, width = self.shape, self.vectors * self.lanes
        k = Builder("pooled_grad", dtype, self.lanes)
        n = k.size("n", low=0)
        pooled = [k.buffer(name, n * (s.oh * s.ow * s.c), "in") for name in ("g", "z", "winners")]
        dx, db = k.buffer("dx", n * (s.ih * s.iw * s.c), "out"), k.buffer("db", s.c, "out")
        sums = k.buffer("sums", self.groups * self.padded, "scratch")
        whole, rest = divmod(s.c, width)
        for blocks, first, counts in ((whole, 0, (self.lanes,) * self.vectors), (1, whole * width, self.counts(rest))):
            if blocks and counts:
                with k.stage(f"windows {len(counts)}", ("group", self.groups), ("block", blocks)) as (group, block):
                    self.of_group(k, n, pooled, dx, sums, group, block * width + first, counts)
        if s.ih % 2:
            self.clear_last_rows(k, n, dx)
        whole, rest = divmod(s.c, self.lanes)
        for vectors, first, count in ((whole, 0, self.lanes), (1, whole * self.lanes, rest)):
            if vectors and count:
                with k.stage(f"bias {count}", ("vector", vectors)) as (vector,):
                    total, channel = k.const(0.0), vector * self.lanes + first
                    with k.loop("group", 0, self.groups) as group:
                        k.add(total, k.load(sums, group * self.padded + channel), into=total)
                    k.store(total, db, channel, count)
        return k.kernel()

    def counts(self, channels: int) -> tuple[int, ...]:
        return vector_counts(channels, self.lanes)

    def of_group(
        self, k: Builder, n: Affine, pooled: Sequence[Buffer], dx: Buffer, sums: Buffer, group: Affine,
        channel: Affine, counts: tuple[int, ...],
    ) -> None:  # fmt: skip
        """Some vectors of channels of a group's rows, and their sums."""
        s, lanes, zero = self.shape, self.lanes, k.const(0.0)
        totals, positions = [k.const(0.0) for _ in counts], [k.const(float(i)) for i in range(4)]
        with k.loop("row", group, n * s.oh, self.groups) as row:
            # Of an image's rows the odd last one fills no window.
            above = (row // s.oh * s.ih + (row - row // s.oh * s.oh) * 2) * s.iw

            def put(line: int, column: Affine, values: Sequence[Register]) -> None:
                store(k, values, dx, (above + line * s.iw + column) * s.c + channel, counts, lanes)

            with k.loop("column", 0, s.ow) as column:
                at = (row * s.ow + column) * s.c + channel
                g, z, winners = (load(k, buffer, at, counts, lanes) for buffer in pooled)
                through = [k.select("above", y, zero, value, zero) for y, value in zip(z, g, strict=True)]
                for total, value in zip(totals, through, strict=True):
                    k.add(total, value, into=total)
                for i, position in enumerate(positions):
                    own = [k.select("equal", w, position, v, zero) for w, v in zip(winners, through, strict=True)]
                    put(i // 2, column * 2 + i % 2, own)
            if s.iw % 2:
                for line in (0, 1):
                    put(line, Affine(s.iw - 1), [zero] * len(counts))
        store(k, totals, sums, group * self.padded + channel, (lanes,) * len(counts), lanes)

    def clear_last_rows(self, k: Builder, n: Affine, dx: Buffer) -> None:
        """What fills no window has no gradient."""
        s = self.shape
        with k.stage("unread", ("image", n), ("column", s.iw)) as (image, column):
            at = (image * (s.ih * s.iw) + (s.ih - 1) * s.iw + column) * s.c
            for first, count in zip(range(0, s.c, self.lanes), self.counts(s.c), strict=True):
                k.store(k.const(0.0), dx, at + first, count)
