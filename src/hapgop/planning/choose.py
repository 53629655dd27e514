"""The choice: of the algorithms that accept a problem, the one predicted fastest."""

from collections.abc import Sequence

from hapgop.algorithms import ALL, Algorithm, Problem
from hapgop.errors import InputError
from hapgop.machine import Machine
from hapgop.planning.plan import Lost, Plan


def choose(problem: Problem, machine: Machine, algorithms: Sequence[Algorithm] = ALL) -> Plan:
    """The plan for a problem on a machine.

    A pure function: the same problem and machine always give the same plan. Raises InputError, with every algorithm's
    reason, where none accepts the problem.
    """
    lost: list[Lost] = []
    able: list[tuple[float, Algorithm]] = []
    for algorithm in algorithms:
        reason = algorithm.refuses(problem, machine)
        if reason is None:
            able.append((algorithm.seconds(problem, machine), algorithm))
        else:
            lost.append(Lost(algorithm.name, reason))
    if not able:
        raise InputError(f"no algorithm takes {problem.op}: " + "; ".join(f"{x.algorithm} {x.reason}" for x in lost))
    able.sort(key=lambda pair: pair[0])
    seconds, winner = able[0]
    slower = [Lost(a.name, f"predicted {t / seconds:.2f} times as long") for t, a in able[1:]]
    return Plan(problem, machine, winner, winner.recipe(problem, machine), seconds, tuple(slower + lost))
