"""Fair timing: the sides take turns, each for long enough to be measured, and are compared turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import median
from time import perf_counter

_TURN = 2e-3  # seconds of one side's turn: long against the clock, short against the machine's moods


def interleave(sides: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds a call of each side, one number for each of `repeats` rounds, in which the sides follow one another.

    Every round starts with another side, so that none always inherits the same state of the caches.
    """
    loops = {name: _calls_per_turn(call) for name, call in sides.items()}
    order = list(sides)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for round_ in range(repeats):
        shift = round_ % len(order)
        for name in order[shift:] + order[:shift]:
            call, count = sides[name], loops[name]
            call()  # what another side left in the caches is not this side's fault
            start = perf_counter()
            for _ in range(count):
                call()
            times[name].append((perf_counter() - start) / count)
    return times


def _calls_per_turn(call: Callable[[], object]) -> int:
    call()
    start = perf_counter()
    call()
    return max(1, min(1000, int(_TURN / max(perf_counter() - start, 1e-7))))


def paired(ours: list[float], theirs: list[float]) -> tuple[float, float]:
    """(median of the ratios theirs / ours round by round, ratio of the best rounds): above 1, ours is faster."""
    return median(t / o for o, t in zip(ours, theirs, strict=True)), min(theirs) / min(ours)
