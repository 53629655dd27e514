"""Weights as the direct kernels read them: [group][block of output channels][tap row][tap column][ic][lanes].

A block is `width` output channels, whole vectors; what is left over becomes one narrower block, padded with zeros.
The roles of input and output are those of the gather: for an input gradient they are exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hapgop.algorithms.layout import Strides, vector_counts
from hapgop.algorithms.track import Track
from hapgop.tile import Affine, Buffer, Builder

Counts = tuple[int, ...]

_PART = 16  # input channels that a work item packs


@dataclass(frozen=True, slots=True)
class Packing:
    """The packed form for one gather.

    oc, ic   of one group, as the gather sees them
    rows, cols   the gather's tracks, which say in what order taps are met
    strides, swap   of the weights as they lie; swap exchanges their two channel axes
    bundle   groups side by side in a block, each with oc / bundle of its channels
    raw      read the weights where they lie: output channels are neighbours there, and few tiles will read them
    """

    groups: int
    oc: int
    ic: int
    rows: Track
    cols: Track
    strides: Strides
    swap: bool
    lanes: int
    vectors: int
    raw: bool = False
    bundle: int = 1

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    @property
    def blocks(self) -> int:
        """Full blocks."""
        return self.oc // self.width

    @property
    def tail(self) -> Counts:
        """Lanes used by each vector of the narrower block; empty where there is none."""
        return vector_counts(self.oc % self.width, self.lanes)

    @property
    def depth(self) -> int:
        """Elements of one output channel."""
        return self.rows.taps * self.cols.taps * self.ic

    @property
    def out_stride(self) -> int:
        """From one output channel to the next, as the weights lie."""
        return self.strides.c if self.swap else self.strides.n

    @property
    def in_stride(self) -> int:
        return self.strides.n if self.swap else self.strides.c

    @property
    def group_size(self) -> int:
        return (self.blocks * self.width + len(self.tail) * self.lanes) * self.depth

    @property
    def size(self) -> int:
        """Elements of the packed weights."""
        return 0 if self.raw else self.groups * self.group_size

    @property
    def key(self) -> str:
        """Names the layout: what an image's size does not change."""
        taps = [(track.taps, track.tap_first, track.tap_step) for track in (self.rows, self.cols)]
        sizes = (self.groups, self.bundle, self.oc, self.ic, self.lanes, self.vectors)
        return f"{sizes} {taps} {self.strides} {self.swap}"

    @property
    def items(self) -> int:
        """Work items of the wider stage that packs."""
        return self.groups * max(self.blocks, 1) * max(self.rows.taps, self.parts)

    def steps(self, counts: Counts) -> tuple[int, int, int]:
        """Elements from one tap row, tap column, input channel to the next, in a block of these vectors."""
        if self.raw:
            rows, cols = self.rows.tap_step * self.strides.h, self.cols.tap_step * self.strides.w
            return rows, cols, self.in_stride
        width = len(counts) * self.lanes
        return self.cols.taps * self.ic * width, self.ic * width, width

    def start(self, group: Affine, block: Affine | int) -> Affine:
        """Where a block's first tap is; the narrower block is number `blocks`."""
        if self.raw:
            first = self.rows.tap_first * self.strides.h + self.cols.tap_first * self.strides.w
            return self.original(group, block) + first
        return group * self.group_size + Affine.of(block) * (self.width * self.depth)

    def original(self, group: Affine, block: Affine | int) -> Affine:
        """Where a block's first channel is in the weights as they lie."""
        # The tensor's first axis runs over all groups: it is the gather's input where they are swapped.
        group_stride = self.strides.n * (self.ic * self.bundle if self.swap else self.oc)
        return group * group_stride + Affine.of(block) * (self.width * self.out_stride)

    def emit(self, k: Builder, label: str, w: Buffer, packed: Buffer, first: int) -> None:
        """The stages that pack, from element `first` on."""
        if not self.size:
            return
        full = (self.lanes,) * self.vectors
        for name, blocks, counts, before in (
            (f"pack {label}", self.blocks, full, 0),
            (f"pack {label} tail", 1 if self.tail else 0, self.tail, self.blocks),
        ):
            if not blocks:
                continue
            if self.filter > 1 and self.bundle == 1:
                with k.stage(name, ("group", self.groups), ("block", blocks), ("part", self.parts)) as (g, b, part):
                    at, to = self.original(g, b + before), self.start(g, b + before) + first
                    (self.emit_turned if self.swap else self.emit_runs)(k, w, packed, at, to, counts, part)
                continue
            grid = (("group", self.groups), ("block", blocks), ("tap", self.rows.taps))
            row_step, col_step, step = self.steps(counts)
            with k.stage(name, *grid) as (g, b, t), k.loop("column", 0, self.cols.taps) as u:
                row = (self.rows.tap_first + t * self.rows.tap_step) * self.strides.h
                column = (self.cols.tap_first + u * self.cols.tap_step) * self.strides.w
                at = self.original(g, b + before) + row + column
                to = self.start(g, b + before) + t * row_step + u * col_step + first
                self.emit_tap(k, w, packed, at, to, counts, step)

    @property
    def filter(self) -> int:
        """Weights that lie side by side for a pair of channels; 1 where channels are neighbours."""
        return self.strides.c

    @property
    def parts(self) -> int:
        """Into how many parts of some input channels a block is cut."""
        return ceil(self.ic / _PART)

    def emit_runs(
        self, k: Builder, w: Buffer, packed: Buffer, at: Affine, to: Affine, counts: Counts, part: Affine
    ) -> None:
        """Input channels and taps are one contiguous axis: squares of it and of output channels are turned."""
        taps, lanes, (_, tap_step, step) = self.filter, self.lanes, self.steps(counts)
        whole, rest = divmod(self.ic * taps, lanes)

        def square(first: Affine, length: int) -> None:
            for v, count in enumerate(counts):
                rows = [k.load(w, at + (v * lanes + o) * self.out_stride + first, length) for o in range(count)]
                for i, column in enumerate(k.transpose(rows)[:length]):
                    channel = (first + i) // taps
                    place = to + (first + i - channel * taps) * tap_step + channel * step
                    k.store(column, packed, place + v * lanes)

        # A part is as many squares as vectors of input channels have taps.
        squares = ceil(_PART * taps / lanes)
        with k.loop("square", part * squares, [part * squares + squares, whole]) as q:
            square(q * lanes, lanes)
        if rest:
            with k.loop("rest", [0, self.parts - 1 - part], 1):
                square(Affine(whole * lanes), rest)

    def emit_turned(
        self, k: Builder, w: Buffer, packed: Buffer, at: Affine, to: Affine, counts: Counts, part: Affine
    ) -> None:
        """Output channels and taps are one contiguous axis: squares of the two are turned."""
        taps, lanes, (row_step, col_step, step) = self.filter, self.lanes, self.steps(counts)
        places = {
            row * self.strides.h + column: t * row_step + u * col_step
            for t, row in enumerate(_positions(self.rows))
            for u, column in enumerate(_positions(self.cols))
        }
        with k.loop("ic", part * _PART, [part * _PART + _PART, self.ic]) as c:
            for v, count in enumerate(counts):
                for first in range(0, taps, lanes):
                    wanted = [i for i in range(min(lanes, taps - first)) if first + i in places]
                    if not wanted:
                        continue
                    start = at + c * self.in_stride + v * lanes * taps + first
                    columns = k.transpose([k.load(w, start + o * taps, wanted[-1] + 1) for o in range(count)])
                    for i in wanted:
                        k.store(columns[i], packed, to + c * step + places[first + i] + v * lanes)

    def emit_tap(
        self, k: Builder, w: Buffer, packed: Buffer, at: Affine, to: Affine, counts: Counts, step: int
    ) -> None:
        """All input channels of one tap."""
        if self.in_stride == 1 and self.out_stride > 1 and not (self.swap and self.bundle > 1):
            # Input channels are neighbours: squares of lanes x lanes are loaded by rows and stored by columns.
            done = self.ic - self.ic % self.lanes
            with k.loop("square", 0, done, self.lanes) as c:
                self.emit_square(k, w, packed, at + c, to + c * step, counts, step, self.lanes)
            if done < self.ic:
                self.emit_square(k, w, packed, at + done, to + done * step, counts, step, self.ic - done)
            return
        if self.swap and self.bundle > 1:
            # The outputs of one group are neighbours, those of the next lie under other input channels.
            run = self.oc // self.bundle
            with k.loop("ic", 0, self.ic) as c:
                for b in range(self.bundle):
                    place = at + (c + b * self.ic) * self.in_stride
                    k.store(k.load(w, place, run, self.out_stride), packed, to + c * step + b * run, run)
                rest = self.lanes - self.oc
                if rest:
                    k.store(k.const(0.0), packed, to + c * step + self.oc, rest)
            return
        with k.loop("ic", 0, self.ic) as c:
            for v, count in enumerate(counts):
                place = at + c * self.in_stride + v * self.lanes * self.out_stride
                k.store(k.load(w, place, count, self.out_stride), packed, to + c * step + v * self.lanes)

    def emit_square(
        self, k: Builder, w: Buffer, packed: Buffer, at: Affine, to: Affine, counts: Counts, step: int, ic: int
    ) -> None:
        for v, count in enumerate(counts):
            first = v * self.lanes
            rows = [k.load(w, at + (first + i) * self.out_stride, ic) for i in range(count)]
            for c, column in enumerate(k.transpose(rows)[:ic]):
                k.store(column, packed, to + c * step + first)


def _positions(track: Track) -> list[int]:
    """Where the taps lie in the filter."""
    return [track.tap_first + t * track.tap_step for t in range(track.taps)]
