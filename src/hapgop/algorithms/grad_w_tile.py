"""The register tile of the weight gradient."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.grad_w_sums import Sums
from hapgop.algorithms.layout import Strides, image_strides, weight_strides
from hapgop.tile import Affine, Buffer, Builder, Register

_SHORT = 48  # outputs of a row of a narrow layer


@dataclass(slots=True)
class Tile:
    """Writes one register tile: its sums over a block of rows of one image, added to what memory holds."""

    sums: Sums
    k: Builder
    x: Buffer
    g: Buffer
    channels: int
    counts: tuple[int, ...]

    def emit(
        self,
        memory: Buffer,
        to: Affine,
        image: Affine,
        rows: Affine,
        group: Affine,
        kh: Affine,
        kw: Affine,
        channel: Affine,
        vector: Affine,
    ) -> None:
        k, sums, s = self.k, self.sums, self.sums.shape
        once = sums.at_once
        row = weight_strides(sums.problem.w_layout, sums.ic, s.kh, s.kw).n if once else sums.padded
        tall = [u * sums.tall + c for u in range(s.kw if sums.narrow else 1) for c in range(self.channels)]
        places = [[to + i * row + v * sums.lanes for v in range(len(self.counts))] for i in tall]
        acc = [[k.const(0.0) if once else k.load(memory, place) for place in line] for line in places]
        x_strides, g_strides = image_strides("nhwc", s.ic, s.ih, s.iw), image_strides("nhwc", s.oc, s.oh, s.ow)
        x_channel, g_channel = (vector * sums.lanes, channel) if sums.along_input else (channel, vector * sums.lanes)
        x_base = image * x_strides.n + (group * (sums.ic * sums.bundle) + x_channel) * x_strides.c
        g_base = image * g_strides.n + (group * sums.oc + g_channel) * g_strides.c
        # The tile's number among all of a block of rows.
        taps = kh if sums.narrow else kh * s.kw + kw
        number = (taps * ceil(sums.tall / sums.channels)) * sums.blocks + channel * sums.blocks // sums.channels
        number = number + vector // sums.vectors
        with k.loop("row", *self.rows(rows, kh)) as oh:
            x_row = x_base + sums.rows.source(oh, kh) * x_strides.h
            g_row = g_base + oh * g_strides.h
            if sums.narrow:
                first, last = sums.cols.interior
                inside = self.columns([Affine(first)], [Affine(last)], image, rows, oh, number)
                self.narrow_row(acc, x_row, g_row, x_strides, g_strides, inside)
            else:
                for column in self.columns(*sums.cols.outputs(kw), image, rows, oh, number):
                    x_at = x_row + sums.cols.source(column, kw) * x_strides.w
                    g_at = g_row + column * g_strides.w
                    if sums.along_input:
                        offsets = [(i, i * g_strides.c) for i in range(self.channels)]
                        self.step(acc, self.g, g_at, offsets, self.x, x_at, x_strides.c)
                    else:
                        offsets = [(i, i * x_strides.c) for i in range(self.channels)]
                        self.step(acc, self.x, x_at, offsets, self.g, g_at, g_strides.c)
        for line, values in zip(places, acc, strict=True):
            for place, value, count in zip(line, values, self.counts, strict=True):
                k.store(value, memory, place, count if once else None)

    def columns(
        self, low: Sequence[Affine], high: Sequence[Affine], image: Affine, rows: Affine, row: Affine, tile: Affine
    ) -> Iterator[Affine]:
        """Loops over a row's outputs from `low` to `high`; before some of them, more is fetched ahead."""
        k, sums, s = self.k, self.sums, self.sums.shape
        if sums.once_through or sums.many or (sums.narrow and s.ow < _SHORT):
            # Nothing follows; or the same images again, for other sums; or the hardware is as fast.
            with k.loop("column", [*low], [*high]) as column:
                yield column
            return
        line, row_elements = costs.LINE // sums.problem.itemsize, max(s.iw * s.ic * s.stride[0], s.ow * s.oc)
        width = ceil(s.ow / min(s.ow, ceil(row_elements / (sums.tiles * line))))
        parts = ceil(s.ow / width)
        with k.loop("part", 0, parts) as part:
            self.prefetch(image, rows, (tile * sums.row_block + row - rows) * parts + part, sums.tiles * parts)
            with k.loop("column", [part * width, *low], [part * width + width, *high]) as column:
                yield column

    def prefetch(self, image: Affine, rows: Affine, number: Affine, shares: int) -> None:
        """A share of the next block of rows: a few elements, lest many lines be waited for at once.

        The block is `row_block` rows of `width * step` elements, each in so many shares; all of it and nothing beyond,
        which would push out what is still wanted.
        """
        sums, s = self.sums, self.sums.shape
        whole = sums.row_block >= s.oh
        for buffer, height, width, step in (
            (self.x, s.ih, s.ic * s.iw, s.stride[0]),
            (self.g, s.oh, s.oc * s.ow, 1),
        ):
            start = (image + sums.image_groups if whole else image) * (height * width)
            start += (rows if whole else rows + sums.row_block) * (width * step)
            share = ceil(width * step / shares)
            for i in range(0, share, costs.LINE // sums.problem.itemsize):
                self.k.prefetch(buffer, start + number * share + i)

    def rows(self, rows: Affine, kh: Affine) -> tuple[list[Affine], list[Affine]]:
        """Output rows of the block for which tap row kh is inside."""
        low, high = self.sums.rows.outputs(kh)
        return [rows, *low], [rows + self.sums.row_block, *high]

    def narrow_row(
        self, acc: list[list[Register]], x_row: Affine, g_row: Affine, xs: Strides, gs: Strides,
        inside: Iterator[Affine],
    ) -> None:  # fmt: skip
        """All tap columns at once: border outputs one by one with the taps that are inside, the rest in a loop."""
        cols = self.sums.cols
        pairs = [(u, c) for u in range(cols.taps) for c in range(self.channels)]
        every = [(i, u * cols.in_tap * xs.w + c * xs.c) for i, (u, c) in enumerate(pairs)]
        first, last = cols.interior
        for q in [*range(first), *range(last, cols.count)]:
            offsets = [(i, at) for i, at in every if cols.valid(q, pairs[i][0])]
            if offsets:
                self.step(acc, self.x, x_row + cols.source(q, 0) * xs.w, offsets, self.g, g_row + q * gs.w, gs.c)
        if first < last:
            for column in inside:
                x_at, g_at = x_row + cols.source(column, 0) * xs.w, g_row + column * gs.w
                self.step(acc, self.x, x_at, every, self.g, g_at, gs.c)

    def spread(self, at: Affine, offset: int) -> Register:
        """An input channel of each group, in the lanes of the group's outputs."""
        k, sums = self.k, self.sums
        pixel, c = offset // sums.shape.ic * sums.shape.ic, offset % sums.shape.ic
        run = sums.oc // sums.bundle
        order = [lane // run * sums.ic + c if lane < sums.oc else 0 for lane in range(sums.lanes)]
        return k.permute(k.load(self.x, at + pixel, sums.ic * sums.bundle), order)

    def step(
        self,
        acc: list[list[Register]],
        tall: Buffer,
        tall_at: Affine,
        offsets: list[tuple[int, int]],
        wide: Buffer,
        wide_at: Affine,
        lane: int,
    ) -> None:
        """One pixel: acc[i] += tall[i] * wide, for each (i, offset)."""
        k, lanes = self.k, self.sums.lanes
        vectors = [k.load(wide, wide_at + v * lanes * lane, c, lane) for v, c in enumerate(self.counts)]
        for i, offset in offsets:
            scalar = self.spread(tall_at, offset) if self.sums.bundle > 1 else k.broadcast(tall, tall_at + offset)
            for v, vector in enumerate(vectors):
                k.fma(scalar, vector, acc[i][v], into=acc[i][v])
