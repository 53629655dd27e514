"""The weight gradient's work: which sums make a tile, in how many groups, along which channels the vectors lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import registers
from hapgop.algorithms.layout import vector_counts, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.track import Track, forward
from hapgop.machine import Machine
from hapgop.shape import ConvShape

_ITEMS = 32  # enough for any usual number of cores to share out evenly; fixed, so that the bits are
_MOST_GROUPS = 16
_BORDER_COLUMNS = 16  # more border columns than this are not unrolled


@dataclass(frozen=True, slots=True)
class Sums:
    """How the sums are shared out: everything that the kernel depends on (the batch size is passed at run time)."""

    problem: Problem
    machine: Machine
    batch: int
    image_groups: int
    row_block: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> Sums:
        assert isinstance(problem.shape, ConvShape)
        s, batch = problem.shape, problem.shape.n
        single = s.kh == s.kw == s.ih == s.iw == 1 and not any(s.padding)
        if problem.x_layout == problem.y_layout == "nhwc" and single and s.n > 1:
            # A batch of single pixels is an image of as many: the inner loop runs over the batch.
            s, batch = replace(s, n=1, iw=s.n, padding=(0, 0, 0, 0), stride=(1, 1)), 1
        # As many rows at a time as leave input and gradient in half of the second cache.
        row_bytes = problem.itemsize * (s.iw * s.ic * s.stride[0] + s.ow * s.oc)
        row_block = min(s.oh, max(1, machine.l2 // 2 // row_bytes))
        one = cls(replace(problem, shape=s.with_batch(1)), machine, batch, 1, row_block)
        groups = min(max(batch, 1), _MOST_GROUPS, ceil(_ITEMS / one.tiles))
        return replace(one, image_groups=groups)

    @property
    def shape(self) -> ConvShape:
        assert isinstance(self.problem.shape, ConvShape)
        return self.problem.shape

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def oc(self) -> int:
        return self.shape.oc // self.shape.groups

    @property
    def ic(self) -> int:
        return self.shape.ic // self.shape.groups

    @property
    def along_input(self) -> bool:
        """Whether vectors lie along the input channels: the sums then are stored as they are wanted."""
        p, s = self.problem, self.shape
        neighbours = weight_strides(p.w_layout, self.ic, s.kh, s.kw).c == 1
        return neighbours and not self.narrow and self.ic >= self.lanes

    @property
    def wide(self) -> int:
        """Channels of the side that is loaded as vectors."""
        return self.ic if self.along_input else self.oc

    @property
    def tall(self) -> int:
        """Channels of the side that is broadcast."""
        return self.oc if self.along_input else self.ic

    @property
    def counts(self) -> tuple[int, ...]:
        return vector_counts(self.wide, self.lanes)

    @property
    def cols(self) -> Track:
        s = self.shape
        return forward(s.iw, s.kw, s.stride[1], s.padding[2], s.dilation[1], s.ow)

    @property
    def rows(self) -> Track:
        s = self.shape
        return forward(s.ih, s.kh, s.stride[0], s.padding[0], s.dilation[0], s.oh)

    @property
    def narrow(self) -> bool:
        """Few input channels: a tile's pairs run over the tap columns too, so that it is large enough."""
        first, last = self.cols.interior
        border = self.shape.ow - (last - first)
        few = self.ic < 8 and self.shape.kw * self.ic <= self.machine.registers - 3
        return few and self.shape.kw > 1 and border <= _BORDER_COLUMNS

    @property
    def tile(self) -> tuple[int, int]:
        """(pairs, vectors) of a register tile."""
        if self.narrow:
            pairs = self.shape.kw * self.ic
            most = (self.machine.registers - 1) // (pairs + 1)
            return pairs, max(1, min(most, len(self.counts), 4))
        return registers.choose_tile(self.tall, len(self.counts), self.machine)

    @property
    def pairs(self) -> int:
        return self.tile[0]

    @property
    def vectors(self) -> int:
        return self.tile[1]

    @property
    def whole_blocks(self) -> int:
        return self.wide // (self.vectors * self.lanes)

    @property
    def tail(self) -> tuple[int, ...]:
        """Lanes used by each vector of the last, narrower block; empty where there is none."""
        return vector_counts(self.wide % (self.vectors * self.lanes), self.lanes)

    @property
    def blocks(self) -> int:
        return self.whole_blocks + bool(self.tail)

    @property
    def tiles(self) -> int:
        s = self.shape
        across = 1 if self.narrow else s.kw * ceil(self.tall / self.pairs)
        return s.groups * s.kh * across * self.blocks

    @property
    def padded(self) -> int:
        """The wide side's channels of a group, in whole vectors."""
        return len(self.counts) * self.lanes

    @property
    def size(self) -> int:
        """Elements of one image group's sums: [group][kh][kw][tall][padded wide]."""
        return self.shape.groups * self.shape.kh * self.shape.kw * self.tall * self.padded

    @property
    def at_once(self) -> bool:
        """Whether a tile sees all there is to add in one go, and can store the weights' gradient itself."""
        return self.batch == 1 and self.row_block >= self.shape.oh and self.along_input

    @property
    def turns_x(self) -> bool:
        """Whether the input is first laid out with its channels last, for neighbours to be read together."""
        s = self.shape
        return self.problem.x_layout == "nchw" and s.ic > 1 and s.ih * s.iw > 1

    @property
    def turns_g(self) -> bool:
        """Whether the gradient is."""
        s = self.shape
        return self.problem.y_layout == "nchw" and s.oc > 1 and s.oh * s.ow > 1
