"""Memory for a call's intermediate results, reused from call to call."""

from __future__ import annotations

import threading

from hapgop.engine.memory import Block

_LEAST = 1 << 16  # bytes
_LARGE = 8 << 20
# A large block of which less than half was used so many times in a row is too large.
_PATIENCE = 1000

_renewals = 0


class _Arena(threading.local):
    """One block for each Python thread: calls of one thread never overlap."""

    def __init__(self) -> None:
        self.block = Block(_LEAST)
        self.renewals = _renewals
        self.small = self.most = 0

    def renew(self, size: int) -> Block:
        self.small = self.most = 0
        self.renewals = _renewals
        self.block = Block(max(size, _LEAST))
        return self.block

    def watch(self, size: int) -> Block:
        """Gives a large block back where smaller ones have done for long."""
        if size * 2 > self.block.size:
            self.small = self.most = 0
            return self.block
        self.small += 1
        self.most = max(self.most, size)
        return self.renew(self.most) if self.small >= _PATIENCE else self.block


_arena = _Arena()


def scratch(size: int) -> Block:
    """A block of at least so many bytes, for one call; the next call of this thread may get the same one."""
    arena = _arena
    block = arena.block
    if block.size < size or arena.renewals != _renewals:
        return arena.renew(size)
    return arena.watch(size) if block.size > _LARGE else block


def release_scratch() -> None:
    """Gives this thread's block back; every other thread does with its own when it calls next."""
    global _renewals
    _renewals += 1
    _arena.renew(0)
