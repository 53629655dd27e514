"""Fair timing: the sides take turns, each for long enough to be measured, and are compared turn by turn."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median, quantiles
from time import perf_counter, sleep
from types import MappingProxyType

from hapgop import engine

_TURN = 2e-3  # seconds of one side's turn: long against the clock, short against the machine's moods
_PAUSE = 2e-3  # between turns: threads of some libraries look for work so long after a call
_SHORT = 20e-3  # calls shorter than this feel which side ran before them
LEAST_ROUNDS = 5  # however long they take
SECONDS = 1.5  # of all further rounds of a row
CALM = 0.15  # a row whose ratios spread more is measured again
_TRIAL = 3  # rounds in which all sides take part


def measures_anew() -> None:
    """What follows may measure its choices of algorithms for as long as a process of its own."""
    engine.set_tuning(engine.get_tuning())


def interleave(
    sides: Mapping[str, Callable[[], object]],
    repeats: int,
    *,
    seconds: float = SECONDS,
    contenders: Callable[[Mapping[str, float]], Iterable[str]] = list,
    clocks: Mapping[str, Callable[[], float]] = MappingProxyType({}),
) -> dict[str, list[float]]:
    """Seconds a call of each side, one number for each round, in which the sides follow one another.

    Every round starts with another side, so that none always inherits the same state of the machine. There are
    `repeats` rounds, or as many as fit into `seconds`, but five (or `repeats`, where that is less). After three,
    `contenders` gets each side's median and says who goes on. `clocks` are of sides that compute elsewhere: the seconds
    that went by there, so that the way to them is not theirs.
    """
    first = {name: _duration(call) for name, call in sides.items()}
    order = list(sides)
    times: dict[str, list[float]] = {name: [] for name in sides}
    start = perf_counter()
    for round_ in range(repeats):
        if round_ >= LEAST_ROUNDS and perf_counter() - start > seconds:
            break
        if round_ == _TRIAL:
            going_on = set(contenders({name: median(times[name]) for name in order}))
            order = [name for name in order if name in going_on]
        shift = round_ % len(order)
        for name in order[shift:] + order[:shift]:
            times[name].append(_turn(sides[name], first[name], clocks.get(name, perf_counter)))
    return times


def _turn(call: Callable[[], object], duration: float, clock: Callable[[], float]) -> float:
    count = max(1, min(1000, int(_TURN / duration)))
    if duration < _SHORT:
        sleep(_PAUSE)
        # What another side left in the caches is not this side's fault, nor that its own threads have gone to sleep.
        for _ in range(1 + count // 8):
            call()
    start = clock()
    for _ in range(count):
        call()
    return (clock() - start) / count


def _duration(call: Callable[[], object]) -> float:
    call()
    start = perf_counter()
    call()
    return max(perf_counter() - start, 1e-7)


def paired(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """(median of the ratios theirs / ours round by round, ratio of the best rounds): above 1, ours is faster."""
    return median(t / o for o, t in zip(ours, theirs, strict=True)), min(theirs) / min(ours)


def spread(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """How much the ratios of the rounds differ: the middle half of them over their median."""
    if len(ours) < 2:
        return 0.0
    ratios = [t / o for o, t in zip(ours, theirs, strict=True)]
    low, middle, high = quantiles(ratios, n=4, method="inclusive")
    return (high - low) / middle
