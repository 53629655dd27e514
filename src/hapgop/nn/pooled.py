"""Backwards of a convolution with ReLU and 2x2 max pool that nobody records: in fewer passes than their parts take.

Each answers None where the engine has no such kernel; then the operators go one after the other.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor
from torch._C._autograd import _profiler_enabled
from torch.autograd.profiler import record_function

from hapgop.algorithms import Problem
from hapgop.algorithms.problem import Op
from hapgop.engine import Prepared
from hapgop.nn.layout import FORMATS, brought, formats_of, strides_of, suggests_channels_last
from hapgop.nn.outputs import empty_strided
from hapgop.nn.report import count
from hapgop.nn.routes import DTYPES, LAYOUTS, Facts, Ints, Route, cached, facts, refusal, route_of, want
from hapgop.program.training import at_once
from hapgop.shape import ConvShape, PoolShape

WINDOW: Final = (2, 2)
_NOTHING: Final = torch.empty(0)


class Unwritten:
    """Whether a tensor is still what it was, asked later and without keeping its memory.

    >>> pixels = torch.zeros(3)
    >>> unwritten = Unwritten(pixels)
    >>> bool(unwritten)
    True
    >>> pixels[0] = 1
    >>> bool(unwritten)
    False
    """

    __slots__ = ("_counter", "_version")

    def __init__(self, tensor: Tensor) -> None:
        # Of no numbers any longer, but PyTorch counts the changes of both as one.
        self._counter = tensor.detach()
        self._counter.data = _NOTHING
        self._version = self._counter._version

    def __bool__(self) -> bool:
        return self._counter._version == self._version


def pooled_grad(g: Tensor, z: Tensor, winners: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor] | None:
    """(dx, db): g where z is above zero, sent to its winner in a map of `size` (rows, columns), and its sum."""
    route = _grad(facts(g), facts(z), facts(winners), tuple(size))
    if route.run is None:
        return None
    count(route.answer)
    g = brought(g, route.first)
    dx = empty_strided(route.shape, route.strides, z.dtype)
    db = torch.empty(z.shape[1], dtype=z.dtype)
    _called(route.answer.op, route.run, g, z, winners, dx, db)
    return dx, db


def made_at_once(
    x: Tensor, w: Tensor | None, g: Tensor, z: Tensor, winners: Tensor, size: Sequence[int], channels_last: bool,
    setting: tuple[Sequence[int], Sequence[int], Sequence[int], int],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """(dx, dw, db) of the convolution of x whose gradient `pooled_grad` gives, for w of `size` (rows, columns).

    None for those that are better made of that gradient, and dx without w. setting: stride, padding, dilation, groups.
    """
    stride, padding, dilation, groups = setting

    def route(op: Op) -> Route:
        given = tuple(size), tuple(stride), tuple(padding), tuple(dilation), groups
        return _grads(op, facts(x), facts(g), facts(z), facts(winners), *given, channels_last, w is not None)

    dx = dw = db = None
    if w is not None and w.is_contiguous(memory_format=FORMATS[channels_last]):
        way = route("pooled_grad_x")
        if way.run is not None:
            count(way.answer)
            dx = empty_strided(way.shape, way.strides, x.dtype)
            _called(way.answer.op, way.run, brought(g, way.first), z, winners, w, dx)
    way = route("pooled_grad_w")
    if way.run is not None:
        count(way.answer)
        dw, db = empty_strided(way.shape, way.strides, x.dtype), torch.empty(z.shape[1], dtype=x.dtype)
        _called(way.answer.op, way.run, x, brought(g, way.first), z, winners, dw, db)
    return dx, dw, db


def _called(op: str, run: Prepared, *tensors: Tensor) -> None:
    """No operator of PyTorch's: its profiler is told."""
    with record_function(f"hapgop::{op}") if _profiler_enabled() else nullcontext():
        run(*(tensor.data_ptr() for tensor in tensors), threads=torch.get_num_threads())


@cached
def _grad(g: Facts, z: Facts, winners: Facts, size: Ints) -> Route:
    shape = PoolShape(z[1][0], z[1][1], size[0], size[1], *WINDOW)

    def problem(z_last: bool, x_last: bool) -> Problem:
        return Problem("pooled_grad", shape, DTYPES[z[0]], LAYOUTS[x_last], LAYOUTS[z_last], activation="relu")

    reason = _disagreement(g, z, winners, shape.y_shape)
    last = suggests_channels_last(*z[1:])
    way = route_of("pooled_grad", problem, reason, z, (shape.x_shape, last))
    return Route(way.answer, way.run, way.shape, way.strides, _move(g, last))


@cached
def _grads(
    op: Op, x: Facts, g: Facts, z: Facts, winners: Facts, size: Ints, stride: Ints, padding: Ints, dilation: Ints,
    groups: int, last: bool, wants_x: bool,
) -> Route:  # fmt: skip
    w_shape = (z[1][1], x[1][1] // groups, *size)
    shape = ConvShape.of(x[1], w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)

    def problem(z_last: bool, x_last: bool) -> Problem:
        layouts = (LAYOUTS[x_last], LAYOUTS[z_last], "ohwi" if last else "oihw")
        return Problem(op, shape, DTYPES[x[0]], *layouts, activation="relu")

    pooled = PoolShape(*shape.y_shape, *WINDOW)
    reason = refusal(x, z) or _disagreement(g, z, winners, pooled.y_shape)
    x_last = True in formats_of(*x[1:])
    reason = reason or (None if x_last else "channels first")
    if reason is None and op[-1] not in at_once(replace(problem(True, True), op="pooled_grad_w"), wants_x):
        reason = "takes longer than by the convolution's own gradient"
    way = route_of(op, problem, reason, z, (shape.x_shape, x_last))
    dx = op == "pooled_grad_x"
    made, order = (shape.x_shape, suggests_channels_last(*x[1:])) if dx else (shape.w_shape, last)
    return Route(way.answer, way.run, made, strides_of(made, order), _move(g, suggests_channels_last(*z[1:])))


def _disagreement(g: Facts, z: Facts, winners: Facts, pooled: Ints) -> str | None:
    """Why these are not the three maps of one pool; z and winners have to lie alike, and densely."""
    for name, given in (("gradient", g), ("pooled map", z), ("winners", winners)):
        want(name, given, pooled)
    reason = refusal(z, g, winners)
    return reason or (None if z[2] == winners[2] and formats_of(*z[1:]) else "winners that lie in another order")


def _move(g: Facts, last: bool) -> bool | None:
    """The format into which g is brought, where it does not lie in it."""
    return None if last in formats_of(*g[1:]) else last
