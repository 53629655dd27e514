"""The choice: of the algorithms that accept a problem, the one predicted fastest."""

from collections.abc import Sequence
from math import ceil

from hapgop.algorithms import Algorithm, Problem, algorithms_of
from hapgop.errors import InputError
from hapgop.machine import Machine
from hapgop.planning.plan import Lost, Plan

_WORTH = 10e-6  # seconds of work for which a further thread is woken


def choose(problem: Problem, machine: Machine, algorithms: Sequence[Algorithm] | None = None) -> Plan:
    """The plan for a problem on a machine.

    A pure function: the same problem and machine always give the same plan. Raises InputError, with every algorithm's
    reason, where none accepts the problem.
    """
    lost: list[Lost] = []
    able: list[tuple[float, Algorithm]] = []
    for algorithm in algorithms_of(problem.dtype) if algorithms is None else algorithms:
        reason = algorithm.refuses(problem, machine)
        if reason is None:
            able.append((algorithm.seconds(problem, machine), algorithm))
        else:
            lost.append(Lost(algorithm.name, reason))
    if not able:
        raise InputError(f"no algorithm takes {problem.op}: " + "; ".join(f"{x.algorithm} {x.reason}" for x in lost))
    least = min(seconds for seconds, _ in able)
    near = [(s, a, a.recipe(problem, machine)) for s, a in able if s <= least * machine.cores]
    near.sort(key=lambda option: shared(option[0], option[2].items, machine.cores))
    seconds, winner, recipe = near[0]
    best = shared(seconds, recipe.items, machine.cores)
    slower = [Lost(a.name, _slower(shared(s, r.items, machine.cores) / best)) for s, a, r in near[1:]]
    slower += [Lost(a.name, _slower(s / seconds)) for s, a in able if s > least * machine.cores]
    return Plan(problem, machine, winner, recipe, seconds, tuple(slower + lost))


def _slower(times: float) -> str:
    return f"predicted {times:.2f} times as long"


def shared(seconds: float, items: int, cores: int) -> float:
    """The time of a call whose work items are shared out: until the core with the most of them is done."""
    items = max(items, 1)  # an empty batch has none
    team = max(1, min(cores, items, int(seconds / _WORTH)))
    return seconds * ceil(items / team) / items
