"""Max and average pooling, forward and backward, vectors along the channels.

The winner of a max pool is remembered as its position in the window, a small number in the tensor's own type.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from hapgop.algorithms.layout import image_strides
from hapgop.algorithms.pool_backward import Backward
from hapgop.algorithms.pool_forward import Forward
from hapgop.algorithms.pool_windows import VECTORS, Windows
from hapgop.algorithms.problem import POOL_OPS, Problem
from hapgop.algorithms.recipe import Algorithm, Recipe
from hapgop.machine import Machine
from hapgop.tile import Builder, Kernel

_POSITIONS = 1 << 24  # as far as float32 counts without gaps


@dataclass(frozen=True, slots=True)
class Pool(Algorithm):
    """`max_pool`, `avg_pool` and their gradients, of every shape."""

    name: str = "pool"

    def refuses(self, problem: Problem, machine: Machine) -> str | None:
        if problem.op not in POOL_OPS:
            return f"computes pools, not {problem.op}"
        s = problem.maps
        if problem.op.startswith("max") and problem.winners and s.kh * s.kw > _POSITIONS and problem.itemsize < 8:
            return f"writes winners as float32, which counts to {_POSITIONS}, but a window has {s.kh} x {s.kw} places"
        return None

    def seconds(self, problem: Problem, machine: Machine) -> float:
        s = problem.maps
        return (s.n * s.c * s.oh * s.ow * (s.kh * s.kw + 2)) / (machine.lanes(problem.dtype) * 1e9) + 1e-6

    def recipe(self, problem: Problem, machine: Machine) -> Recipe:
        s = problem.maps
        windows = Windows(replace(problem, shape=replace(s, n=1)), machine)
        tables = (windows.divisors(),) if problem.op.startswith("avg") else ()
        rows = s.oh if windows.by_window else s.ih
        return Recipe(
            key=f"pool {windows.problem} {machine}",
            build=partial(_kernel, windows),
            sizes=(s.n,),
            tables=tables,
            items=s.n * rows,
            tiles=f"1 pixel x {min(VECTORS, len(windows.counts))} vectors",
        )


def _kernel(windows: Windows) -> Kernel:
    p, s = windows.problem, windows.shape
    k = Builder("pool", p.dtype, windows.lanes)
    n = k.size("n", low=0)
    x_size, y_size = n * (s.c * s.ih * s.iw), n * (s.c * s.oh * s.ow)
    x, y = image_strides(p.x_layout, s.c, s.ih, s.iw), image_strides(p.y_layout, s.c, s.oh, s.ow)
    divisors = s.oh + s.ow
    if p.op == "max_pool":
        source = k.buffer("x", x_size, "in")
        targets = [k.buffer("y", y_size, "out"), k.buffer("winners", y_size, "out")]
        Forward(windows, k, source, x, y).max(n, targets if p.winners else targets[:1])
    elif p.op == "avg_pool":
        source, target = k.buffer("x", x_size, "in"), k.buffer("y", y_size, "out")
        Forward(windows, k, source, x, y).average(n, target, k.buffer("divisors", divisors, "in"))
    elif p.op == "max_pool_grad":
        g, winners = k.buffer("g", y_size, "in"), k.buffer("winners", y_size, "in")
        Backward(windows, k, g, winners, None, k.buffer("dx", x_size, "out"), x, y).emit(n)
    else:
        g, target = k.buffer("g", y_size, "in"), k.buffer("dx", x_size, "out")
        Backward(windows, k, g, None, k.buffer("divisors", divisors, "in"), target, x, y).emit(n)
    return k.kernel()
