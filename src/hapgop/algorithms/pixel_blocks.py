"""Channels-last maps, pixel by pixel, in blocks: what batch norm and its like share.

A block is so many pixels that it stays in the first cache for a second look. Blocks depend on the shape alone, so the
order of sums does, and the bits are the same for any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

from hapgop.algorithms import costs
from hapgop.algorithms.layout import vector_counts
from hapgop.machine import Machine
from hapgop.tile import Affine, Buffer, Builder, Register

_ELEMENTS = 8192  # of a block
_CHAINS = 8  # vectors added side by side, lest each wait for the one before; half as many in 16 registers

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class PixelBlocks:
    """`pixels` of `c` channels each make a block; at most `vectors` are worked on at a time, in `chains` sums."""

    c: int
    lanes: int
    vectors: int
    pixels: int
    chains: int

    @classmethod
    def of(cls, c: int, dtype: str, machine: Machine) -> PixelBlocks:
        lanes = machine.lanes(dtype)
        # Batch norm's backward has up to six constants or sums for each vector, and some registers for one vector.
        vectors = min(max(2, (machine.registers - 8) // 6), ceil(c / lanes))
        pixels = max(_CHAINS, _ELEMENTS // c // _CHAINS * _CHAINS)
        return cls(c, lanes, vectors, pixels, _CHAINS if machine.registers >= 32 else _CHAINS // 2)

    @property
    def padded(self) -> int:
        """Channels rounded up to whole vectors."""
        return ceil(self.c / self.lanes) * self.lanes

    def lines(self, itemsize: int) -> bool:
        """Whether whole lines are written at a time: only those may go past the caches."""
        width = self.vectors * self.lanes
        return self.c <= width or (width * itemsize % costs.LINE == 0 and self.c * itemsize % costs.LINE == 0)

    def count(self, pixels: int) -> int:
        """Blocks of so many pixels."""
        return ceil(pixels / self.pixels)

    def number(self, n: Affine) -> Affine:
        """The same, of a number known when called."""
        return (n + (self.pixels - 1)) // self.pixels

    def channels(self, k: Builder, visit: Callable[[Affine, Counts], None]) -> None:
        """Visits all channels, some vectors at a time: (first channel, lanes used of each vector)."""
        width = self.vectors * self.lanes
        whole = self.c // width
        if whole:
            with k.loop("channels", 0, whole) as block:
                visit(block * width, (self.lanes,) * self.vectors)
        if self.c % width:
            visit(Affine(whole * width), vector_counts(self.c % width, self.lanes))

    def vectors_of(self, k: Builder, label: str, visit: Callable[[Affine, int], None]) -> None:
        """A stage for each vector of channels: (first channel, lanes used)."""
        whole, rest = divmod(self.c, self.lanes)
        if whole:
            with k.stage(label, ("vector", whole)) as (vector,):
                visit(vector * self.lanes, self.lanes)
        if rest:
            with k.stage(f"{label} {rest}", ("vector", 1)) as (_,):
                visit(Affine(whole * self.lanes), rest)

    def each_pixel(
        self, k: Builder, n: Affine, block: Affine, many: int, visit: Callable[[Sequence[Affine]], None]
    ) -> None:
        """Visits a block's pixels, `many` at a time (it divides the block), then those left over one by one."""
        first, steps = block * self.pixels, self.pixels // many
        with k.loop("step", block * steps, [block * steps + steps, n // many]) as step:
            visit([step * many + i for i in range(many)])
        if many > 1:
            with k.loop("left", [first, n // many * many], [first + self.pixels, n]) as pixel:
                visit([pixel])

    def side_by_side(self, counts: Counts) -> int:
        """Pixels at a time for which each vector has a sum of its own: a power of two, for it has to divide a block."""
        return 1 << (max(1, self.chains // len(counts)).bit_length() - 1)

    def size(self, k: Builder, n: Affine, block: Affine) -> Register:
        """The pixels of a block, as a number: fewer in the last."""
        left, full = k.from_index(n - block * self.pixels), k.const(float(self.pixels))
        return k.select("above", left, full, full, left)

    def load(self, k: Builder, buffer: Buffer, pixel: Affine, channel: Affine, counts: Counts) -> list[Register]:
        """The vectors of a pixel."""
        return load(k, buffer, pixel * self.c + channel, counts, self.lanes)


def load(k: Builder, buffer: Buffer, at: Affine, counts: Counts, lanes: int) -> list[Register]:
    """Vectors that follow one another."""
    return [k.load(buffer, at + v * lanes, count) for v, count in enumerate(counts)]


def store(k: Builder, values: Sequence[Register], buffer: Buffer, at: Affine, counts: Counts, lanes: int) -> None:
    """Vectors that follow one another."""
    for v, (value, count) in enumerate(zip(values, counts, strict=True)):
        k.store(value, buffer, at + v * lanes, count)


def sum_of(k: Builder, sums: Sequence[Register]) -> Register:
    """The sum of a power of two of sums, in pairs."""
    while len(sums) > 1:
        sums = [k.add(a, b) for a, b in zip(sums[::2], sums[1::2], strict=True)]
    return sums[0]
