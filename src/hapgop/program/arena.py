"""Where values lie in one block of memory: those that are never needed at the same time may share a place."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

ALIGN = 64  # bytes of a cache line

_Name = TypeVar("_Name", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Life:
    """A value of so many bytes that the steps `first` to `last` make and read."""

    size: int
    first: int
    last: int


def first_fit(lives: Mapping[_Name, Life]) -> tuple[dict[_Name, int], int]:
    """(where each value starts, the bytes of all): the largest first, each in the first gap that is free as long.

    >>> first_fit({"a": Life(64, 0, 1), "b": Life(64, 1, 2), "c": Life(64, 2, 3)})
    ({'a': 0, 'b': 64, 'c': 0}, 128)
    """
    placed: list[tuple[int, int, Life]] = []
    starts: dict[_Name, int] = {}
    for name, life in sorted(lives.items(), key=lambda item: -item[1].size):
        size = -(-life.size // ALIGN) * ALIGN
        start = 0
        for low, high, other in sorted(placed, key=lambda place: place[0]):
            if other.last < life.first or life.last < other.first:
                continue
            if start + size <= low:
                break
            start = max(start, high)
        placed.append((start, start + size, life))
        starts[name] = start
    return starts, max((high for _, high, _ in placed), default=0)
