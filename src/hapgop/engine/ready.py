"""Problems made ready to run, and kept so: planned, measured where that is needed, compiled or loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import islice

from hapgop.algorithms import Problem
from hapgop.engine import tuning
from hapgop.engine.changes import on_change
from hapgop.engine.compiled import MOST
from hapgop.engine.kept import Kept
from hapgop.engine.precision import at_precision
from hapgop.engine.prepared import Prepared
from hapgop.engine.team import get_threads
from hapgop.errors import InputError
from hapgop.machine import host
from hapgop.planning import Plan, Ranking, rank

_PLANS = 768  # of about four kilobytes for each algorithm that comes into question
_READY = 4096  # bytes of a prepared problem, without its kernel

_ready: Kept[Prepared] = Kept(MOST)  # their kernels count


class Refused(InputError):
    """No algorithm here takes the problem; `reason` says why in one line."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.reason = text.partition("\n")[0]


def prepare(problem: Problem) -> Prepared:
    """A problem ready to run; the second call with an equal problem costs a look-up.

    Raises Refused where no algorithm takes it.
    """
    problem = at_precision(problem)
    return _ready.get(problem) or _made([problem], get_threads())[problem]


def prepare_all(problems: Sequence[Problem], threads: int) -> list[Prepared]:
    """Problems ready to run, in their order; kernels that have to be made are made on so many cores at once."""
    wanted = [at_precision(problem) for problem in problems]
    missing = [p for p in dict.fromkeys(wanted) if _ready.get(p) is None]
    made = _made(missing, threads) if missing else {}
    return [made.get(p) or prepare(p) for p in wanted]


def prepare_candidates(problem: Problem, within: float = 3.0) -> list[Prepared]:
    """Every algorithm that takes a problem and is predicted to need at most `within` times the best one's time.

    For those who compare algorithms. Raises Refused where none takes it.
    """
    ranking = ranking_for(at_precision(problem))
    near = ranking.close(within, len(ranking.candidates))
    plans = [Plan(ranking.problem, ranking.machine, c.algorithm, c.recipe, c.seconds, ()) for c in near]
    return _compiled(plans, get_threads())


def prepare_by(problem: Problem, times: Mapping[str, float]) -> Prepared:
    """A problem ready to run as times say that were measured elsewhere: by the fastest of its algorithms, by name."""
    return Prepared(ranking_for(at_precision(problem)).plan(times))


def plan_for(problem: Problem, known: bool = True) -> Plan:
    """The plan for a problem on this machine: nothing is measured; `known`: but what was measured counts.

    Raises Refused.
    """
    return ranking_for(problem).plan(tuning.measured(repr(problem)) if known else None)


@lru_cache(_PLANS)
def ranking_for(problem: Problem) -> Ranking:
    """What comes into question for a problem on this machine."""
    try:
        return rank(problem, host())
    except InputError as error:
        raise Refused(str(error)) from None


def _made(problems: Sequence[Problem], threads: int) -> dict[Problem, Prepared]:
    """Kernels first, all at the same time; then what has to be measured, one by one."""
    since = _ready.clears
    plans: dict[Problem, list[Plan]] = {}
    for problem in problems:
        kept = tuning.measured(repr(problem))
        ranking = ranking_for(problem)
        plans[problem] = (tuning.contenders(ranking) if kept is None else []) or [ranking.plan(kept)]
    compiled = iter(_compiled([plan for several in plans.values() for plan in several], threads))
    made = {}
    for problem, several in plans.items():
        candidates = list(islice(compiled, len(several)))
        prepared = candidates[0]
        if len(candidates) > 1:
            times = tuning.between(candidates)
            prepared = Prepared(ranking_for(problem).plan(times))
        _ready.put(problem, prepared, _READY + prepared.bytes, since)
        made[problem] = prepared
    return made


def _compiled(plans: Sequence[Plan], threads: int) -> list[Prepared]:
    if min(threads, len(plans)) < 2:
        return [Prepared(plan) for plan in plans]
    with ThreadPoolExecutor(min(threads, len(plans)), "hapgop-making") as makers:
        return list(makers.map(Prepared, plans))


on_change(_ready.clear)
