"""A row of channels in the tile language: its vectors, the last of which may be short, and what all lanes come to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, inf

from hapgop.tile import Affine, Buffer, Builder, Register

_UNROLLED = 8  # vectors up to which a row is written out


@dataclass(frozen=True, slots=True)
class Row:
    """So many channels, in vectors of so many lanes."""

    channels: int
    lanes: int

    @property
    def size(self) -> int:
        """Elements of a row of whole vectors."""
        return ceil(self.channels / self.lanes) * self.lanes

    @property
    def private(self) -> int:
        """Elements of a buffer for one row, and behind it the mark of its last vector."""
        return self.size + self.lanes

    def visit(self, k: Builder, visit: Callable[[Affine, int], None]) -> None:
        """Calls it with the first channel of each vector, and how many it has."""
        whole = self.channels // self.lanes * self.lanes
        if whole > _UNROLLED * self.lanes:
            with k.loop("channel", 0, whole, self.lanes) as i:
                visit(i, self.lanes)
        else:
            for start in range(0, whole, self.lanes):
                visit(Affine(start), self.lanes)
        if whole < self.channels:
            visit(Affine(whole), self.channels - whole)

    def mark(self, k: Builder, own: Buffer) -> None:
        """Behind the row: ones where the last vector has channels."""
        rest = self.channels % self.lanes
        if rest:
            k.store(k.const(0.0), own, self.size)
            k.store(k.const(1.0), own, self.size, rest)

    def marked(self, k: Builder, own: Buffer, value: Register, count: int) -> Register:
        """A vector with zeros where there are no channels."""
        if count == self.lanes:
            return value
        return k.select("above", k.load(own, self.size), k.const(0.5), value, k.const(0.0))

    def largest(self, k: Builder, load: Callable[[Affine, int], Register]) -> Register:
        """The largest of a row that is loaded so, in every lane."""
        found = k.const(-inf)

        def look(i: Affine, count: int) -> None:
            value = load(i, count)
            if count < self.lanes:
                value = k.permute(value, [*range(count), *[0] * (self.lanes - count)])
            k.max(found, value, into=found)

        self.visit(k, look)
        return self.across(k, found, k.max)

    def across(self, k: Builder, value: Register, combine: Callable[[Register, Register], Register]) -> Register:
        """All lanes together, in every lane."""
        shift = self.lanes // 2
        while shift:
            value = combine(value, k.permute(value, [i ^ shift for i in range(self.lanes)]))
            shift //= 2
        return value
