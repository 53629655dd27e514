"""The sums of a depthwise weight gradient: how they are shared out, and the tile that adds a row of pixels to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from math import ceil

from hapgop.algorithms.depthwise_tile import Columns, each_tile, most_taps, reach, row_tiles
from hapgop.algorithms.depthwise_work import Work
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.registers import balanced
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Register

_ITEMS = 16  # enough for any usual number of cores to share out evenly; fixed, so that the bits are
_CHAIN = 1024  # the most numbers that are added up in a register, for the rounding's sake
_CHAINS = 8  # independent sums that keep the multipliers of today's cores busy
# A tile's pixels: a wait for memory is hidden by the next tile's work, which begins early only where tiles are small.
_MOST_PIXELS, _MOST_FAR = 14, 4

Chains = dict[int, list[Register]]


@dataclass(frozen=True, slots=True)
class Sums:
    """Everything that the kernel depends on (the batch size is passed at run time).

    image_groups, strip_groups   how many share the images, and an image's strips
    """

    problem: Problem
    work: Work
    registers: int
    image_groups: int
    strip_groups: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> Sums:
        work, n = Work.of(problem, machine), max(problem.conv.n, 1)
        images = min(n, ceil(_ITEMS / work.channel_groups))
        work = replace(work, strip=balanced(work.strip, max(1, min(work.strip, _CHAIN // work.width))))
        strips = ceil(work.strips / ceil(_ITEMS / (work.channel_groups * images)))
        groups = ceil(work.strips / strips)
        return cls(replace(problem, shape=work.shape), work, machine.registers, images, groups)

    @property
    def groups(self) -> int:
        return self.image_groups * self.strip_groups

    @property
    def strips_a_group(self) -> int:
        return ceil(self.work.strips / self.strip_groups)

    @property
    def images(self) -> tuple[int, int]:
        """Elements of an input and of an output's gradient."""
        s = self.work.shape
        return s.ic * s.ih * s.iw, s.oc * s.oh * s.ow

    @property
    def turned(self) -> tuple[bool, bool]:
        """Whether the input and the gradient have to be brought from channels first."""
        (x, g), p, c = self.images, self.problem, self.work.shape.ic
        return p.x_layout == "nchw" and x > c, p.y_layout == "nchw" and g > c

    @property
    def held(self) -> int:
        """Tap columns that are summed at a time."""
        return most_taps(self.work.shape.kw, self.registers)

    @property
    def rows_at_once(self) -> int:
        """Tap rows that are summed at a time: all, or one."""
        s = self.work.shape
        return s.kh if s.kh * s.kw < self.registers // 2 else 1

    @property
    def sets(self) -> int:
        """Sums of one tap, where there are too few taps to keep the multipliers busy."""
        sums = self.rows_at_once * self.held
        return max(1, min(ceil(_CHAINS / sums), (self.registers // 2 - 1) // sums))

    @property
    def pixels(self) -> int:
        room = self.registers - 1 - self.rows_at_once * self.held * self.sets
        return balanced(self.work.width, min(room, _MOST_FAR if self.work.far else _MOST_PIXELS))

    @property
    def tiles(self) -> list[Columns] | None:
        return row_tiles(self.work.cols, self.pixels)


@dataclass(slots=True)
class Add:
    """Writes the stage that sums, each group by itself."""

    sums: Sums
    k: Builder
    x: Buffer
    g: Buffer
    memory: Buffer

    def emit(self, n: Affine) -> None:
        k, sums, work = self.k, self.sums, self.sums.work
        grid = (("images", sums.image_groups), ("strips", sums.strip_groups), ("channels", work.channel_groups))
        with k.stage("sums", *grid) as (images, strips, group):
            own = (images * sums.strip_groups + strips) * work.packed
            first, step = group * work.per_group, work.per_group
            with k.loop("clear", first * work.taps, [(first + step) * work.taps, len(work.counts) * work.taps]) as i:
                k.store(k.const(0.0), self.memory, own + i * work.lanes)
            strip = strips * sums.strips_a_group
            with (
                k.loop("image", images, n, sums.image_groups) as image,
                k.loop("strip", strip, [strip + sums.strips_a_group, work.strips]) as strip,
            ):
                full, rest = divmod(work.shape.ic, work.lanes)
                with k.loop("vector", first, [first + step, full]) as v:
                    self.vector(image, strip, own, v, work.lanes)
                if rest:
                    # The last group's: a loop that runs once there and not at all elsewhere.
                    with k.loop("tail", [0, work.channel_groups - 1 - group], 1):
                        self.vector(image, strip, own, Affine(full), rest)

    def vector(self, image: Affine, strip: Affine, own: Affine, vector: Affine, count: int) -> None:
        """Adds one strip's sums for one vector of channels."""
        work, kw = self.sums.work, self.sums.work.shape.kw
        to = own + vector * (work.taps * work.lanes)
        for first in range(0, kw, self.sums.held):
            taps = range(first, min(first + self.sums.held, kw))
            if self.sums.rows_at_once > 1:
                self.whole(image, strip, to, vector, count, taps)
            else:
                with self.k.loop("tap_row", 0, work.shape.kh) as t:
                    self.one_row(image, strip, to + t * (kw * work.lanes), vector, count, taps, t)

    def whole(self, image: Affine, strip: Affine, to: Affine, vector: Affine, count: int, taps: Sequence[int]) -> None:
        """All rows of taps: runs of rows that meet the same ones."""
        kh, kw = self.sums.work.shape.kh, self.sums.work.shape.kw
        acc = {t: self.zeros(taps) for t in range(kh)}
        for low, high, rows in self.runs():
            with self.row_loop(strip, [Affine(low)], [Affine(high)]) as row:
                self.row(image, strip, row, vector, count, taps, [(Affine(t), acc[t]) for t in rows])
        for t in range(kh):
            self.add(acc[t], taps, to + t * (kw * self.sums.work.lanes))

    def one_row(
        self, image: Affine, strip: Affine, to: Affine, vector: Affine, count: int, taps: Sequence[int], t: Affine
    ) -> None:
        track = self.sums.work.rows[0]
        acc = self.zeros(taps)
        with self.row_loop(strip, *track.outputs(t)) as row:
            self.row(image, strip, row, vector, count, taps, [(t, acc)])
        self.add(acc, taps, to)

    def runs(self) -> Iterator[tuple[int, int, list[int]]]:
        """(first, last + 1, tap rows): all output rows, cut where the tap rows that are inside change."""
        track = self.sums.work.rows[0]
        reached = [track.reached(t) for t in range(track.taps)]
        cuts = sorted({row for ends in reached for row in ends})
        for low, high in pairwise(cuts):
            rows = [t for t, (first, last) in enumerate(reached) if first <= low and high <= last]
            if rows:
                yield low, high, rows

    @contextmanager
    def row_loop(self, strip: Affine, lows: Sequence[Affine], highs: Sequence[Affine]) -> Iterator[Affine]:
        first, size = strip * self.sums.work.strip, self.sums.work.strip
        with self.k.loop("row", [first, *lows], [first + size, *highs]) as row:
            yield row

    def zeros(self, taps: Sequence[int]) -> Chains:
        return {u: [self.k.const(0.0) for _ in range(self.sums.sets)] for u in taps}

    def add(self, acc: Chains, taps: Sequence[int], to: Affine) -> None:
        """memory += the chains of a row of taps."""
        k, lanes = self.k, self.sums.work.lanes
        for u in taps:
            total, *others = acc[u]
            for other in others:
                total = k.add(total, other)
            k.store(k.add(k.load(self.memory, to + u * lanes), total), self.memory, to + u * lanes)

    def row(
        self,
        image: Affine,
        strip: Affine,
        row: Affine,
        vector: Affine,
        count: int,
        taps: Sequence[int],
        rows: Sequence[tuple[Affine, Chains]],
    ) -> None:
        """One row of gradients, times the rows of inputs that these rows of taps meet."""
        work = self.sums.work
        channel = vector * work.lanes
        x, g = (image * size + channel for size in self.sums.images)
        width = work.shape.iw * work.shape.ic
        lines = [(x + work.rows[0].source(row, t) * width, acc) for t, acc in rows]
        gradients = g + row * (work.shape.ow * work.shape.oc)
        fetch = partial(self.fetch, image, strip, row, vector, rows[0][0]) if work.far else None
        each_tile(self.k, self.sums.tiles or [], partial(self.tile, lines, gradients, count, taps, fetch))

    def fetch(
        self, image: Affine, strip: Affine, row: Affine, vector: Affine, t: Affine, column: Affine, pixels: int
    ) -> None:
        """A tile's share of the next strip; where rows of taps follow one another, the first one's."""
        k, work = self.k, self.sums.work
        s, size, track = work.shape, work.strip, work.rows[0]
        x_size, g_size = self.sums.images
        step = track.in_step * work.cols[0].in_step
        tile = (vector * size + row - strip * size) * s.ow + column
        below = strip * size + size
        g = image * g_size + below * (s.ow * s.oc)
        x = image * x_size + track.source(below, track.taps - 1) * (s.iw * s.ic)

        def both() -> None:
            work.fetch(k, self.g, g, tile, pixels)
            work.fetch(k, self.x, x, tile * step, pixels * step)

        if self.sums.rows_at_once > 1:
            both()
        else:
            with k.loop("first", t, [t + 1, 1]):
                both()

    def tile(
        self,
        lines: Sequence[tuple[Affine, Chains]],
        gradients: Affine,
        count: int,
        taps: Sequence[int],
        fetch: Callable[[Affine, int], None] | None,
        column: Affine,
        columns: Columns,
    ) -> None:
        k, work, sets = self.k, self.sums.work, self.sums.sets
        c, step = work.shape.ic, work.cols[0].in_step
        met = reach(work.cols, columns)
        held = [k.load(self.g, gradients + (column + p) * c, count) for p in range(columns.pixels)]
        if fetch is not None:
            fetch(column, columns.pixels)
        for number, pairs in met.inputs.items():
            used = [(pixel, tap) for pixel, tap in pairs if tap in taps]
            if not used:
                continue
            at = column * (step * c) + number * c
            for line, acc in lines:
                value = k.load(self.x, line + at, count)
                for pixel, tap in used:
                    total = acc[tap][pixel % sets]
                    k.fma(value, held[pixel], total, into=total)
