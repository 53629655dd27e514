"""Rows of planes as whole vectors can be loaded from: as they lie, or copied with margins and by residues mod stride.

`12345` with one column of padding and stride 2 is copied as two rows, `024.` and `135.` of `0123450`, where 0 stands
for the margin: what tap t of outputs q, q + 1, ... reads lies side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.layout import vector_counts
from hapgop.algorithms.track import Track
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder

_STRIDED = 0.4  # cycles for an element of a strided row


@dataclass(frozen=True, slots=True)
class Margins:
    """channels, height: of an image. row: elements from one of its rows to the next. pitch: of one residue's row.

    residues: those that a tap meets; only they are copied.
    """

    channels: int
    height: int
    width: int
    left: int
    stride: int
    pitch: int
    row: int
    copies: bool
    residues: tuple[int, ...] = (0,)

    @classmethod
    def of(cls, channels: int, height: int, cols: Track) -> Margins:
        left = max(0, -cols.in_first)
        last = (cols.count - 1) * cols.in_step + cols.in_first + max(cols.taps - 1, 0) * cols.in_tap
        whole = left + max(last + 1, cols.in_size)
        copies = left > 0 or last >= cols.in_size or cols.in_step > 1
        pitch = ceil(whole / cols.in_step) if copies else cols.in_size
        met = sorted({(cols.in_first + tap * cols.in_tap + left) % cols.in_step for tap in range(cols.taps)})
        return cls(channels, height, cols.in_size, left, cols.in_step, pitch, pitch * cols.in_step, copies, tuple(met))

    @property
    def size(self) -> int:
        """Elements of an image."""
        return self.channels * self.plane

    @property
    def plane(self) -> int:
        """Elements from one channel to the next."""
        return self.height * self.pitch * self.stride

    def source(self, cols: Track, tap: int) -> int:
        """Where in its row a tap of output 0 reads; that of output q is q elements further."""
        place = cols.in_first + tap * cols.in_tap + self.left
        return place % self.stride * self.pitch + place // self.stride

    def seconds(self, bytes_: int, lanes: int, machine: Machine) -> float:
        """Of the copy, where there is one; `bytes_`: of an element of all images."""
        if not self.copies:
            return 0.0
        size = self.size * len(self.residues) / self.stride
        cycles = size * (_STRIDED if self.stride > 1 else costs.STORE / lanes) * bytes_ * lanes / machine.vector_bytes
        read = self.channels * self.height * self.width
        return cycles / costs.CLOCK + costs.traffic((read + size) * bytes_, machine) + costs.STAGE

    def emit(self, k: Builder, n: Affine, source: Buffer, target: Buffer) -> None:
        """The stage that copies."""
        with k.stage("margins", ("image", n), ("channel", self.channels), ("row", self.height)) as (
            image,
            channel,
            row,
        ):
            at = image * (self.channels * self.height * self.width) + channel * (self.height * self.width)
            to = image * self.size + channel * self.plane + row * self.row
            for residue in self.residues:
                self.emit_residue(k, source, target, at + row * self.width, to + residue * self.pitch, residue)

    def emit_residue(self, k: Builder, source: Buffer, target: Buffer, at: Affine, to: Affine, residue: int) -> None:
        # Element i is column i * stride + residue - left.
        low = min(self.pitch, max(0, ceil((self.left - residue) / self.stride)))
        high = max(low, min(self.pitch, (self.width - 1 + self.left - residue) // self.stride + 1))
        for start, stop in ((0, low), (high, self.pitch)):
            for i, count in enumerate(vector_counts(stop - start, k.lanes)):
                k.store(k.const(0.0), target, to + start + i * k.lanes, count)
        first = at + low * self.stride + residue - self.left
        full = (high - low) // k.lanes * k.lanes
        with k.loop("column", 0, full, k.lanes) as column:
            k.store(k.load(source, first + column * self.stride, k.lanes, self.stride), target, to + low + column)
        if low + full < high:
            count = high - low - full
            k.store(k.load(source, first + full * self.stride, count, self.stride), target, to + low + full, count)
