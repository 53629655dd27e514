"""How many threads a call gets."""

from hapgop.errors import InputError
from hapgop.machine import host
from hapgop.native import use_openmp

__all__ = ["get_threads", "set_threads", "team_size", "use_openmp"]

# A thread that is woken for less than this many seconds of work costs more than it brings.
_WORTH = 4e-6

_threads: int | None = None


def set_threads(threads: int | None) -> None:
    """Sets the most threads that a call uses; None means as many as there are cores. Raises InputError below 1."""
    global _threads
    if threads is not None and threads < 1:
        raise InputError(f"threads is {threads}; it has to be 1 or more, or None for one a core")
    _threads = threads


def get_threads() -> int:
    """The most threads that a call uses."""
    return _threads or host().cores


def team_size(seconds: float, items: int, threads: int | None) -> int:
    """Threads for a call of so many seconds on one core, in so many independent items."""
    most = threads or _threads or host().cores
    return max(1, min(most, items, int(seconds / _WORTH)))
