"""Several problems of both kinds made ready at once."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from hapgop.algorithms import Problem
from hapgop.algorithms.maps import MapProblem
from hapgop.engine.mapped import prepare_map
from hapgop.engine.ready import prepare_all
from hapgop.engine.runnable import Runnable
from hapgop.engine.team import get_threads


def prepare_many(problems: Iterable[Problem | MapProblem], threads: int | None = None) -> list[Runnable]:
    """Problems ready to run, in their order; kernels that have to be made are made on several cores at once.

    threads: how many; None for as many as calls use. Raises Refused for the first problem that no algorithm takes.
    """
    wanted = list(problems)
    count = threads or get_threads()
    # Two passes: where measuring decides, nothing else runs.
    maps = [p for p in dict.fromkeys(wanted) if isinstance(p, MapProblem)]
    with ThreadPoolExecutor(max(min(count, len(maps)), 1), "hapgop-making") as makers:
        made: dict[Problem | MapProblem, Runnable] = dict(zip(maps, makers.map(prepare_map, maps), strict=True))
    rest = [p for p in dict.fromkeys(wanted) if isinstance(p, Problem)]
    made.update(zip(rest, prepare_all(rest, count), strict=True))
    return [made[p] for p in wanted]
