"""How the outputs of an image are shared out: groups of rows times groups of blocks of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from hapgop.algorithms import costs
from hapgop.machine import Machine
from hapgop.tile import Affine, Builder

# What is done for (image, group, row, block of channels); the narrower last block is told apart.
Body = Callable[[Affine, Affine, Affine, Affine, bool], None]


_ITEMS = 4  # for each core: more would only be more to begin and end


def many(batch: int, machine: Machine) -> int:
    """The batch, as far as it matters to the sharing out: that many images are shared out evenly as they are."""
    return min(batch, _ITEMS * machine.cores)


@dataclass(frozen=True, slots=True)
class Work:
    """What is shared out: `images` times `groups` times rows times blocks of channels.

    tail     one more block, narrower than the others
    source   bytes of what all rows of one image and group read
    weights  bytes of one group's weights
    seconds  of one image and group, on one core
    """

    images: int
    groups: int
    rows: int
    blocks: int
    tail: bool
    source: int
    weights: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Shares:
    """How it is shared out."""

    groups: int
    rows: int
    blocks: int
    tail: bool
    rows_per_group: int
    blocks_per_group: int

    @classmethod
    def of(cls, work: Work, machine: Machine) -> Shares:
        """The fastest: threads with equal shares, and little that is read twice.

        Every group of rows reads all weights, and every group of blocks reads all rows, no more of them at a time than
        stay in half of the second cache until the next block needs them.
        """
        rows, full = work.rows, max(work.blocks, 1)
        least = max(1, min(rows, ceil(work.source / (machine.l2 // 2))))
        most = max(least, ceil(_ITEMS * machine.cores / max(work.images * work.groups, 1)))
        best: tuple[float, int, int] | None = None
        for row_groups in _groupings(rows, least, most):
            for block_groups in _groupings(full, 1, ceil(most / row_groups)):
                moved = (work.weights * row_groups + work.source * block_groups) / costs.CACHED
                uneven = _unevenness(work, ceil(rows / row_groups), ceil(full / block_groups), machine.cores)
                choice = work.seconds * uneven + moved, row_groups, block_groups
                best = choice if best is None else min(best, choice)
        assert best is not None
        _, row_groups, block_groups = best
        return cls(work.groups, rows, work.blocks, work.tail, ceil(rows / row_groups), ceil(full / block_groups))

    @property
    def items(self) -> int:
        return self.groups * self.row_groups * self.block_groups

    @property
    def row_groups(self) -> int:
        return ceil(self.rows / self.rows_per_group)

    @property
    def block_groups(self) -> int:
        return ceil(max(self.blocks, 1) / self.blocks_per_group)

    def emit(
        self, k: Builder, label: str, n: Affine, bodies: Sequence[tuple[int, int, Body]], rows_first: bool = False
    ) -> None:
        """The stage; a block's weights stay in the cache while the rows stream by.

        bodies: (first row, rows, what is done for one of them, by its number among them); one after the other, since
        they read the same inputs or the same weights.
        rows_first: all blocks of a row, then the next row.
        """
        grid = (("image", n), ("group", self.groups), ("rows", self.row_groups), ("blocks", self.block_groups))
        with k.stage(label, *grid) as (image, group, rows, blocks):

            def each_row(do: Callable[[Body, Affine], None]) -> None:
                low, per_group = rows * self.rows_per_group, self.rows_per_group
                for first, count, body in bodies:
                    begin = [low, Affine(first)] if first else low
                    with k.loop("row", begin, [low + per_group, first + count]) as row:
                        do(body, row - first)

            def each_block(do: Callable[[Affine, bool], None]) -> None:
                first, per_group = blocks * self.blocks_per_group, self.blocks_per_group
                if self.blocks:
                    with k.loop("block", first, [first + per_group, self.blocks]) as block:
                        do(block, False)
                if self.tail:
                    # The narrower block is the last item's: a loop that runs once there and not at all elsewhere.
                    with k.loop("tail", [0, self.block_groups - 1 - blocks], 1):
                        do(Affine(self.blocks), True)

            if rows_first:
                each_row(lambda body, row: each_block(lambda block, tail: body(image, group, row, block, tail)))
            else:
                each_block(lambda block, tail: each_row(lambda body, row: body(image, group, row, block, tail)))


def _groupings(total: int, low: int, high: int) -> list[int]:
    """Numbers of groups, from `low` to `high`, that a total can be cut into."""
    return sorted({ceil(total / ceil(total / g)) for g in range(min(low, total), min(high, total) + 1)})


def _unevenness(work: Work, rows: int, blocks: int, cores: int) -> float:
    """The largest share of a thread over the average one, in groups of so many rows and blocks; of 2 or all cores."""
    by_rows = [min(rows, work.rows - first) for first in range(0, work.rows, rows)]
    by_blocks = [float(min(blocks, work.blocks - first)) for first in range(0, work.blocks, blocks)] or [0.0]
    by_blocks[-1] += 0.5 * work.tail
    loads = [r * b for r in by_rows for b in by_blocks] * min(work.images * work.groups, 2 * cores)
    worst, total = 1.0, max(sum(loads), 1e-9)
    for threads in {2, cores}:
        cuts = [len(loads) * i // threads for i in range(threads + 1)]
        most = max(sum(loads[low:high]) for low, high in pairwise(cuts))
        worst = max(worst, most * threads / total)
    return worst
