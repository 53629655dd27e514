"""How the weight gradient is cut: tiles into blocks, blocks into parts, channels into register tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from typing import Literal

from hapgop.algorithms.layout import vector_counts
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.winograd.points import triple
from hapgop.algorithms.winograd.tiling import GAP, Side, across
from hapgop.algorithms.winograd.triple import Triple
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine

_ONCE = 256  # tiles, at most, that are transformed in one go
_ROUND = 112  # tiles of a round: at least, and where sums are many also at most
_SHARE = 32  # tiles of a block of a part, at most
_PARTS = 8  # at least, so that as many threads have something to do
_APART = 1 << 20  # bytes of sums, at most, of which every part has its own
_MANY = 4 << 20  # bytes of them beyond which tiles are kept few
_CUTS = 3  # into which the rows of products are cut, at most, so that these bytes are fewer

CHAIN = 64  # tiles, at most, that are added one to the other: longer chains would lose accuracy
_PLAIN_CHAIN = 256  # where tiles are pixels, and their products the definition's


@dataclass(frozen=True, slots=True)
class Work:
    """Everything that the kernel depends on; the batch size is passed at run time where there are many tiles."""

    problem: Problem
    machine: Machine
    m: int
    batch: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine, m: int) -> Work:
        return cls(replace(problem, shape=problem.conv.with_batch(1)), machine, m, problem.conv.n)

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

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
        return across(self.shape.oh, self.shape.ow, self.m, self.shape.dilation)

    @property
    def tiles(self) -> int:
        """Of one image."""
        return self.across[0] * self.across[1]

    @property
    def way(self) -> Literal["once", "parts", "rounds"]:
        """Which of the kernels: see grad_w.py."""
        every = self.batch * self.tiles
        if self.cuts and every > (_ONCE if self.sums_bytes > _APART // 4 else 2 * CHAIN):
            return "parts"
        return "once" if every <= (_ONCE // 2 if self.many else _ONCE) else "rounds"

    @property
    def sums_bytes(self) -> int:
        return self.products * self.problem.itemsize * self.x.channels * self.g.channels

    @property
    def many(self) -> bool:
        """Whether sums are so many that they and the tiles of more than a round drive each other from the caches."""
        return self.sums_bytes > _MANY

    @property
    def cuts(self) -> int:
        """Passes over the tiles, each for some rows of products, whose sums stay in the second cache; 0: too many."""
        if self.sums_bytes <= _APART:
            return 1
        most = self.machine.l2 * 5 // 8
        return next((n for n in range(2, _CUTS + 1) if self.sums_bytes <= n * most), 0)

    @property
    def passes(self) -> list[range]:
        """The rows of products of each pass."""
        rows, cuts = self.triple.products, self.cuts if self.way == "parts" else 1
        ends = [rows * i // cuts for i in range(cuts + 1)]
        return [range(low, high) for low, high in pairwise(ends)]

    @property
    def kept(self) -> int:
        """Products, at most, whose transformed tiles are kept at a time."""
        return max(map(len, self.passes)) * self.triple.products

    @property
    def parts(self) -> int:
        """Into how many parts the tiles are cut, each with sums of its own; of the machine, not of the threads."""
        return max(_PARTS, 2 * self.machine.cores) if self.cuts == 1 else max(_PARTS // 2, self.machine.cores)

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
        """Tiles of a block, an even number."""
        every = max(1, self.batch * self.tiles)
        one = self.kept * self.problem.itemsize * self.lanes * (len(self.ci) + len(self.co))
        share, most = every, every
        if self.way == "parts":
            # The tiles stay in half of the second cache; sums beyond it come once for every block.
            share, most = ceil(every / self.parts), max(_SHARE // 2, min(_SHARE, self.machine.l2 // 2 // one))
        elif self.way == "rounds":
            most = _ROUND if self.many else max(_ROUND, min(_ONCE, self.machine.l2 // one))
        # As equal as can be: a block that is not full costs as much as a full one.
        wanted = ceil(share / ceil(share / most))
        return ceil(wanted / 2) * 2

    @property
    def chains(self) -> int:
        """Chains of additions in a block."""
        return ceil(self.block / self.chain)

    @property
    def chain(self) -> int:
        """Tiles, at most, that are added one to the other."""
        return CHAIN if self.products > 1 else _PLAIN_CHAIN

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
        """Elements that a transform needs between its two halves."""
        a = self.triple
        return a.products * max(a.inputs, a.outputs, a.taps) * self.lanes

    # Where things lie: transformed tiles as [group][product][vector][tile][lanes], sums as
    # [group][product][block of ci][co][ci]

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
    def sums_row(self) -> int:
        """Elements from one output channel's sums to the next, which are those of a block of input channels."""
        return self.width * self.lanes

    def sums_at(self, vector: Affine) -> Affine:
        """Where a vector of input channels has its sums, from those of its product on.

        The rows of a register tile are neighbours, and what one thread adds to lies together.
        """
        block = vector // self.width
        return block * (len(self.co) * self.lanes * self.sums_row) + (vector - block * self.width) * self.lanes

    @property
    def sums_step(self) -> int:
        return self._skewed(len(self.ci_blocks) * len(self.co) * self.lanes * self.sums_row)

    @property
    def sums_size(self) -> int:
        return self.groups * self.products * self.sums_step

    @property
    def scratch_sizes(self) -> list[tuple[str, int]]:
        """(name, elements) of the buffers that all threads share."""
        sizes = []
        for name, layout, side in (
            ("x_last", self.problem.x_layout, self.x),
            ("g_last", self.problem.y_layout, self.g),
        ):
            if layout == "nchw":
                sizes.append((name, self.batch * side.total * side.height * side.width))
        if self.way == "parts":
            return [*sizes, ("sums", self.parts * self.sums_size)]
        sizes += self._tiles(self.groups)
        return [*sizes, ("sums", self.sums_size)] if self.way == "rounds" else sizes

    @property
    def private_sizes(self) -> list[tuple[str, int]]:
        """(name, elements) of the buffers of one thread; of one register tile's sums where they stay there."""
        sizes = [("patch", self.patch_size)]
        if self.way == "parts":
            return sizes + [(name, size + GAP) for name, size in self._tiles(1)]
        tile = self.products * self.rows * self.width * self.lanes
        return [*sizes, ("sums", tile)] if self.way == "once" else sizes

    def _tiles(self, groups: int) -> list[tuple[str, int]]:
        """Buffers of a block's transformed tiles."""
        return [("inputs", groups * self.kept * self.x_step), ("gradients", groups * self.kept * self.g_step)]
