"""What the forward and the backward pool share: windows, divisors, blocks of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hapgop.algorithms.layout import vector_counts
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.track import Track, column_tracks, row_tracks
from hapgop.machine import Machine
from hapgop.shape import PoolShape
from hapgop.tile import Affine, Buffer, Builder, Register

if TYPE_CHECKING:  # numpy.typing takes a third as long to import as all of NumPy
    from numpy.typing import NDArray

VECTORS = 4  # vectors of channels at a time: enough to hide the latency of a chain of comparisons
UNROLLED = 16  # windows up to this many taps are unrolled where they are inside


@dataclass(frozen=True, slots=True)
class Windows:
    """A pool's windows, and the vectors of channels that go through them."""

    problem: Problem
    machine: Machine

    @property
    def shape(self) -> PoolShape:
        return self.problem.maps

    @property
    def lanes(self) -> int:
        return self.machine.lanes(self.problem.dtype)

    @property
    def counts(self) -> tuple[int, ...]:
        return vector_counts(self.shape.c, self.lanes)

    @property
    def rows(self) -> Track:
        return row_tracks(self.shape)[0]

    @property
    def cols(self) -> Track:
        return column_tracks(self.shape)[0]

    @property
    def tiled(self) -> bool:
        """Windows without overlap or gap: each input belongs to one, or to none at the far edge."""
        s = self.shape
        inside = self.rows.always_inside and self.cols.always_inside
        return s.stride == (s.kh, s.kw) and s.dilation == (1, 1) and inside and not any(s.padding)

    @property
    def by_window(self) -> bool:
        return self.tiled or not self.problem.op.endswith("grad")

    def divisors(self) -> NDArray[np.floating]:
        """The taps that count in an average pool's windows: in those of each row of outputs, then of each column."""
        s, p = self.shape, self.problem

        def along(track: Track, kernel: int, size: int, before: int, after: int) -> list[int]:
            low, high = (-before, size + after) if p.count_include_pad else (0, size)
            places = [[track.source(q, t).const for t in range(kernel)] for q in range(track.count)]
            return [sum(low <= i < high for i in window) for window in places]

        vertical = along(self.rows, s.kh, s.ih, s.padding[0], s.padding[1])
        horizontal = along(self.cols, s.kw, s.iw, s.padding[2], s.padding[3])
        # A window without such a tap has the sum 0, which is to stay 0.
        counts: NDArray[np.floating] = np.maximum(vertical + horizontal, 1).astype(p.dtype)
        return counts

    def divisor(self, k: Builder, divisors: Buffer, oh: Affine, ow: Affine) -> Register:
        """What an output of an average pool is divided by, in every lane."""
        return k.mul(k.broadcast(divisors, oh), k.broadcast(divisors, ow + self.shape.oh))

    def blocks(self, k: Builder, visit: Callable[[Affine, tuple[int, ...]], None]) -> None:
        """Visits all channels: whole blocks in a loop, then the rest."""
        width = VECTORS * self.lanes
        whole = self.shape.c // width
        if whole:
            with k.loop("block", 0, whole) as block:
                visit(block * width, (self.lanes,) * VECTORS)
        if self.shape.c % width:
            visit(Affine(whole * width), vector_counts(self.shape.c % width, self.lanes))

    def lane_offsets(self, counts: tuple[int, ...], stride: int) -> list[tuple[int, int]]:
        """(elements from the block's first channel, lanes used) of each vector."""
        return [(v * self.lanes * stride, count) for v, count in enumerate(counts)]
