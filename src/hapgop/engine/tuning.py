"""Measuring where prediction cannot tell: candidates that come close are run once, and the fastest is kept.

A problem is measured when it is prepared, before its first result, and never again: its bits do not change while a
process runs. The choice is one for all numbers of threads, so that they do not depend on those either.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from math import prod
from time import perf_counter
from typing import Any, Final

import numpy as np

from hapgop.algorithms import Problem
from hapgop.algorithms.problem import CONV_OPS
from hapgop.engine.changes import changed
from hapgop.engine.choices import Choices, Times, choices_for
from hapgop.engine.memory import empty
from hapgop.engine.prepared import Prepared
from hapgop.engine.team import get_threads
from hapgop.errors import InputError
from hapgop.machine import host
from hapgop.native import Lock
from hapgop.planning import Plan, Ranking

MODES: Final = ("off", "kept", "close")
_NAMES: Final = {"": "close", "0": "off", "1": "close"}

_CLOSE = 2.0  # times the best prediction: predictions of the rarer shapes are off by as much
_CANDIDATES = 5  # the four fast algorithms of 3x3 filters, and plain sums
_LONGEST = 50e-3  # seconds a call, on all cores: the few runs of a longer one are the work of a whole process
_BYTES = 256 << 20  # of all tensors
_MAKING = 0.05  # seconds, about, for a kernel that only takes part
_BUDGET = 30.0  # seconds that a process measures: the three operations of some hundred layers

_ROUNDS = 5
_TURN = 300e-6  # seconds of a candidate's turn, at least: long against the clock
_HOPELESS = 3.0  # times the fastest: no further rounds
_TOGETHER = 60e-3  # seconds for all rounds of a problem, but two rounds always


class _Here(threading.local):
    kept = False  # whether this thread takes what is kept


_here = _Here()
_mode: str | None = None
_left = _BUDGET
_one = Lock()


def set_tuning(mode: str, seconds: float = _BUDGET) -> None:
    """Sets how algorithms are chosen from now on, in the whole process; what was decided is decided anew.

    "off": by prediction. "kept": by what was measured before, else by prediction. "close" (the default): where
    predictions are close, by measuring once; the result is kept beside the compiled kernels. A process measures for so
    many `seconds` together at most; the next one goes on. The environment variable HAPGOP_TUNE sets the same (also 0
    for "off", 1 for "close"). Raises InputError for anything else.

    With "off" the same machine, with as many cores, gives the same bits everywhere and always; else it does as long as
    its cache is kept.

    >>> set_tuning("off"); get_tuning()
    'off'
    >>> set_tuning("close")
    """
    global _mode, _left
    if mode not in MODES:
        raise InputError(f"tuning is {mode!r}; it has to be 'off', 'kept' or 'close'")
    if not seconds >= 0:
        raise InputError(f"seconds is {seconds!r}; it has to be a number, 0 or more")
    _left = seconds
    if mode != get_tuning():
        _mode = mode
        changed()


def get_tuning() -> str:
    """How algorithms are chosen: "off", "kept" or "close". Raises InputError where HAPGOP_TUNE makes no sense."""
    return _mode or _from_environment()


@cache
def _from_environment() -> str:
    given = os.environ.get("HAPGOP_TUNE", "")
    mode = _NAMES.get(given, given)
    if mode not in MODES:
        raise InputError(f"HAPGOP_TUNE: got {given!r}, wanted off, kept or close, or 0 or 1")
    return mode


def measured(key: str) -> Times | None:
    """What was measured under a key before, by name; of a problem, its `repr` is the key."""
    return None if get_tuning() == "off" else choices().get(key)


def contenders(ranking: Ranking) -> list[Plan]:
    """The plans that should be compared by measuring; none where prediction is enough, or all that there is."""
    near = ranking.close(_CLOSE, _CANDIDATES) if ranking.problem.op in CONV_OPS else ()
    if len(near) < 2 or near[0].shared > _LONGEST or _bytes(ranking.problem) > _BYTES or not may_measure():
        return []
    spend(_MAKING * (len(near) - 1))
    return [Plan(ranking.problem, ranking.machine, c.algorithm, c.recipe, c.seconds, ()) for c in near]


def may_measure() -> bool:
    """Whether this process still measures, and what it finds can be kept."""
    return get_tuning() == "close" and not _here.kept and _left > 0 and choices().writable()


@contextmanager
def unmeasured() -> Iterator[None]:
    """Whatever this thread prepares meanwhile is chosen by what was measured before, else by prediction."""
    before, _here.kept = _here.kept, True
    try:
        yield
    finally:
        _here.kept = before


def spend(seconds: float) -> None:
    """Takes so many seconds from what the process measures."""
    global _left
    _left -= seconds


def between(candidates: Sequence[Prepared]) -> Times | None:
    """Seconds a call of each, by its algorithm's name. None where nothing can be kept."""
    problem = candidates[0].plan.problem
    buffers = _buffers(problem, max(p.packed_size for p in candidates) if problem.packed else 0)
    at = [buffer.ctypes.data for buffer in buffers]
    threads = get_threads()

    def call(prepared: Prepared) -> Callable[[], object]:
        return lambda: prepared(*at, threads=threads)

    return compare(repr(problem), {p.plan.algorithm.name: call(p) for p in candidates})


