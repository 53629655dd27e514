"""How the outputs of an image are shared out: groups of rows times groups of blocks of channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from hapgop.machine import Machine
from hapgop.tile import Affine, Builder

# What is done for (image, group, row, block of channels); the narrower last block is told apart.
Body = Callable[[Affine, Affine, Affine, Affine, bool], None]


def splits(batch: int, machine: Machine) -> int:
    """Into how many items an image is cut: enough for every core to get several, and no finer than that."""
    return max(1, ceil(4 * machine.cores / max(batch, 1)))


@dataclass(frozen=True, slots=True)
class Shares:
    """rows, blocks: of one image and group; `tail`: one more block, narrower than the others."""

    groups: int
    rows: int
    blocks: int
    tail: bool
    splits: int

    @property
    def items(self) -> int:
        return self.groups * self.row_groups * self.block_groups

    @property
    def row_groups(self) -> int:
        return ceil(self.rows / self.rows_per_group)

    @property
    def rows_per_group(self) -> int:
        return ceil(self.rows / min(self.rows, self.splits))

    @property
    def blocks_per_group(self) -> int:
        """Blocks of channels that one item goes through: all, unless there are too few rows to share out."""
        wanted = ceil(self.splits / self.row_groups)
        return ceil(max(self.blocks, 1) / wanted)

    @property
    def block_groups(self) -> int:
        return ceil(max(self.blocks, 1) / self.blocks_per_group)

    def emit(self, k: Builder, label: str, n: Affine, body: Body) -> None:
        """The stage; a block's weights stay in the cache while the rows stream by."""
        grid = (("image", n), ("group", self.groups), ("rows", self.row_groups), ("blocks", self.block_groups))
        with k.stage(label, *grid) as (image, group, rows, blocks):

            def each_row(block: Affine, tail: bool) -> None:
                low, per_group = rows * self.rows_per_group, self.rows_per_group
                with k.loop("row", low, [low + per_group, self.rows]) as row:
                    body(image, group, row, block, tail)

            first, per_group = blocks * self.blocks_per_group, self.blocks_per_group
            if self.blocks:
                with k.loop("block", first, [first + per_group, self.blocks]) as block:
                    each_row(block, False)
            if self.tail:
                # The narrower block is the last item's: a loop that runs once there and not at all elsewhere.
                with k.loop("tail", [0, self.block_groups - 1 - blocks], 1):
                    each_row(Affine(self.blocks), True)
