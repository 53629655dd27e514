"""One step of a planned net: what it computes, from which values, and how long that is predicted to take."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from hapgop.algorithms import Problem, costs
from hapgop.algorithms.maps import MapProblem, recipe, seconds
from hapgop.engine import at_precision, plan_for
from hapgop.machine import host
from hapgop.planning import Plan
from hapgop.program.graph import Node
from hapgop.program.sizes import Size

_JUMP = 0.05e-6  # seconds to begin a step
MEET = 1e-6  # seconds for all threads to wait for one another
LAUNCH = 5e-6  # seconds to call a team that is awake, and until all are done


@dataclass(frozen=True)
class Step:
    """A kernel's call, or a node that is computed in Python.

    name     the node whose result it makes, and `nodes` all that it does, the first to the last
    problem  what the engine computes; None: the node is computed in Python
    reads    the values that it reads; weights are those of `node`
    writes   the value that it makes, or a part of it, `offset` numbers from its beginning
    image    of a linear layer on a flattened image: the image's size, in whose order the weights are
    """

    name: str
    nodes: tuple[Node, ...]
    problem: Problem | MapProblem | None
    reads: tuple[str, ...]
    writes: str
    offset: int = 0
    image: Size | None = None

    @property
    def node(self) -> Node:
        return self.nodes[0]

    @property
    def does(self) -> str:
        """What it does, in the graph's words."""
        return " + ".join(word for node in self.nodes for word in _words(node))


def _words(node: Node) -> list[str]:
    activation = node.attrs.get("activation")
    return [node.op, activation] if activation else [node.op]


@dataclass(frozen=True)
class Cost:
    """algorithm: its name. seconds: on one core. items: independent pieces of work."""

    algorithm: str
    seconds: float
    items: int

    def shared(self, team: int) -> float:
        """Seconds by a team that is there, or by one of its threads where that takes no longer."""
        return min(self.seconds, self.by_all(team))

    def by_all(self, team: int) -> float:
        members = max(1, min(team, self.items))
        return self.seconds * ceil(self.items / members) / max(self.items, 1)

    def pays(self, team: int) -> bool:
        """Whether a team is worth that its threads wait for one another."""
        return self.by_all(team) + MEET < self.seconds


def cost(problem: Problem | MapProblem, known: bool = True) -> Cost:
    """What a problem costs on this machine, by the algorithm that is chosen for it. Raises Refused where there is none.

    known: whether what was measured decides which that is; else predictions alone do.
    """
    if isinstance(problem, Problem):
        return cost_of(plan_for(at_precision(problem), known))
    return _within("map", seconds(problem, host()), recipe(problem, host()).items)


def cost_of(plan: Plan) -> Cost:
    """What a problem costs that is computed so."""
    return _within(plan.algorithm.name, plan.seconds, plan.recipe.items)


def _within(algorithm: str, total: float, items: int) -> Cost:
    # Within one call, beginning a kernel is a jump.
    return Cost(algorithm, max(total - costs.CALL, 0.0) + _JUMP, items)
