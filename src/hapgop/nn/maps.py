"""What goes pixel by pixel through maps: batch norm in training, and the gradient through a ReLU.

Results lie as the first map does; the others are brought into its order.
"""

from typing import Final

import torch
from torch import Tensor

from hapgop.nn import normalise, routes
from hapgop.nn.layout import laid_as
from hapgop.nn.outputs import empty_strided
from hapgop.nn.report import count
from hapgop.nn.routes import facts

_NOTHING: Final = 0  # the address of a tensor that is not there


def batch_norm(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, activation: str | None
) -> tuple[Tensor, Tensor]:
    """(y, stats): y = activation((x - mean) * inverse * weight + bias + residual).

    stats (3, c): mean, variance (of all), and inverse = 1 / sqrt(variance + eps).
    """
    given = (weight, bias) if residual is None else (weight, bias, residual)
    route = routes.batch_norm(facts(x), tuple(map(facts, given)), residual is not None, eps, activation)
    count(route.answer)
    if route.run is None:
        with torch._C._AutoDispatchBelowAutograd():
            y, stats = normalise.forward(x, weight, bias, residual, eps, activation)
            return laid_as(y, x), stats
    x = laid_as(x, x)
    weight, bias = weight.contiguous(), bias.contiguous()
    beside = None if residual is None else laid_as(residual, x)
    y = empty_strided(route.shape, route.strides, x.dtype)
    stats = torch.empty((3, x.shape[1]), dtype=x.dtype)
    route.run(
        x.data_ptr(), weight.data_ptr(), bias.data_ptr(), _NOTHING if beside is None else beside.data_ptr(),
        y.data_ptr(), stats.data_ptr(), threads=torch.get_num_threads(),
    )  # fmt: skip
    return y, stats


def batch_norm_grad(
    g: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, y: Tensor | None, eps: float,
    activation: str | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """(dx, dr, dparams): dr, g where y is above zero, is empty without y; dparams are the gradients of weight, bias.

    y: where a residual was added and a ReLU follows; elsewhere what the ReLU let through is seen from x.
    """
    given = (weight, bias, stats, g) if y is None else (weight, bias, stats, g, y)
    route = routes.batch_norm_grad(facts(x), tuple(map(facts, given)), y is not None, activation)
    count(route.answer)
    if route.run is None:
        with torch._C._AutoDispatchBelowAutograd():
            dx, dr, dparams = normalise.backward(g, x, weight, bias, stats, y, activation)
            return laid_as(dx, x), dr if y is None else laid_as(dr, x), dparams
    x = laid_as(x, x)
    g, weight, bias, stats = laid_as(g, x), weight.contiguous(), bias.contiguous(), stats.contiguous()
    y = None if y is None else laid_as(y, x)
    dx = empty_strided(route.shape, route.strides, x.dtype)
    dr = g.new_empty(0) if y is None else empty_strided(route.shape, route.strides, x.dtype)
    dparams = torch.empty((2, x.shape[1]), dtype=x.dtype)
    route.run(
        g.data_ptr(), x.data_ptr(), weight.data_ptr(), bias.data_ptr(), stats.data_ptr(),
        _NOTHING if y is None else y.data_ptr(), dx.data_ptr(), _NOTHING if y is None else dr.data_ptr(),
        dparams.data_ptr(), threads=torch.get_num_threads(),
    )  # fmt: skip
    return dx, dr, dparams


def relu_grad(g: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """(dx, db): g where y is above zero, and its sum for each channel."""
    route = routes.relu_grad(facts(y), facts(g))
    count(route.answer)
    if route.run is None:
        with torch._C._AutoDispatchBelowAutograd():
            dx = laid_as(torch.ops.aten.threshold_backward(g, y, 0), y)
            return dx, dx.sum((0, 2, 3))
    y = laid_as(y, y)
    g = laid_as(g, y)
    dx = empty_strided(route.shape, route.strides, y.dtype)
    db = torch.empty(y.shape[1], dtype=y.dtype)
    route.run(g.data_ptr(), y.data_ptr(), dx.data_ptr(), db.data_ptr(), threads=torch.get_num_threads())
    return dx, db
