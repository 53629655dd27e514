"""Weights as the direct kernels read them: [group][block of output channels][tap row][tap column][ic][lanes].

A block is `width` output channels, whole vectors; what is left over becomes one narrower block, padded with zeros.
The roles of input and output are those of the gather: for an input gradient they are exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from hapgop.algorithms.layout import Strides, vector_counts
from hapgop.algorithms.track import Track
from hapgop.tile import Affine, Buffer, Builder

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Packing:
    """The packed form for one gather.

    oc, ic   of one group, as the gather sees them
    rows, cols   the gather's tracks, which say in what order taps are met
    strides, swap   of the weights as they lie; swap exchanges their two channel axes
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
        return f"{self.groups} {self.oc} {self.ic} {taps} {self.strides} {self.swap} {self.lanes} {self.vectors}"

    @property
    def items(self) -> int:
        """Work items of the wider stage that packs."""
        return self.groups * max(self.blocks, 1) * self.rows.taps

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
        group_stride = self.strides.n * (self.ic if self.swap else self.oc)
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
            grid = (("group", self.groups), ("block", blocks), ("tap", self.rows.taps))
            row_step, col_step, step = self.steps(counts)
            with k.stage(name, *grid) as (g, b, t), k.loop("column", 0, self.cols.taps) as u:
                row = (self.rows.tap_first + t * self.rows.tap_step) * self.strides.h
                column = (self.cols.tap_first + u * self.cols.tap_step) * self.strides.w
                at = self.original(g, b + before) + row + column
                to = self.start(g, b + before) + t * row_step + u * col_step + first
                self.emit_tap(k, w, packed, at, to, counts, step)

    def emit_tap(
        self, k: Builder, w: Buffer, packed: Buffer, at: Affine, to: Affine, counts: Counts, step: int
    ) -> None:
        """All input channels of one tap."""
        if self.in_stride == 1 and self.out_stride > 1:
            # Input channels are neighbours: squares of lanes x lanes are loaded by rows and stored by columns.
            done = self.ic - self.ic % self.lanes
            with k.loop("square", 0, done, self.lanes) as c:
                self.emit_square(k, w, packed, at + c, to + c * step, counts, step, self.lanes)
            if done < self.ic:
                self.emit_square(k, w, packed, at + done, to + done * step, counts, step, self.ic - done)
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
