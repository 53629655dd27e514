"""The weight gradient's work: which sums make a tile, in how many groups, along which channels the vectors lie."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import ceil, gcd

from hapgop.algorithms import costs, registers
from hapgop.algorithms.layout import groups_in_vector, is_pointwise, vector_counts, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.track import Track, column_tracks, row_tracks
from hapgop.machine import Machine
from hapgop.shape import ConvShape

_ITEMS = 32  # enough for any usual number of cores to share out evenly; fixed, so that the bits are
_MOST_GROUPS = 16
_SUMS = 8  # times as large as one group's sums are the images, for it to pay
_SHORT = 256  # pixels of an image that a 1x1 filter sees as one row
_STORED = 1.15  # times as long may sums take that are stored as they are wanted
_TALL = 14  # channels of the broadcast side in a tile: its vectors are what comes from the second cache
_LONG = 96  # pixels at least for which a tile's sums come and go
_BORDER_COLUMNS = 16  # more border columns than this are not unrolled


@dataclass(frozen=True)
class Sums:
    """How the sums are shared out: everything that the kernel depends on (the batch size is passed at run time).

    What is asked for a thousand times for a plan is remembered.
    """

    problem: Problem
    machine: Machine
    batch: int
    image_groups: int
    row_block: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> Sums:
        s, batch = problem.conv, problem.conv.n
        single = s.kh == s.kw == s.ih == s.iw == 1 and not any(s.padding)
        if problem.x_layout == problem.y_layout == "nhwc" and single and s.n > 1:
            # A batch of single pixels is an image of as many: the inner loop runs over the batch.
            s, batch = replace(s, n=1, iw=s.n, padding=(0, 0, 0, 0), stride=(1, 1)), 1
        elif is_pointwise(s) and s.ih * s.iw <= _SHORT:
            # Images of few pixels are taken together: sums come and go once for each such row.
            last = problem.x_layout == problem.y_layout == "nhwc"
            # As many as the second cache has places for, where pixels are a large power of two apart.
            way = machine.l2 // 8
            places = min(7 * way // gcd(problem.itemsize * c, way) for c in (s.ic, s.oc))
            most = max(1, min(_SHORT, places) // (s.ih * s.iw)) if last else 1
            joined = max(m for m in range(1, most + 1) if batch % m == 0)
            s, batch = replace(s, n=batch // joined, ih=1, iw=joined * s.ih * s.iw), batch // joined
        # As many rows at a time as leave input and gradient in half of the second cache.
        row_bytes = problem.itemsize * (s.iw * s.ic * s.stride[0] + s.ow * s.oc)
        row_block = min(s.oh, max(1, machine.l2 // 2 // row_bytes))
        one = cls(replace(problem, shape=s.with_batch(1)), machine, batch, 1, row_block)
        if one.narrow:
            # Its tiles have little to do for each vector that they read: that has to come from the first cache.
            near = max(machine.l1 // row_bytes, ceil(_LONG / s.ow))
            one = replace(one, row_block=min(row_block, near))
        # A thread that has images of its own reads no other's; but every group has sums of its own, too.
        apart = batch * one.image_bytes // (_SUMS * problem.itemsize * one.size)
        groups = min(max(batch, 1), _MOST_GROUPS, max(ceil(_ITEMS / one.tiles), min(apart, machine.cores)))
        return replace(one, image_groups=groups)

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @cached_property
    def bundle(self) -> int:
        """Groups that lie side by side in a vector: each of its lanes meets the input channels of its own group."""
        s = self.shape
        return groups_in_vector(s.groups, max(s.ic, s.oc) // s.groups, self.lanes)

    @property
    def groups(self) -> int:
        return self.shape.groups // self.bundle

    @property
    def oc(self) -> int:
        return self.shape.oc // self.groups

    @property
    def ic(self) -> int:
        return self.shape.ic // self.shape.groups

    @cached_property
    def along_input(self) -> bool:
        """Whether vectors lie along the input channels: the sums then are stored as they are wanted."""
        p, s = self.problem, self.shape
        neighbours = weight_strides(p.w_layout, self.ic, s.kh, s.kw).c == 1
        if not neighbours or self.narrow or self.ic < self.lanes or self.bundle > 1:
            return False
        return self.cycles(self.ic, self.oc) < _STORED * self.cycles(self.oc, self.ic)

    def cycles(self, wide: int, tall: int) -> float:
        """Of one pixel, with vectors along so many channels."""
        count = len(vector_counts(wide, self.lanes))
        pairs, vectors = self.fitting(tall, count)
        down, across = registers.runs(tall, pairs), registers.runs(count, vectors)
        return sum(m * n * (registers.step_cycles(p, v) + costs.LOOP) for m, p in down for n, v in across)

    @property
    def wide(self) -> int:
        """Channels of the side that is loaded as vectors."""
        return self.ic if self.along_input else self.oc

    @property
    def tall(self) -> int:
        """Channels of the side that is broadcast."""
        return self.oc if self.along_input else self.ic

    @cached_property
    def counts(self) -> tuple[int, ...]:
        return vector_counts(self.wide, self.lanes)

    @property
    def cols(self) -> Track:
        return column_tracks(self.shape)[0]

    @property
    def rows(self) -> Track:
        return row_tracks(self.shape)[0]

    @cached_property
    def narrow(self) -> bool:
        """Few input channels: a tile's pairs run over the tap columns too, so that it is large enough."""
        first, last = self.cols.interior
        border = self.shape.ow - (last - first)
        fit = self.shape.kw * self.ic <= self.machine.registers - 4
        # Where vectors of outputs are many, a tile of some of them and of four inputs or more is large enough.
        small = self.oc <= self.lanes or self.ic < 4
        few = self.ic < 8 and (fit or (small and self.shape.kw <= self.machine.registers - 4))
        # Groups side by side are read from their first channel on, and so all channels at once.
        wanted = few if self.bundle == 1 else fit
        return wanted and self.shape.kw > 1 and border <= _BORDER_COLUMNS

    @property
    def channels(self) -> int:
        """Of the broadcast side, in a tile."""
        if not self.narrow:
            return self.pairs
        # Two vectors, where there are as many: each value that is broadcast then meets both.
        room = self.machine.registers - 4
        room = (room - 3) // 2 if len(self.counts) > 1 else room
        return registers.balanced(self.ic, max(1, room // self.shape.kw))

    @cached_property
    def tile(self) -> tuple[int, int]:
        """(pairs, vectors) of a register tile."""
        if self.narrow:
            pairs = self.shape.kw * self.channels
            most = max(1, min((self.machine.registers - 1) // (pairs + 1), len(self.counts), 4))
            # Four vectors are faster as two and two than as three and one.
            return pairs, min(range(most, 0, -1), key=partial(self._narrow_cycles, pairs))
        if self.bundle > 1:
            return self.ic, 1
        return self.fitting(self.tall, len(self.counts))

    def _narrow_cycles(self, pairs: int, vectors: int) -> float:
        """Of one pixel, in tiles of so many pairs and vectors."""
        return sum(n * registers.step_cycles(pairs, v) for n, v in registers.runs(len(self.counts), vectors))

    def fitting(self, tall: int, vectors: int) -> tuple[int, int]:
        """(pairs, vectors) of a tile for so many channels and vectors."""
        # Few of the broadcast side leave room for more vectors, which are read together from memory.
        return registers.choose_tile(tall, vectors, self.machine, _TALL if vectors > 1 else self.machine.registers)

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
        across = ceil(self.tall / self.channels) * (1 if self.narrow else s.kw)
        return self.groups * s.kh * across * self.blocks

    @property
    def many(self) -> bool:
        """Whether the sums are too many to come and go for each block of rows."""
        return not self.at_once and self.problem.itemsize * self.size > 2 * self.machine.l2

    @property
    def by_row(self) -> bool:
        """Whether one row of taps is done after the other, for its sums to stay in the cache from image to image."""
        return self.many and self.shape.kh > 1

    @property
    def panel(self) -> int:
        """Blocks of vectors that are done one after the other, for the same reason."""
        if not self.many:
            return self.blocks
        bytes_ = self.problem.itemsize * self.size // (self.shape.kh if self.by_row else 1)
        return max(1, min(self.blocks, self.blocks * (self.machine.l2 // 4) // bytes_))

    @property
    def run(self) -> int:
        """Tiles of the broadcast side that are done with a panel: their sums, and what they read, stay in the cache."""
        tiles = self.tall // self.channels
        if not self.many or not tiles:
            return max(tiles, 1)
        s, room = self.shape, self.machine.l2 // 4
        sums = self.problem.itemsize * self.pairs * self.panel * self.vectors * self.lanes * s.kw
        if not self.by_row:
            sums *= s.kh
        read = self.problem.itemsize * self.pairs * self.row_block * s.ow
        return registers.balanced(tiles, max(1, min(tiles, room // sums, 2 * room // read)))

    @property
    def padded(self) -> int:
        """The wide side's channels of a group, in whole vectors."""
        return len(self.counts) * self.lanes

    @property
    def size(self) -> int:
        """Elements of one image group's sums: [group][kh][kw][tall][padded wide]."""
        return self.groups * self.shape.kh * self.shape.kw * self.tall * self.padded

    @property
    def once_through(self) -> bool:
        """Whether there is one block of rows in all: no other follows it."""
        return self.batch == 1 and self.row_block >= self.shape.oh

    @property
    def image_bytes(self) -> int:
        """Of an image and its gradient."""
        s = self.shape
        return self.problem.itemsize * (s.ic * s.ih * s.iw + s.oc * s.oh * s.ow)

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
