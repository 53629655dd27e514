"""Which sums are allowed: fast algorithms within their stated bound, or plain sums only."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hapgop.algorithms import Problem
from hapgop.engine.changes import changed
from hapgop.errors import InputError

CHOICES: Final = ("fast", "exact")

_precision = "fast"


def set_precision(precision: str) -> None:
    """Sets which algorithms calls may use from now on, in the whole process.

    "fast" (the default): also those whose error bound is some times that of plain sums, and whose results of a window
    with NaN or infinity in it may reach the whole tile around it (`print(hapgop.plan(...))` tells the bound). "exact":
    plain sums only, each output rounded from its own window's terms alone. Raises InputError for anything else.

    >>> set_precision("exact"); get_precision()
    'exact'
    >>> set_precision("fast")
    """
    global _precision
    if precision not in CHOICES:
        raise InputError(f"precision is {precision!r}; it has to be 'fast' or 'exact'")
    if precision != _precision:
        _precision = precision
        changed()


def get_precision() -> str:
    """Which algorithms calls may use: "fast" or "exact"."""
    return _precision


def at_precision(problem: Problem) -> Problem:
    """The problem as the process wants it."""
    return problem if _precision == "fast" or problem.precision == "exact" else replace(problem, precision="exact")
