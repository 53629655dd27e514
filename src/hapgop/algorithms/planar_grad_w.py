"""The weight gradient where channels come first: vectors lie along the pixels of a row, and nothing is turned.

A register tile is some output channels times some input channels (with few of those, times the taps of a row too); each
of its sums is a vector whose lanes hold the terms of every 16th pixel, and which are added at the very end. So there
are as many vectors of sums as weights, and this is for layers with few of them: first layers, and 1x1 filters.
Images are dealt to a number of groups that depends on shape and registers, and the groups' sums are added in order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from hapgop.algorithms import costs, registers
from hapgop.algorithms.layout import Count, is_pointwise, weight_strides
from hapgop.algorithms.margins import Margins
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.algorithms.track import Track, column_tracks, row_tracks
from hapgop.machine import Machine
from hapgop.shape import ConvShape
from hapgop.tile import Affine, Buffer, Builder, Kernel, Register

_ITEMS = 32  # enough for any usual number of cores to share out evenly; fixed, so that the bits are
_MOST_GROUPS = 16
_PAIRS = 9  # (tap column, input channel) pairs that one tile takes
_WIDEST = 64  # tap columns, of which each is unrolled


@dataclass(frozen=True, slots=True)
class PlanarGradW(Algorithm):
    """`grad_w` where channels come first and the sums of all weights fit the second cache."""

    name: str = "planar grad_w"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op != "grad_w":
            return f"computes grad_w, not {problem.op}"
        s = problem.conv
        for name, layout, channels in (("input", problem.x_layout, s.ic), ("gradient", problem.y_layout, s.oc)):
            if layout != "nchw" and channels > 1:
                return f"wants channels first, but the {name}'s come last"
        work = _Work.of(problem, machine)
        if work.weights * machine.vector_bytes > machine.l2:
            return f"keeps a vector of sums for each weight, too much for {work.weights} of them"
        if s.kw > _WIDEST or work.pieces > 4 * s.kw + 8:
            return "unrolls the borders of a row, and this one has too many"
        return None

    def seconds(self, problem: Problem, machine: Machine) -> float:
        work = _Work.of(problem, machine)
        s = work.shape
        taps = len(work.sets[0])
        tiles = sum(
            m * n * costs.step_cycles(i, j, machine.vector_bytes)
            for m, i in registers.runs(work.oc, work.outputs)
            for n, j in registers.runs(work.ic * taps, work.inputs * taps)
        )
        steps = work.rows.hits * sum(ceil((hi - lo) / work.lanes) for lo, hi in map(work.span, range(s.kw)))
        cycles = work.batch * s.groups * steps / taps * tiles
        visits = work.batch * ceil(s.oh / work.row_block)
        tensors = problem.itemsize * work.batch * (s.ic * s.ih * s.iw + s.oc * s.oh * s.ow)
        kept = (3 * visits + 2 * work.image_groups) * work.weights * costs.STORE
        total = max((cycles + kept) / costs.CLOCK, costs.traffic(tensors, machine)) + costs.CALL + 2 * costs.STAGE
        return total + work.margins.seconds(problem.itemsize * work.batch, work.lanes, machine)

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        work = _Work.of(problem, machine)
        return Recipe(
            key=f"planar_grad_w {work.image_groups} {work.row_block} {work.problem} {machine}",
            build=work.kernel,
            sizes=(work.batch,),
            scratch=tuple(size for _, size in work.scratch(work.batch)),
            items=work.image_groups * work.tiles,
            tiles=f"{work.outputs} x {work.inputs} channels",
        )


@dataclass(frozen=True, slots=True)
class _Work:
    """How the sums are shared out: everything that the kernel depends on (the batch size is passed at run time)."""

    problem: Problem
    machine: Machine
    batch: int
    image_groups: int
    row_block: int

    @classmethod
    def of(cls, problem: Problem, machine: Machine) -> _Work:
        s = problem.conv
        batch, s = s.n, s.with_batch(1)
        if is_pointwise(s):
            s = replace(s, ih=1, iw=s.ih * s.iw)  # a 1x1 filter sees no rows
        # As many rows at a time as leave input and gradient in half of the second cache.
        row_bytes = problem.itemsize * (s.iw * s.ic * s.stride[0] + s.ow * s.oc)
        row_block = min(s.oh, max(1, machine.l2 // 2 // row_bytes))
        one = cls(replace(problem, shape=s), machine, batch, 1, row_block)
        return replace(one, image_groups=min(max(batch, 1), _MOST_GROUPS, ceil(_ITEMS / one.tiles)))

    @property
    def shape(self) -> ConvShape:
        return self.problem.conv

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
    def weights(self) -> int:
        s = self.shape
        return s.oc * self.ic * s.kh * s.kw

    @property
    def cols(self) -> Track:
        return column_tracks(self.shape)[0]

    @property
    def rows(self) -> Track:
        return row_tracks(self.shape)[0]

    @property
    def margins(self) -> Margins:
        s = self.shape
        if s.stride[1] > 1:
            return Margins.of(s.ic, s.ih, self.cols)
        return Margins(s.ic, s.ih, s.iw, 0, 1, s.iw, s.iw, False)

    @property
    def sets(self) -> list[list[int]]:
        """The tap columns that a tile takes together: all with few input channels, else one."""
        kw = self.shape.kw
        return [list(range(kw))] if kw * self.ic <= _PAIRS else [[u] for u in range(kw)]

    @property
    def inputs(self) -> int:
        """Input channels of a tile."""
        return (
            self.ic if len(self.sets[0]) > 1 else registers.balanced(self.ic, 5 if self.machine.registers > 16 else 3)
        )

    @property
    def outputs(self) -> int:
        """Output channels of a tile: sums, one vector of each of the fewer, and one of the others are in registers."""
        j, free = self.inputs * len(self.sets[0]), self.machine.registers - 1
        most = max(1, *(i for i in range(1, free) if i * j + min(i, j) <= free)) if j < free // 2 else 1
        return registers.balanced(self.oc, most)

    @property
    def tiles(self) -> int:
        return self.shape.groups * self.shape.kh * ceil(self.ic / self.inputs) * ceil(self.oc / self.outputs)

    @property
    def pieces(self) -> int:
        """Pieces of a row that are unrolled."""
        borders = [border for taps in self.sets for border in self.borders(taps)]
        return sum(ceil((stop - start) / self.lanes) for start, stop, _ in borders)

    def span(self, tap: int) -> tuple[int, int]:
        """[first, last) of the output columns for which a tap is inside."""
        cols = self.cols
        offset = cols.in_first + tap * cols.in_tap
        first = max(0, -(offset // cols.in_step))
        return first, max(first, min(cols.count, (cols.in_size - 1 - offset) // cols.in_step + 1))

    def common(self, taps: list[int]) -> tuple[int, int]:
        """[first, last) of the output columns for which all of these taps are inside."""
        spans = [self.span(u) for u in taps]
        first, last = max(s[0] for s in spans), min(s[1] for s in spans)
        return (first, last) if first < last else (0, 0)

    def borders(self, taps: list[int]) -> list[tuple[int, int, int]]:
        """(first, last + 1, tap) of the output columns that a tap has beyond the common ones."""
        first, last = self.common(taps)
        pieces = []
        for u in taps:
            low, high = self.span(u)
            pieces += [(low, min(first, high), u), (max(last, low), high, u)] if last else [(low, high, u)]
        return [piece for piece in pieces if piece[0] < piece[1]]

    def scratch(self, n: Count) -> list[tuple[str, Count]]:
        sizes: list[tuple[str, Count]] = [("sums", n * 0 + self.image_groups * self.weights * self.lanes)]
        if self.margins.copies:
            sizes.append(("margins", n * self.margins.size))
        return sizes

    # The program

    def kernel(self) -> Kernel:
        p, s = self.problem, self.shape
        k = Builder("planar_grad_w", p.dtype, self.lanes)
        n = k.size("n", low=0)
        x = k.buffer("x", n * (s.ic * s.ih * s.iw), "in")
        g = k.buffer("g", n * (s.oc * s.oh * s.ow), "in")
        dw = k.buffer("dw", self.weights, "out")
        scratch = {name: k.buffer(name, size, "scratch") for name, size in self.scratch(n)}
        if "margins" in scratch:
            self.margins.emit(k, n, x, scratch["margins"])
            x = scratch["margins"]
        sums = scratch["sums"]
        with k.stage("zero", ("weight", self.image_groups * self.weights)) as (weight,):
            k.store(k.const(0.0), sums, weight * self.lanes)
        # A thread does its tiles for one image and block of rows, then for the next: both stay in its cache.
        around = (("base", 0, n, self.image_groups), ("rows", 0, s.oh, self.row_block))
        for name, first, count, outputs in self.runs(self.oc, self.outputs):
            for i_name, i_first, i_count, inputs in self.runs(self.ic, self.inputs):
                grid = (
                    ("images", self.image_groups),
                    ("group", s.groups),
                    ("tap_row", s.kh),
                    ("inputs", i_count),
                    ("outputs", count),
                )
                with k.stage(f"sums {name}{i_name}", *grid, repeat=around) as (base, rows, images, group, t, i, o):
                    with k.loop("image", base + images, [n, base + images + 1]) as image:
                        place = (image, rows, images, group, t, i * self.inputs + i_first, o * self.outputs + first)
                        for taps in self.sets:
                            self.tile(k, (x, g, sums), place, taps, inputs, outputs)
        self.total(k, sums, dw)
        return k.kernel()

    @staticmethod
    def runs(total: int, size: int) -> list[tuple[str, int, int, int]]:
        """(name, first, blocks, size) of the whole blocks and of the narrower last one."""
        full, rest = divmod(total, size)
        return [r for r in (("", 0, full, size), (" tail", full * size, int(rest > 0), rest)) if r[2]]

    def tile(
        self,
        k: Builder,
        buffers: tuple[Buffer, Buffer, Buffer],
        place: tuple[Affine, ...],
        taps: list[int],
        ni: int,
        no: int,
    ) -> None:
        """The sums of some output and input channels over a block of rows of an image, added to what memory holds."""
        (x, g, sums), (image, rows, images, group, t, i, o) = buffers, place
        s, margins = self.shape, self.margins
        strides = weight_strides(self.problem.w_layout, self.ic, s.kh, s.kw)
        first = images * self.weights + (group * self.oc + o) * strides.n + i * strides.c + t * strides.h
        wide = [(u, c) for u in taps for c in range(ni)]
        steps = [c * strides.c + u * strides.w for u, c in wide]
        places = [[(first + j * strides.n + step) * k.lanes for step in steps] for j in range(no)]
        acc = [[k.load(sums, at) for at in line] for line in places]
        plane = s.oh * s.ow
        low, high = self.rows.outputs(t)
        with k.loop("row", [rows, *low], [rows + self.row_block, *high]) as row:
            g_at = image * (s.oc * plane) + (group * self.oc + o) * plane + row * s.ow
            x_at = image * margins.size + (group * self.ic + i) * margins.plane + self.rows.source(row, t) * margins.row

            def step(column: Affine, count: int, used: list[int], g_at: Affine = g_at, x_at: Affine = x_at) -> None:
                gs = [(j, g, g_at + column + j * plane) for j in range(no)]
                xs = [
                    (at, x, x_at + column + c * margins.plane + margins.source(self.cols, u))
                    for at, (u, c) in enumerate(wide)
                    if u in used
                ]
                self.outer(k, acc, gs, xs, count)

            start, stop = self.common(taps)
            full = start + (stop - start) // k.lanes * k.lanes
            if start < full:
                with k.loop("column", start, full, k.lanes) as column:
                    step(column, k.lanes, taps)
            if full < stop:
                step(Affine(full), stop - full, taps)
            for piece, end, u in self.borders(taps):
                for at in range(piece, end, k.lanes):
                    step(Affine(at), min(k.lanes, end - at), [u])
        for line, values in zip(places, acc, strict=True):
            for to, value in zip(line, values, strict=True):
                k.store(value, sums, to)

    @staticmethod
    def outer(
        k: Builder,
        acc: list[list[Register]],
        gs: list[tuple[int, Buffer, Affine]],
        xs: list[tuple[int, Buffer, Affine]],
        count: int,
    ) -> None:
        """acc[j][i] += g[j] * x[i]; the fewer are held, the others loaded one by one."""
        held, passing = (gs, xs) if len(gs) <= len(xs) else (xs, gs)
        vectors = [k.load(buffer, at, count) for _, buffer, at in held]
        for b, buffer, at in passing:
            other = k.load(buffer, at, count)
            for (a, _, _), vector in zip(held, vectors, strict=True):
                j, i = (a, b) if held is gs else (b, a)
                k.fma(vector, other, acc[j][i], into=acc[j][i])

    def total(self, k: Builder, sums: Buffer, dw: Buffer) -> None:
        """Adds the image groups' sums in order, then the lanes of each."""
        for name, first, blocks, count in self.runs(self.weights, k.lanes):
            with k.stage(f"total{name}", ("block", blocks)) as (block,):
                at = block * k.lanes + first
                rows = []
                for i in range(count):
                    total = k.load(sums, (at + i) * k.lanes)
                    for group in range(1, self.image_groups):
                        total = k.add(total, k.load(sums, (at + group * self.weights + i) * k.lanes))
                    rows.append(total)
                rows = k.transpose(rows)
                while len(rows) > 1:
                    rows = [k.add(a, b) for a, b in zip(rows[::2], rows[1::2], strict=True)]
                k.store(rows[0], dw, at, count)
