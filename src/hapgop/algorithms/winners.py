"""What the two gradients by winners share: patches of an image, and where each winner's begins.

Behind a ReLU and a 2x2 max pool, a convolution's gradient has at most one number for each window and channel. So the
sums go over winners, not over pixels: a quarter of the products is left. What a winner's number is multiplied by (an
image's patch) or added to (the patch of the image's gradient) lies where the winner says, as rows of `kw * ic`
elements, channels last; vectors lie along these rows. An image, with its padding, has a place of its own in the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import costs, registers
from hapgop.algorithms.layout import Strides
from hapgop.algorithms.problem import Problem
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Register

_MOST = 1 << 20  # elements of an image: some lie one behind another, and float32 counts to 2^24 without gaps
_FINDING = 6.0  # cycles to find a winner's patch


def refusal(problem: Problem, machine: Machine) -> str | None:
    """Why the gradients cannot be summed by winners, in words."""
    s = problem.conv
    if problem.dtype not in ("float32", "float64"):
        return f"does not know {problem.dtype}"
    if problem.activation != "relu":
        return "wants a ReLU before the pool"
    for name, layout, channels in (("input", problem.x_layout, s.ic), ("gradient", problem.y_layout, s.oc)):
        if layout != "nhwc" and channels > 1:
            return f"wants channels last, but the {name}'s come first"
    if s.dilation != (1, 1) or s.groups > 1:
        return "knows neither dilations nor groups"
    patches = Patches.of(problem, machine)
    if patches.size > _MOST or sum(patches.private) * problem.itemsize > machine.l2:
        return "keeps an image and its winners in the second cache, and these are too large"
    return None


@dataclass(frozen=True)
class Patches:
    """The geometry of one image; the batch is passed at run time. The pooled map is (rows, columns, oc)."""

    problem: Problem
    machine: Machine

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> Patches:
        s = problem.conv
        return cls(replace(problem, shape=s.with_batch(1)), registers.fitting(s.kw * s.ic, problem.dtype, machine))

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def windows(self) -> tuple[int, int]:
        """Rows and columns of the pooled map."""
        return self.shape.oh // 2, self.shape.ow // 2

    @property
    def pooled(self) -> int:
        """Elements of the pooled map."""
        return self.windows[0] * self.windows[1] * self.shape.oc

    @property
    def rows(self) -> int:
        """Rows of the image, padding included, that windows see."""
        return (2 * self.windows[0] - 1) * self.shape.stride[0] + self.shape.kh

    @property
    def row(self) -> int:
        """Elements of such a row."""
        return ((2 * self.windows[1] - 1) * self.shape.stride[1] + self.shape.kw) * self.shape.ic

    @property
    def vectors(self) -> int:
        """Of a row of a patch."""
        return ceil(self.shape.kw * self.shape.ic / self.lanes)

    @property
    def size(self) -> int:
        """Elements of an image; the last patch's last vector is inside."""
        return self.rows * self.row + self.vectors * self.lanes - self.shape.kw * self.shape.ic

    @property
    def private(self) -> tuple[int, int, int]:
        """Elements of an image, of what the ReLU lets through, and of where its patches begin."""
        return self.size, self.pooled, self.pooled

    @property
    def steps(self) -> tuple[int, int]:
        """Elements from one output pixel's patch to that of the pixel below, and of the one beside it."""
        return self.shape.stride[0] * self.row, self.shape.stride[1] * self.shape.ic

    def blocks(self, held: int) -> list[tuple[range, range]]:
        """(rows, vectors of a row) of a patch for which registers are at hand but `held` of them."""
        free = self.machine.registers - held
        rows = registers.balanced(self.shape.kh, max(1, min(self.shape.kh, free // self.vectors)))
        wide = registers.balanced(self.vectors, min(self.vectors, free // rows))
        return [
            (range(t, min(t + rows, self.shape.kh)), range(v, min(v + wide, self.vectors)))
            for t in range(0, self.shape.kh, rows)
            for v in range(0, self.vectors, wide)
        ]

    def cycles(self, held: int, of_vector: float) -> float:
        """Of an image's winners, where a vector of a patch takes so many."""
        blocks = self.blocks(held)
        found = sum(max(len(t) * len(v) * of_vector, costs.LATENCY) + _FINDING for t, v in blocks)
        return self.pooled * found + costs.STORE * (2 * self.pooled + 2 * self.size) / self.lanes

    def find(
        self, k: Builder, given: Sequence[Buffer], image: Affine, through: Buffer, places: Buffer, slot: int
    ) -> None:
        """What an image's winners are worth, and where their patches begin, for the image's slot of private memory.

        given: gradient, pooled map and winners.
        """
        g, z, winners = given
        below, beside = self.steps
        first = slot * self.size
        zero, begins = k.const(0.0), [k.const(float(first + i // 2 * below + i % 2 * beside)) for i in range(4)]
        positions = [k.const(float(i)) for i in range(1, 4)]

        def step(at: Affine, count: int) -> None:
            here, there = image * self.pooled + at, at + slot * self.pooled
            value = k.select("above", k.load(z, here, count), zero, k.load(g, here, count), zero)
            k.store(value, through, there, count)
            winner, place = k.load(winners, here, count), begins[0]
            for position, begin in zip(positions, begins[1:], strict=True):
                place = k.select("equal", winner, position, begin, place)
            k.store(place, places, there, count)

        in_steps(k, self.pooled, self.lanes, step)

    def each_winner(
        self, k: Builder, through: Buffer, places: Buffer, channel: Affine, slots: int,
        visit: Callable[[Register, Affine], None],
    ) -> None:  # fmt: skip
        """Visits the winners of a channel, of all slots in turn: (its number in every lane, where its patch begins)."""
        below, beside = self.steps
        rows, columns = self.windows
        with k.loop("row", 0, rows) as row, k.loop("column", 0, columns) as column:
            for slot in range(slots):
                at = (row * columns + column) * self.shape.oc + channel + slot * self.pooled
                value = k.broadcast(through, at)
                with k.indirect("place", places, at, (slots - 1) * self.size + below + beside) as place:
                    visit(value, place + row * (2 * below) + column * (2 * beside))

    @property
    def overlap(self) -> tuple[int, int]:
        """Rows of the image that windows see, and elements of each."""
        s = self.shape
        rows, columns = self.rows - s.padding[0], self.row // s.ic - s.padding[2]
        return max(0, min(s.ih, rows)), max(0, min(s.iw, columns)) * s.ic

    @property
    def corner(self) -> int:
        """Where the image's first pixel lies, behind its padding."""
        return self.shape.padding[0] * self.row + self.shape.padding[2] * self.shape.ic

    def runs(self, vector: int, strides: Strides) -> list[tuple[int, int, int]]:
        """(lane, element of the weights' row, lanes) of the parts of a vector of a filter's row that lie evenly."""
        s, first = self.shape, vector * self.lanes
        last = min(first + self.lanes, s.kw * s.ic)
        if strides.c == 1:
            return [(0, first, last - first)]
        starts = sorted({first, *range(ceil(first / s.ic) * s.ic, last, s.ic)})
        return [
            (start - first, start // s.ic * strides.w + start % s.ic * strides.c, stop - start)
            for start, stop in zip(starts, [*starts[1:], last], strict=True)
        ]

    def seen(self, k: Builder, visit: Callable[[Affine, Affine, int], None]) -> None:
        """Visits the vectors of the image that windows see: (element of the image, of its slot, lanes)."""
        s = self.shape
        rows, width = self.overlap
        line = s.iw * s.ic
        if width == line == self.row:
            in_steps(k, rows * width, self.lanes, lambda at, count: visit(at, at + self.corner, count))
            return
        with k.loop("row", 0, rows) as row:
            in_steps(
                k, width, self.lanes, lambda at, count: visit(row * line + at, row * self.row + self.corner + at, count)
            )


def in_steps(k: Builder, count: int, lanes: int, visit: Callable[[Affine, int], None]) -> None:
    """Visits `count` elements in vectors, (first, lanes); the last one reaches back where it would not be whole."""
    if count <= lanes:
        if count:
            visit(Affine(), count)
        return
    with k.loop("vector", 0, count - lanes + 1, lanes) as at:
        visit(at, lanes)
    if count % lanes:
        visit(Affine(count - lanes), lanes)
