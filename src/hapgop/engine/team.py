"""How many threads a call gets."""

import os
from functools import cache

from hapgop.errors import InputError
from hapgop.machine import host
from hapgop.native import use_openmp

__all__ = ["get_threads", "most_threads", "set_threads", "use_openmp"]

# A thread that is woken for less than this many seconds of work costs more than it brings. On two and four cores less
# would do for calls that follow one another at once; but a thread that sleeps costs ten times this to wake.
_WORTH = 10e-6

_threads: int | None = None


def set_threads(threads: int | None) -> None:
    """Sets the most threads that a call uses; None means as many as there are cores. Raises InputError below 1.

    >>> set_threads(1); get_threads()
    1
    >>> set_threads(None)
    """
    global _threads
    if threads is not None and (not hasattr(threads, "__index__") or threads < 1):
        raise InputError(f"threads is {threads!r}; it has to be a whole number, 1 or more, or None for one a core")
    _threads = threads


def get_threads() -> int:
    """The most threads that a call uses: what was set, else $OMP_NUM_THREADS, else one a core."""
    return _threads or _default()


@cache
def _default() -> int:
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, int(wanted)) if wanted.isdecimal() else host().cores


def most_threads(seconds: float, items: int) -> int:
    """The most threads that pay for a call of so many seconds on one core, in so many independent items."""
    return max(1, min(items, int(seconds / _WORTH)))
