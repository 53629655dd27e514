"""A step of gradient descent with momentum (Sutskever et al., 2013), as PyTorch's `SGD` takes it, in one pass:

    g += decay * p;  m = momentum * m + fresh * g;  p -= rate * (g + momentum * m, or m without Nesterov's)

The numbers come with each call: rates follow a schedule, and no kernel should be made for each of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from hapgop.algorithms import costs
from hapgop.algorithms.recipe import Recipe
from hapgop.machine import Machine
from hapgop.tile import Affine, Builder, Kernel

_CHUNK = 2048  # elements of a work item
TENSORS = 4


@dataclass(frozen=True, slots=True)
class Descent:
    """The update of one parameter of so many elements of float32.

    Tensors, in the order in which a kernel takes their addresses: settings (rate, momentum, fresh, decay), where
    fresh = 1 - dampening; g, p, m. `decays`: without it g is taken as it is, though p were infinite.
    """

    elements: int
    nesterov: bool
    decays: bool


def seconds(update: Descent, machine: Machine) -> float:
    """The predicted time on one core."""
    return costs.traffic(5 * 4 * update.elements, machine)


def recipe(update: Descent, machine: Machine) -> Recipe:
    """How to do it."""
    return Recipe(
        key=f"descent {update.nesterov} {update.decays} {machine.cpu} {machine.isa} {machine.vector_bytes}",
        build=partial(_kernel, update.nesterov, update.decays, machine.lanes("float32")),
        sizes=(update.elements,),
        items=-(-update.elements // _CHUNK),
        tiles="1 vector",
    )


def _kernel(nesterov: bool, decays: bool, lanes: int) -> Kernel:
    k = Builder("descent", "float32", lanes)
    n = k.size("elements", low=0)
    settings, g = k.buffer("settings", TENSORS, "in"), k.buffer("g", n, "in")
    p, m = k.buffer("p", n, "inout"), k.buffer("m", n, "inout")
    with k.stage("update", ("chunk", (n + (_CHUNK - 1)) // _CHUNK)) as (chunk,):
        rate, momentum, fresh, decay = (k.broadcast(settings, i) for i in range(4))
        back = k.sub(k.const(0.0), rate)

        def visit(at: Affine, count: int) -> None:
            given, value = k.load(g, at, count), k.load(p, at, count)
            if decays:
                given = k.fma(value, decay, given)
            speed = k.fma(k.load(m, at, count), momentum, k.mul(given, fresh))
            k.store(speed, m, at, count)
            way = k.fma(speed, momentum, given) if nesterov else speed
            k.store(k.fma(way, back, value), p, at, count)

        first, vectors = chunk * _CHUNK, _CHUNK // lanes
        with k.loop("vector", chunk * vectors, [chunk * vectors + vectors, n // lanes]) as vector:
            visit(vector * lanes, lanes)
        with k.loop("left", [first, n // lanes * lanes], [first + _CHUNK, n]) as at:
            visit(at, 1)
    return k.kernel()
