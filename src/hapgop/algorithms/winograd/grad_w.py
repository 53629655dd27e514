"""The fast weight gradient: the same triple, with the outputs' gradient transformed by A and the sums by G.

dW = G^T [ sum over tiles of (B^T x B) * (A g A^T) ] G, a product of matrices for each entry of the tile: gradients
times inputs, summed over tiles. Few tiles: all are transformed, then each thread takes blocks of channels from the
sums to the filters. Many: blocks of tiles one after the other, each shared by all threads, its sums added to memory.
The order of additions depends on the shape alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.layout import vector_counts, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.winograd import price
from hapgop.algorithms.winograd.phases import Gathering, place, vectors
from hapgop.algorithms.winograd.points import GROWTH, triple
from hapgop.algorithms.winograd.refusal import refusal
from hapgop.algorithms.winograd.tiling import Side
from hapgop.algorithms.winograd.transform import sandwich
from hapgop.algorithms.winograd.triple import Triple, transposed
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_ONCE = 256  # tiles, at most, whose sums are made in one go: longer ones would lose accuracy
_BLOCK = 112


@dataclass(frozen=True, slots=True)
class WinogradGradW(Algorithm):
    """`grad_w` with tiles of m x m outputs, for filters of r x r."""

    m: int
    r: int
    stride: int = 1

    @property
    def name(self) -> str:  # type: ignore[override]
        step = f" stride {self.stride}" if self.stride > 1 else ""
        return f"winograd F({self.m}x{self.m}, {self.r}x{self.r}){step} grad_w"

    def growth(self, problem: Problem) -> float:
        return GROWTH[self.m, self.r] if self.stride == 1 else 2

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "grad_w":
            return f"computes grad_w, not {problem.op}"
        return refusal(problem, machine, self.m, self.r, self.stride)

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
        if not w.once:
            total += (blocks * 2 + 1) * (costs.traffic(w.sums_size * itemsize, machine) / 2 + costs.STAGE)
        total += costs.traffic(itemsize * w.batch * (s.ic * s.ih * s.iw + s.oc * s.oh * s.ow), machine)
        return total + costs.CALL + 2 * costs.STAGE

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        w = Work.of(problem, machine, self.m)
        scratch = [w.groups * w.products * w.x_step, w.groups * w.products * w.g_step]
        if not w.once:
            scratch.append(w.sums_size)
        private = [w.patch_size] + ([w.products * w.rows * w.width * w.lanes] if w.once else [])
        items = len(w.co) * (w.lanes // w.rows) * len(w.ci_blocks)
        return Recipe(
            key=f"{self.name} {w.problem} {machine} block={w.block} once={w.once and w.batch}",
            build=lambda: _kernel(w),
            sizes=(w.batch,),
            scratch=tuple(scratch),
            private=tuple(private),
            items=w.groups * (items if w.once else max(items * w.products, w.block)),
            tiles=f"{w.rows} channels x {w.width} vectors, blocks of {w.block} tiles",
        )


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that the kernel depends on; the batch size is passed at run time where there are many tiles."""

    problem: Problem
    machine: Machine
    m: int
    batch: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine, m: int) -> Work:
        assert isinstance(problem.shape, ConvShape)
        return cls(replace(problem, shape=problem.shape.with_batch(1)), machine, m, problem.shape.n)

    @property
    def shape(self) -> ConvShape:
        assert isinstance(self.problem.shape, ConvShape)
        return self.problem.shape

    @property
    def groups(self) -> int:
        return self.shape.groups

    @property
    def triple(self) -> Triple:
        return triple(self.m, self.shape.kh, self.shape.stride[0])

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def products(self) -> int:
        return self.triple.products**2

    @property
    def across(self) -> tuple[int, int]:
        return ceil(self.shape.oh / self.m), ceil(self.shape.ow / self.m)

    @property
    def tiles(self) -> int:
        """Of one image."""
        return self.across[0] * self.across[1]

    @property
    def once(self) -> bool:
        return self.batch * self.tiles <= _ONCE

    @property
    def x(self) -> Side:
        s = self.shape
        return Side(s.ic // s.groups, s.ic, s.ih, s.iw)

    @property
    def g(self) -> Side:
        s = self.shape
        return Side(s.oc // s.groups, s.oc, s.oh, s.ow)

    @property
    def ci(self) -> tuple[int, ...]:
        """Lanes used by each vector of input channels."""
        return vector_counts(self.x.channels, self.lanes)

    @property
    def co(self) -> tuple[int, ...]:
        return vector_counts(self.g.channels, self.lanes)

    @property
    def block(self) -> int:
        """Tiles of a block."""
        every = max(1, self.batch * self.tiles)
        if self.once:
            return every
        one = self.products * self.problem.itemsize * self.lanes * (len(self.ci) + len(self.co))
        sums = self.products * self.problem.itemsize * self.x.channels * self.g.channels
        least = _ONCE if sums > 4 << 20 else _BLOCK
        return max(least, min(_ONCE, self.machine.l2 // one))

    @property
    def width(self) -> int:
        """Vectors of input channels of a register tile; `rows` output channels are broadcast to them."""
        return min(2, len(self.ci))

    @property
    def rows(self) -> int:
        sums = self.machine.registers // 2 if self.machine.registers > 16 else 8
        return min(self.lanes, sums // self.width)

    @property
    def ci_blocks(self) -> list[tuple[int, int]]:
        """(first vector, vectors)"""
        return [(v, min(self.width, len(self.ci) - v)) for v in range(0, len(self.ci), self.width)]

    @property
    def patch_size(self) -> int:
        a = self.triple
        return a.products * max(a.inputs, a.outputs, a.taps) * self.lanes

    # Where things lie: transformed tiles as [group][product][vector][tile][lanes], sums as [group][product][co][ci]

    def _skewed(self, elements: int) -> int:
        elements += self.lanes
        return elements + (self.lanes if elements * self.problem.itemsize % 4096 in (0, 2048) else 0)

    @property
    def x_step(self) -> int:
        return self._skewed(len(self.ci) * self.block * self.lanes)

    @property
    def g_step(self) -> int:
        return self._skewed(len(self.co) * self.block * self.lanes)

    @property
    def sums_step(self) -> int:
        return self._skewed(len(self.co) * len(self.ci) * self.lanes**2)

    @property
    def sums_size(self) -> int:
        return self.groups * self.products * self.sums_step


def _kernel(w: Work) -> Kernel:
    k = Builder("winograd_grad_w", w.problem.dtype, w.lanes)
    s, a, lanes = w.shape, w.triple, w.lanes
    n = k.size("n", low=w.batch, high=w.batch) if w.once else k.size("n", low=0)
    x, g = k.buffer("x", n * (s.ic * s.ih * s.iw), "in"), k.buffer("g", n * (s.oc * s.oh * s.ow), "in")
    dw = k.buffer("dw", s.oc * (s.ic // s.groups) * s.kh * s.kw, "out")
    inputs = k.buffer("inputs", w.groups * w.products * w.x_step, "scratch")
    gradients = k.buffer("gradients", w.groups * w.products * w.g_step, "scratch")
    sums = None if w.once else k.buffer("sums", w.sums_size, "scratch")
    patch = k.buffer("patch", w.patch_size, "private")
    local = k.buffer("local", w.products * w.rows * w.width * lanes, "private") if w.once else None
    of_x = Gathering(k, w.x, a.bt, a.in_step, (-s.padding[0], -s.padding[2]), patch, n)
    of_g = Gathering(k, w.g, transposed(a.at), w.m, (0, 0), patch, n)

    def transforms(first: Affine) -> None:
        # Tiles behind the last one are of no image, and become zeros.
        with k.stage("tiles", ("group", w.groups), ("tile", w.block)) as (group, i):
            at_tile = place(w, first + i)
            for gathering, source, to, step in ((of_x, x, inputs, w.x_step), (of_g, g, gradients, w.g_step)):
                start = group * (w.products * step) + i * lanes

                def emit(
                    c: Affine, count: int, gathering: Gathering = gathering, source: Buffer = source, to: Buffer = to,
                    step: int = step, start: Affine = start,
                ) -> None:  # fmt: skip
                    gathering.emit(source, group, at_tile, c, count, to, start + c * (w.block * lanes), step)

                vectors(k, gathering.side.channels, emit)

    def multiply(
        group: Affine, xi: Affine, c: Affine, part: Affine, first: Affine, width: int, to: Buffer, at: Affine, row: int,
        add: bool,
    ) -> None:  # fmt: skip
        places = [[at + i * row + j * lanes for j in range(width)] for i in range(w.rows)]
        acc = [[k.load(to, p) if add else k.const(0.0) for p in line] for line in places]
        from_x = (group * w.products + xi) * w.x_step + first * (w.block * lanes)
        from_g = (group * w.products + xi) * w.g_step + c * (w.block * lanes) + part * w.rows

        def step(t: Affine) -> None:
            values = [k.load(inputs, from_x + t * lanes + j * (w.block * lanes)) for j in range(width)]
            for i in range(w.rows):
                one = k.broadcast(gradients, from_g + t * lanes + i)
                for j in range(width):
                    k.fma(one, values[j], acc[i][j], into=acc[i][j])

        even = w.block - w.block % 2
        with k.loop("pair", 0, even, 2) as t:
            step(t)
            step(t + 1)
        if w.block % 2:
            step(Affine(even))
        for line, totals in zip(places, acc, strict=True):
            for p, total in zip(line, totals, strict=True):
                k.store(total, to, p)

    if w.once:
        assert local is not None
        transforms(Affine(0))
        for first, width, blocks in _runs(w):
            grid = (("group", w.groups), ("ci", blocks), ("co", len(w.co)), ("part", lanes // w.rows))
            with k.stage(f"channels {first}", *grid) as (group, b, c, part):
                vector = b * w.width + first
                row = width * lanes
                with k.loop("product", 0, w.products) as xi:
                    multiply(group, xi, c, part, vector, width, local, xi * (w.rows * row), row, add=False)
                for j in range(width):
                    count = w.ci[first + j]
                    with _valid(k, w, c, part) as i:
                        at = i * row + j * lanes
                        _back(k, w, local, at, w.rows * row, patch, dw, group, c, part * w.rows + i, vector + j, count)
        return k.kernel()

    assert sums is not None
    with k.stage("zero", ("vector", w.sums_size // lanes)) as (i,):
        k.store(k.const(0.0), sums, i * lanes)
    row = len(w.ci) * lanes
    with k.rounds("block", 0, (n * w.tiles + (w.block - 1)) // w.block) as block:
        transforms(block * w.block)
        for first, width, blocks in _runs(w):
            shares = (("group", w.groups), ("product", w.products), ("ci", blocks), ("co", len(w.co)))
            with k.stage(f"sums {first}", *shares) as (group, xi, b, c):
                vector = b * w.width + first
                with k.loop("part", 0, lanes // w.rows) as part:
                    at = (group * w.products + xi) * w.sums_step + (c * lanes + part * w.rows) * row + vector * lanes
                    multiply(group, xi, c, part, vector, width, sums, at, row, add=True)
    for first, count, runs in ((0, lanes, len(w.ci) - (w.ci[-1] < lanes)), (len(w.ci) - 1, w.ci[-1], 1)):
        if not runs or (first and count == lanes) or (not first and len(w.ci) == 1 and count != w.ci[0]):
            continue
        with k.stage(f"filters {first}", ("group", w.groups), ("co", w.g.channels), ("ci", runs)) as (group, o, v):
            at = group * (w.products * w.sums_step) + o * row + (v + first) * lanes
            _back(k, w, sums, at, w.sums_step, patch, dw, group, Affine(0), o, v + first, count)
    return k.kernel()


@contextmanager
def _valid(k: Builder, w: Work, c: Affine, part: Affine) -> Iterator[Affine]:
    """A loop over those rows of a register tile that are output channels."""
    left = w.g.channels - c * w.lanes - part * w.rows
    with k.loop("row", 0, [Affine(w.rows), left]) as i:
        yield i


def _runs(w: Work) -> list[tuple[int, int, int]]:
    """(first vector, vectors of a block, blocks) of blocks of input channels that are alike."""
    out: list[tuple[int, int, int]] = []
    for first, width in w.ci_blocks:
        whole = w.ci[first : first + width] == (w.lanes,) * w.width
        if whole and out:
            out[-1] = (out[-1][0], out[-1][1], out[-1][2] + 1)
        else:
            out.append((first, width, 1))
    return out


def _back(
    k: Builder, w: Work, sums: Buffer, at: Affine, step: int, patch: Buffer, dw: Buffer,
    group: Affine, c: Affine, o: Affine, vector: Affine, count: int,
) -> None:  # fmt: skip
    """The filter of one output channel and a vector of input channels, from its sums."""
    s, a = w.shape, w.triple
    strides = weight_strides(w.problem.w_layout, w.x.channels, s.kh, s.kw)
    to = (group * w.g.channels + c * w.lanes + o) * strides.n + vector * (w.lanes * strides.c)

    def load(i: Affine | int, j: Affine | int) -> Register:
        return k.load(sums, at + (Affine.of(i) * a.products + j) * step)

    def store(value: Register, i: Affine | int, j: Affine | int) -> None:
        k.store(value, dw, to + Affine.of(i) * strides.h + Affine.of(j) * strides.w, count, strides.c)

    sandwich(k, transposed(a.g), patch, load, store)
