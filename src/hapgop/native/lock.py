"""A lock that neither a fork nor a signal leaves shut."""

from __future__ import annotations

import contextlib
import os
import threading
from types import TracebackType
from typing import Final
from weakref import WeakSet


class Lock:
    """One thread at a time, and that one once: where a thread would wait for itself, it is told so instead.

    It would wait for itself in a signal's handler, which Python runs in the midst of what the main thread does. In a
    forked child every lock is open: who held one in the parent is not there.
    """

    def __init__(self) -> None:
        self._lock, self._held = threading.RLock(), False
        _every.add(self)

    def mine(self) -> bool:
        """Whether this thread is within already."""
        if not self._lock.acquire(blocking=False):
            return False  # another one is
        held = self._held
        self._lock.release()
        return held

    def __enter__(self) -> None:
        self._lock.acquire()
        if self._held:
            self._lock.release()
            raise RuntimeError(
                "a signal's handler asked for what hapgop was in the midst of when the signal came; "
                "what would work: a handler that sets a flag, which the program looks at"
            )
        self._held = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._held = False
        with contextlib.suppress(RuntimeError):  # a child that was forked in here: there it is open already
            self._lock.release()

    def renew(self) -> None:
        """In a forked child."""
        self._lock, self._held = threading.RLock(), False


_every: Final[WeakSet[Lock]] = WeakSet()


def _after_fork() -> None:
    for lock in _every:
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
