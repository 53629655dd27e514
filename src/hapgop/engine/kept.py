"""A cache bounded in bytes."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from hapgop.native import Lock

V = TypeVar("V")


@dataclass(slots=True)
class _Entry(Generic[V]):
    value: V
    size: int
    used: bool = False


class Kept(Generic[V]):
    """Values by key, of at most `most` bytes together, and always the latest one.

    A look-up only marks what it finds, so that it costs no lock; to make room, what was marked is spared once.
    """

    def __init__(self, most: int) -> None:
        self.most, self.size, self.clears = most, 0, 0
        self._entries: dict[Hashable, _Entry[V]] = {}
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> V | None:
        """The value of a key, or None."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        entry.used = True
        return entry.value

    def put(self, key: Hashable, value: V, size: int, since: int | None = None) -> None:
        """Keeps a value of so many bytes.

        since: `clears` before the value was made. Another thread may have cleared meanwhile: then it is out of date.
        """
        if self._lock.mine():  # in a signal's handler: what comes in the midst of this is not kept
            return
        with self._lock:
            if since is not None and since != self.clears:
                return
            self._drop(key)
            self._entries[key] = _Entry(value, size)
            self.size += size
            while self.size > self.most and len(self._entries) > 1:
                first = next(iter(self._entries))
                entry = self._entries[first]
                if entry.used or first == key:
                    entry.used = False
                    del self._entries[first]
                    self._entries[first] = entry
                else:
                    self._drop(first)

    def drop(self, key: Hashable) -> None:
        """Keeps a key's value no longer, if there is one."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Keeps nothing."""
        with self._lock:
            self._entries.clear()
            self.size = 0
            self.clears += 1

    def _drop(self, key: Hashable) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry.size
