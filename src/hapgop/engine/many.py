"""Several problems made ready at once."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem
from hapgop.engine.mapped import prepare_map
from hapgop.engine.prepared import is_ready, prepare
from hapgop.engine.runnable import Runnable
from hapgop.engine.team import get_threads


def prepare_many(problems: Iterable[Problem | MapProblem], threads: int | None = None) -> list[Runnable]:
    """Problems ready to run, in their order; kernels that have to be made are made on several cores at once.

    threads: how many; None for as many as calls use. Raises Refused for the first problem that no algorithm takes.
    """
    wanted = list(problems)
    missing = [p for p in dict.fromkeys(wanted) if isinstance(p, MapProblem) or not is_ready(p)]
    count = min(threads or get_threads(), len(missing))
    if count > 1:
        with ThreadPoolExecutor(count, "hapgop-making") as makers:
            made = dict(zip(missing, makers.map(_one, missing), strict=True))
    else:
        made = {p: _one(p) for p in missing}
    return [made.get(p) or _one(p) for p in wanted]


def _one(problem: Problem | MapProblem) -> Runnable:
    return prepare_map(problem) if isinstance(problem, MapProblem) else prepare(problem)
