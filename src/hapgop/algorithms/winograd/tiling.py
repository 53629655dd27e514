"""How the outputs of a convolution are cut into tiles, and the tiles into blocks that stay in a core's cache."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from hapgop.algorithms import registers
from hapgop.algorithms.layout import image_strides, vector_counts, weight_strides
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.winograd.points import gradient, triple
from hapgop.algorithms.winograd.triple import Triple
from hapgop.algorithms.winograd.weights import Filters
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Coordinate

_FEW = 128  # tiles, at most, that are transformed all at once, for each block of channels to go through
# Elements between what threads write in large strides. A core sees the stride and fetches what would come next, to
# write it: without the gap these are lines that another core is writing, and two threads hardly gained on one.
GAP = 1 << 16
_LEAST, _MOST = 14, 56  # tiles of a block
_LARGE = 16 << 20  # bytes of transformed filters that come from memory again for every block of tiles


@dataclass(frozen=True, slots=True)
class Side:
    """An image tensor: channels of one group, all channels, height, width, and where its elements lie."""

    channels: int
    total: int
    height: int
    width: int

    def where(self, image: Affine, row: Affine, column: Affine, n: Affine) -> tuple[Coordinate, ...]:
        strides = image_strides("nhwc", self.total, self.height, self.width)
        return (
            Coordinate(image, n, strides.n),
            Coordinate(row, Affine(self.height), strides.h),
            Coordinate(column, Affine(self.width), strides.w),
        )


def across(height: int, width: int, m: int, dilation: tuple[int, int]) -> tuple[int, int]:
    """Tiles of m x m down and across an image of results.

    A dilated convolution is one without holes for every residue class of rows and columns: tiles are cut of those.
    """
    down, over = (d * ceil(ceil(size / d) / m) for size, d in zip((height, width), dilation, strict=True))
    return down, over


@dataclass(frozen=True)
class Tiling:
    """Everything that a kernel of `conv` or `grad_x` depends on.

    m      output rows and columns of a tile; of an input gradient, those of each residue class of the stride
    batch  the number of images; one that is few tiles is part of the program, else it is passed at run time

    What follows from these is asked for a thousand times for a plan, and remembered.
    """

    problem: Problem
    machine: Machine
    m: int
    batch: int

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

    @cached_property
    def triple(self) -> Triple:
        r, step = self.shape.kh, self.shape.stride[0]
        return gradient(self.m, r, step, self.shape.padding[0])[0] if self.backward else triple(self.m, r, step)

    @property
    def outputs(self) -> int:
        """Rows and columns of a tile of results."""
        return self.triple.outputs

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def backward(self) -> bool:
        return self.problem.op == "grad_x"

    @cached_property
    def source(self) -> Side:
        s = self.shape
        x, y = Side(s.ic // s.groups, s.ic, s.ih, s.iw), Side(s.oc // s.groups, s.oc, s.oh, s.ow)
        return y if self.backward else x

    @cached_property
    def target(self) -> Side:
        s = self.shape
        x, y = Side(s.ic // s.groups, s.ic, s.ih, s.iw), Side(s.oc // s.groups, s.oc, s.oh, s.ow)
        return x if self.backward else y

    @property
    def turns_source(self) -> bool:
        """Whether the source lies channels first."""
        return (self.problem.y_layout if self.backward else self.problem.x_layout) == "nchw"

    @property
    def turns_target(self) -> bool:
        return (self.problem.x_layout if self.backward else self.problem.y_layout) == "nchw"

    @property
    def result(self) -> Side:
        """What is written: the target, or its pool."""
        side = self.target
        return replace(side, height=side.height // 2, width=side.width // 2) if self.problem.pooled else side

    @cached_property
    def origin(self) -> tuple[int, int]:
        """Row and column of the source that the first tile starts at."""
        s = self.shape
        top, left = s.padding[0], s.padding[2]
        if not self.backward:
            return -top, -left
        if s.stride != (1, 1):
            return gradient(self.m, s.kh, s.stride[0], top)[1], gradient(self.m, s.kw, s.stride[1], left)[1]
        return top - (s.kh - 1) * s.dilation[0], left - (s.kw - 1) * s.dilation[1]

    @cached_property
    def across(self) -> tuple[int, int]:
        """Tiles down and across an image."""
        return across(self.target.height, self.target.width, self.outputs, self.shape.dilation)

    @property
    def dilation(self) -> tuple[int, int]:
        return self.shape.dilation

    @cached_property
    def tiles(self) -> int:
        """Of one image."""
        return self.across[0] * self.across[1]

    @cached_property
    def filters_bytes(self) -> int:
        """Of the transformed filters of a group."""
        return self.products * self.source.channels * self.target.channels * self.problem.itemsize

    @cached_property
    def few(self) -> bool:
        """Whether filters are so many for so few tiles that they go through the caches only once."""
        packed = self.problem.packed
        most = _LARGE if packed else _LARGE // 4
        if self.fits:
            most = min(most, self.machine.l2 * 3 // 2)
        # Blocks of tiles are faster where every core gets one, but for the way of filters not transformed ahead.
        tiles = self.machine.cores * _LEAST if packed else _FEW
        return self.batch * self.tiles <= tiles and self.filters_bytes > most

    @property
    def fits(self) -> bool:
        """Whether all transformed tiles of a group stay in a core's second cache while filters stream through it."""
        every = self.products * self.batch * self.tiles * self.in_vectors * self.lanes * self.problem.itemsize
        return every <= self.machine.l2 * 5 // 8

    @property
    def own(self) -> bool:
        """Whether each thread transforms all tiles for itself: sooner done than fetched from where another did it."""
        return self.few and self.fits

    @property
    def parts(self) -> int:
        """Into how many parts the blocks of channels are cut where each begins with all tiles."""
        return min(len(self.filters.blocks), self.machine.cores)

    @cached_property
    def out_vectors(self) -> int:
        return len(vector_counts(self.target.channels, self.lanes))

    @cached_property
    def in_vectors(self) -> int:
        return len(vector_counts(self.source.channels, self.lanes))

    @property
    def products(self) -> int:
        return self.triple.products**2

    @property
    def room(self) -> int:
        """Tiles of a block that leave most of the second cache to what streams through it."""
        one = self.products * self.problem.itemsize * self.lanes * (self.in_vectors + self.out_vectors)
        # Filters that come from far for each block have to be worth the way.
        least = 2 * _LEAST if self.filters_bytes > 2 * self.machine.l2 else _LEAST
        return max(least, min(_MOST, self.machine.l2 // 4 // one))

    @cached_property
    def cut(self) -> tuple[int, int]:
        """(tiles of a register tile, register tiles of a block): each core gets as many as the others."""
        every = max(1, self.batch * self.tiles)
        if self.few:
            return every, 1
        most = registers.choose_tile(3 * _MOST, self.out_vectors, self.machine)[0]
        share = ceil(every / self.machine.cores)
        units = ceil(share / most)
        pixels = ceil(share / units)
        # The largest of those that leave hardly a register tile empty, or just one that is small.
        fitting, spare = range(ceil(self.room / pixels), 0, -1), max(units // 16, _LEAST // 2 // pixels)
        return pixels, next(n for n in fitting if ceil(units / n) * n - units <= spare)

    @cached_property
    def tile(self) -> tuple[int, int]:
        """(tiles, vectors) of a register tile."""
        # Of one vector where a block's filters of a product then stay in the first cache for all tiles.
        return registers.choose_tile(self.cut[0], 1 if self.own else self.out_vectors, self.machine)

    @cached_property
    def block(self) -> int:
        """Tiles of a block: whole register tiles."""
        pixels, units = self.cut
        return ceil(pixels / self.tile[0]) * self.tile[0] * units

    @cached_property
    def filters(self) -> Filters:
        s = self.shape
        strides = weight_strides(self.problem.w_layout, s.ic // s.groups, s.kh, s.kw)
        source, target = self.source, self.target
        return Filters(
            self.triple,
            s.groups,
            target.channels,
            source.channels,
            strides,
            self.backward,
            self.lanes,
            self.tile[1],
            by_block=self.few,
        )

    # Where things lie in a block's buffers: [product][vector of channels][tile][lanes]

    def skewed(self, vectors: int) -> int:
        """Elements from one product to the next; a cache line more, so that they do not all fall into one set."""
        elements = vectors * self.block * self.lanes + self.lanes
        return elements + (self.lanes if elements * self.problem.itemsize % 4096 in (0, 2048) else 0)

    @property
    def v_step(self) -> int:
        return self.skewed(self.in_vectors)

    @property
    def m_step(self) -> int:
        return self.skewed(self.out_vectors)
