"""Maps made ready to run."""

from __future__ import annotations

from hapgop.algorithms.maps import TENSORS, MapProblem, recipe, seconds
from hapgop.engine.compiled import MOST
from hapgop.engine.kept import Kept
from hapgop.engine.runnable import Runnable
from hapgop.machine import host

_READY = 4096  # bytes of a prepared map, without its kernel


class PreparedMap(Runnable):
    """A map ready to run; call it with the addresses of its tensors, in the order that `MapProblem` documents."""

    def __init__(self, problem: MapProblem) -> None:
        machine = host()
        super().__init__(recipe(problem, machine), TENSORS[problem.op], 4, seconds(problem, machine), machine)
        self.problem = problem


_ready: Kept[PreparedMap] = Kept(MOST)


def prepare_map(problem: MapProblem) -> PreparedMap:
    """A map ready to run; the second call with an equal problem costs a look-up."""
    prepared = _ready.get(problem)
    if prepared is None:
        prepared = PreparedMap(problem)
        _ready.put(problem, prepared, _READY + prepared.bytes)
    return prepared
