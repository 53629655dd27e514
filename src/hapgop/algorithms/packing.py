"""Weights as the direct kernels read them: [group][block of output channels][tap row][tap column][ic][lanes].

A block is `width` output channels, whole vectors; what is left over becomes one narrower block, padded with zeros.
The roles of input and output are those of the gather: for an input gradient they are exchanged.
"""

from __future__ import annotations

from dataclasses import dataclass

from hapgop.algorithms.layout import Strides, vector_counts
from hapgop.algorithms.track import Track
from hapgop.tile import Affine, Buffer, Builder


@dataclass(frozen=True, slots=True)
class Packing:
    """The packed form for one gather: `oc`, `ic` of one group, as the gather sees them."""

    groups: int
    oc: int
    ic: int
    tap_rows: int
    tap_cols: int
    lanes: int
    vectors: int

    @property
    def width(self) -> int:
        return self.vectors * self.lanes

    @property
    def blocks(self) -> int:
        """Full blocks."""
        return self.oc // self.width

    @property
    def tail(self) -> tuple[int, ...]:
        """Lanes used by each vector of the narrower block; empty where there is none."""
        return vector_counts(self.oc % self.width, self.lanes)

    @property
    def depth(self) -> int:
        """Elements of one output channel."""
        return self.tap_rows * self.tap_cols * self.ic

    @property
    def group_size(self) -> int:
        return (self.blocks * self.width + len(self.tail) * self.lanes) * self.depth

    @property
    def size(self) -> int:
        return self.groups * self.group_size

    def block(self, group: Affine, block: Affine | int) -> Affine:
        """Where a block starts; the narrower one is number `blocks`."""
        return group * self.group_size + Affine.of(block) * (self.width * self.depth)

    def emit(
        self, k: Builder, label: str, w: Buffer, packed: Buffer, strides: Strides, swap: bool, rows: Track, cols: Track
    ) -> None:
        """The stage(s) that pack. `strides` are the weight's own; `swap` exchanges its two channel axes."""
        if not self.depth:
            return
        out_stride, in_stride = (strides.c, strides.n) if swap else (strides.n, strides.c)
        # With groups, the tensor's first axis runs over all of them: oc of the layer, the gather's input if swapped.
        group_stride = strides.n * (self.ic if swap else self.oc)
        full = (self.lanes,) * self.vectors
        for name, blocks, counts, first in (
            (f"pack {label}", self.blocks, full, 0),
            (f"pack {label} tail", 1 if self.tail else 0, self.tail, self.blocks),
        ):
            if not blocks:
                continue
            width = len(counts) * self.lanes
            grid = (("group", self.groups), ("block", blocks), ("tap", self.tap_rows))
            with k.stage(name, *grid) as (g, b, t):
                row = rows.tap_first + t * rows.tap_step
                to = self.block(g, b + first) + t * (self.tap_cols * self.ic * width)
                with k.loop("column", 0, self.tap_cols) as u, k.loop("ic", 0, self.ic) as c:
                    column = cols.tap_first + u * cols.tap_step
                    at = g * group_stride + (b + first) * (self.width * out_stride)
                    at += row * strides.h + column * strides.w + c * in_stride
                    for v, count in enumerate(counts):
                        value = k.load(w, at + v * self.lanes * out_stride, count, out_stride)
                        k.store(value, packed, to + (u * self.ic + c) * width + v * self.lanes)