def compare(key: str, calls: Mapping[str, Callable[[], object]]) -> Times | None:
    """Seconds of each of some calls that do the same: the best of some rounds in turn, or what the first one measured.

    The first of the calls is the one that is expected to be the fastest; where it is not, they are measured once more.
    key: what is compared, in words. None where nothing can be kept.
    """
    if _one.mine():  # in a signal's handler, in the midst of measuring
        return None
    with _one:  # who measures at the same time measures the other
        kept = choices().get(key)
        if kept is not None:
            return kept
        start = perf_counter()
        times = _interleaved(calls)
        spend(perf_counter() - start)
    return choices().put(key, times)


def keep(key: str, times: Times) -> Times | None:
    """Keeps what was measured under a key, and returns what is kept: the first one's. None where nothing can be."""
    return choices().put(key, times)


def _interleaved(calls: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """The first of the calls is the one that is expected to be the fastest."""
    best = {name: _duration(call) for name, call in calls.items()}
    _take_turns(calls, best)
    if best[next(iter(calls))] > min(best.values()):
        # All rounds together take a few milliseconds, and something else may have had a core for as long.
        _take_turns(calls, best)
    return best


def _take_turns(calls: Mapping[str, Callable[[], object]], best: dict[str, float]) -> None:
    """Some rounds, which may lower what is the best so far."""
    start = perf_counter()
    for round_ in range(_ROUNDS):
        if round_ > 1 and perf_counter() - start > _TOGETHER:
            break
        least = min(best.values())
        for name, call in calls.items():
            # One slow call says little: everyone has a round.
            if round_ == 0 or best[name] < _HOPELESS * least:
                best[name] = min(best[name], _turn(call, max(1, round(_TURN / best[name]))))


def _turn(call: Callable[[], object], count: int) -> float:
    start = perf_counter()
    for _ in range(count):
        call()
    return max((perf_counter() - start) / count, 1e-9)


def _duration(call: Callable[[], object]) -> float:
    call()  # scratch memory, and the threads wake
    return min(_turn(call, 1) for _ in range(2))


def _buffers(problem: Problem, packed: int) -> list[np.ndarray[Any, Any]]:
    """Memory in place of a problem's tensors, in their order."""
    s, dtype = problem.conv, np.dtype(problem.inside)
    x, w, y = prod(s.x_shape), packed or prod(s.w_shape), prod(s.y_shape)
    fused = (y,) * (problem.residual + problem.pooled)
    sizes = {
        "conv": (x, w, s.oc, y, *fused),
        "grad_x": (y, w, *(s.ic,) * problem.bias, x),
        "grad_w": (x, y, w),
        "grad_b": (y, s.oc),
    }[problem.op]
    buffers = [usual(size, dtype) for size in sizes]
    if problem.dtype == "bfloat16":
        for buffer in buffers:
            # Both halves are usual numbers of 16 bits, and the whole is one of 32.
            upper = buffer.view(np.uint32) & np.uint32(0xFFFF0000)
            buffer.view(np.uint32)[...] = upper | upper >> np.uint32(16)
    return buffers


def usual(size: int, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """So many numbers as calls usually see: normal ones, none of them denormal."""
    array = empty((size,), dtype)
    some = _normal().astype(dtype)
    for start in range(0, size, some.size):
        array[start : start + some.size] = some[: size - start]
    return array


@cache
def _normal() -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).standard_normal(1 << 14)


def _bytes(problem: Problem) -> int:
    s = problem.shape
    return problem.itemsize * (prod(s.x_shape) + prod(s.y_shape))


@cache
def choices() -> Choices:
    """What this machine has measured."""
    return choices_for(host())
