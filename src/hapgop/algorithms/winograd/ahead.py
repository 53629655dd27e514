"""Memory that a thread needs next, fetched while it multiplies.

Transforms wait for memory, and products do not: of 64 channels at 56 x 56 an eighth of the time of a layer was waiting.
The tiles of a block are neighbours, so that what they cover lies together, but for their borders.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.winograd.tiling import Side
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder


@dataclass(frozen=True, slots=True)
class Blocks:
    """How an image's tiles come in blocks.

    tiles  of one image
    block  tiles of a block
    units  register tiles of a block's products; each fetches its share
    """

    tiles: int
    block: int
    units: int
    groups: int
    itemsize: int
    machine: Machine

    def ahead(self, buffer: Buffer, side: Side, block: Affine) -> list[Ahead]:
        """What a block covers; nothing where channels of other groups lie between, or it is more than a cache holds."""
        elements = self.block * ceil(side.height * side.width * side.total / self.tiles)
        if self.groups > 1 or elements * self.itemsize > self.machine.l2:
            return []
        line = costs.LINE // self.itemsize
        return [Ahead(buffer, block * elements, ceil(elements / line / self.units), line)]


@dataclass(frozen=True, slots=True)
class Ahead:
    """A few lines for each register tile, from the element `start` on; a line has `line` elements."""

    buffer: Buffer
    start: Affine
    lines: int
    line: int

    def fetch(self, k: Builder, unit: Affine) -> None:
        """The share of a register tile, by its number."""
        at = self.start + unit * (self.lines * self.line)
        for i in range(self.lines):
            k.prefetch(self.buffer, at + i * self.line)
