"""The derivatives of our operators, each made of the others, so that they can be taken any number of times.

T(x, w, g) = <g, x * w> is linear in each argument; conv, grad_x and grad_w are its derivatives by g, x and w:

    conv(x, w)    backward(g):  grad_x(g, w),  grad_w(x, g)
    grad_x(g, w)  backward(c):  conv(c, w),    grad_w(c, g)
    grad_w(x, g)  backward(v):  grad_x(g, v),  conv(x, v)
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor

from hapgop.nn import autograd_maps, fallback, kernels, pooled
from hapgop.nn.plain import ordinary, plain

Grads = tuple[Tensor | None, ...]


class Formula(NamedTuple):
    """`save(ctx, inputs, output)` in the forward, `backward(ctx, *gradients)` -> one for each input."""

    save: Callable[..., None]
    backward: Callable[..., Grads]


# By name, what to call for each operator; `hapgop.nn.ops` fills it.
CALLS: Final[dict[str, Callable[..., Any]]] = {}


def _op(name: str) -> Any:
    return CALLS[name]


def _is_last(tensor: Tensor) -> bool:
    """Channels last? Where both formats describe the memory: no."""
    return tensor.is_contiguous(memory_format=torch.channels_last) and not tensor.is_contiguous()


def _saved_for(ctx: Any, first: Tensor, second: Tensor, *more: Tensor | None) -> None:
    """Of two factors, each is needed only for the derivative by the other."""
    by_first, by_second = ctx.needs_input_grad[:2]
    ctx.save_for_backward(first if by_second else None, second if by_first else None, *more)


def _conv_save(ctx: Any, inputs: tuple[Any, ...], y: Tensor) -> None:
    x, w, _, *setting, activation = inputs
    _saved_for(ctx, x, w, y if activation == "relu" else None)
    ctx.setting, ctx.x, ctx.w = setting, (x.shape[2:], _is_last(x)), (w.shape[2:], _is_last(w))


def _conv_backward(ctx: Any, g: Tensor) -> Grads:
    x, w, y = ctx.saved_tensors
    g, db = _through_relu(ctx, g, y)
    return *_conv_grads(ctx, x, w, g), db, *(None,) * 5


def _through_relu(ctx: Any, g: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The gradient before the activation, and that of the bias; y: what a ReLU made."""
    by_bias = ctx.needs_input_grad[2]
    if y is not None and by_bias:
        masked, db = _op("relu_grad")(g, y)
        return masked, db
    if y is not None:
        g = torch.ops.aten.threshold_backward(g, y, 0)
    return g, _op("grad_b")(g) if by_bias else None


def _conv_grads(
    ctx: Any, x: Tensor | None, w: Tensor | None, g: Tensor, wanted: tuple[bool, bool] | None = None
) -> Grads:
    """By both factors; wanted: by which of them, those that are asked for without it."""
    (x_size, x_last), (w_size, w_last) = ctx.x, ctx.w
    by_x, by_w = ctx.needs_input_grad[:2] if wanted is None else wanted
    dx = _op("grad_x")(g, w, None, x_size, *ctx.setting, x_last, None) if by_x else None
    dw = _op("grad_w")(x, g, w_size, *ctx.setting, w_last) if by_w else None
    return dx, dw


def _conv_pool_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, w, _, *setting, activation, pool = inputs
    z, winners = output
    ctx.mark_non_differentiable(winners)
    ctx.set_materialize_grads(False)
    ctx.unwritten = None
    if activation == "relu" and ordinary(z):
        # As far as anyone can see a pool's result is not read by its way back, and so it may be written over: then it
        # is computed again, from what PyTorch's own convolution keeps as well.
        ctx.unwritten, ctx.bias = pooled.Unwritten(z), None if inputs[2] is None else inputs[2].clone()
        ctx.save_for_backward(x, w, z.data, winners)
    else:
        _saved_for(ctx, x, w, z if activation == "relu" else None, winners)
    ctx.setting, ctx.x, ctx.w = setting, (x.shape[2:], _is_last(x)), (w.shape[2:], _is_last(w))
    stride, padding, dilation, _ = setting
    ctx.pool, ctx.y = (
        pool,
        tuple(
            (x.shape[2 + a] + padding[2 * a] + padding[2 * a + 1] - (w.shape[2 + a] - 1) * dilation[a] - 1) // stride[a]
            + 1
            for a in (0, 1)
        ),
    )


def _conv_pool_backward(ctx: Any, g: Tensor | None, _: Tensor | None) -> Grads:
    if g is None:
        return (None,) * 9
    x, w, z, winners = ctx.saved_tensors
    if ctx.unwritten is not None and not ctx.unwritten:
        setting = (*ctx.setting, "relu", ctx.pool)
        with torch.no_grad():
            z = kernels.conv_pool(x, w, ctx.bias, *setting)[0]
    if z is not None and not torch.is_grad_enabled() and ordinary(g, z, x, w):
        grads = _pooled_grads(ctx, x, w, z, winners, g)
        if grads is not None:
            return *grads, *(None,) * 6
    # A window's winner is above zero where the window's result is, and every gradient has one winner: mask and sum are
    # taken where the map is smallest.
    g, db = _through_relu(ctx, g, z)
    last = _is_last(winners)
    g = _op("max_pool_grad")(g, winners, ctx.y, ctx.pool, ctx.pool, (0, 0), (1, 1), False, last)
    return *_conv_grads(ctx, x, w, g), db, *(None,) * 6


def _pooled_grads(ctx: Any, x: Tensor | None, w: Tensor | None, z: Tensor, winners: Tensor, g: Tensor) -> Grads | None:
    """What nobody records, in as few passes as the engine knows; None where it knows none."""
    by_x, by_w, by_bias = ctx.needs_input_grad[:3]
    if not by_bias or tuple(ctx.pool) != pooled.WINDOW:
        return None
    dx = dw = db = None
    if by_w and x is not None and (w is not None or not by_x):
        size, last = ctx.w
        dx, dw, db = pooled.made_at_once(x, w if by_x else None, g, z, winners, size, last, ctx.setting)
    by_x, by_w = by_x and dx is None, by_w and dw is None
    if by_x or by_w or db is None:
        found = pooled.pooled_grad(g, z, winners, ctx.y)
        if found is None:
            return None
        more, db = _conv_grads(ctx, x, w, found[0], (by_x, by_w)), found[1]
        dx, dw = (made if made is not None else left for made, left in zip((dx, dw), more, strict=True))
    return dx, dw, db


def _grad_x_save(ctx: Any, inputs: tuple[Any, ...], dx: Tensor) -> None:
    g, w, _, _, *setting, _, activation = inputs
    _saved_for(ctx, g, w, dx if activation == "relu" else None)
    ctx.setting, ctx.w = setting, (w.shape[2:], _is_last(w))


def _grad_x_backward(ctx: Any, c: Tensor) -> Grads:
    (g, w, dx), (w_size, w_last) = ctx.saved_tensors, ctx.w
    by_g, by_w = ctx.needs_input_grad[:2]
    c, db = _through_relu(ctx, c, dx)
    dg = _op("conv")(c, w, None, *ctx.setting, None) if by_g else None
    dw = _op("grad_w")(c, g, w_size, *ctx.setting, w_last) if by_w else None
    return dg, dw, db, *(None,) * 7


def _grad_w_save(ctx: Any, inputs: tuple[Any, ...], dw: Tensor) -> None:
    x, g, _, *setting, _ = inputs
    _saved_for(ctx, x, g)
    ctx.setting, ctx.x = setting, (x.shape[2:], _is_last(x))


def _grad_w_backward(ctx: Any, v: Tensor) -> Grads:
    (x, g), (x_size, x_last) = ctx.saved_tensors, ctx.x
    by_x, by_g = ctx.needs_input_grad[:2]
    dx = _op("grad_x")(g, v, None, x_size, *ctx.setting, x_last, None) if by_x else None
    return dx, _op("conv")(x, v, None, *ctx.setting, None) if by_g else None, *(None,) * 6


def _grad_b_save(ctx: Any, inputs: tuple[Any, ...], db: Tensor) -> None:
    ctx.shape = inputs[0].shape


def _grad_b_backward(ctx: Any, v: Tensor) -> Grads:
    return (v[None, :, None, None].expand(ctx.shape),)


def _linear_save(ctx: Any, inputs: tuple[Any, ...], y: Tensor) -> None:
    x, w, _, activation = inputs
    _saved_for(ctx, x, w, y if activation == "relu" else None)


def _linear_backward(ctx: Any, g: Tensor) -> Grads:
    x, w, y = ctx.saved_tensors
    if y is not None:
        g = torch.ops.aten.threshold_backward(g, y, 0)
    by_x, by_w, by_bias = ctx.needs_input_grad[:3]
    if not torch.is_grad_enabled() and plain(g, x, w):
        # Nobody records this backward: without the views.
        dx = kernels.linear_grad_x(g, w) if by_x else None
        dw = kernels.linear_grad_w(x, g) if by_w else None
        return dx, dw, kernels.linear_grad_b(g) if by_bias else None, None
    row = _as_row(g)
    dx = dw = None
    if by_x:
        dx = _op("grad_x")(row, w[:, :, None, None], None, (1, g.shape[0]), *kernels.ONE_BY_ONE, True, None)[0, :, 0].T
    if by_w:
        dw = _op("grad_w")(_as_row(x), row, (1, 1), *kernels.ONE_BY_ONE, False)[:, :, 0, 0]
    return dx, dw, _op("grad_b")(row) if by_bias else None, None


def _as_row(matrix: Tensor) -> Tensor:
    """(rows, features) -> (1, features, 1, rows), channels last where the matrix is contiguous."""
    return matrix.T[None, :, None]


def _max_pool_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, *setting = inputs
    ctx.mark_non_differentiable(output[1])
    # Else the missing gradient of the winners would be filled with zeros.
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[1])
    ctx.setting, ctx.x = setting, (x.shape[2:], _is_last(x))


def _max_pool_backward(ctx: Any, g: Tensor | None, _: Tensor | None) -> Grads:
    (winners,), (size, last) = ctx.saved_tensors, ctx.x
    dx = None if g is None else _op("max_pool_grad")(g, winners, size, *ctx.setting, last)
    return dx, *(None,) * 5


def _max_pool_grad_save(ctx: Any, inputs: tuple[Any, ...], dx: Tensor) -> None:
    _, winners, size, *setting, _, _ = inputs
    ctx.save_for_backward(winners)
    ctx.setting = (size, *setting)


def _max_pool_grad_backward(ctx: Any, c: Tensor) -> Grads:
    (winners,) = ctx.saved_tensors
    places = fallback.indices_of(winners, *ctx.setting).flatten(2)
    # Not flatten(): batched gradients know no rule for it.
    return c.reshape(*c.shape[:2], -1).gather(2, places).view(winners.shape), *(None,) * 8


def _avg_pool_save(ctx: Any, inputs: tuple[Any, ...], y: Tensor) -> None:
    x, *setting = inputs
    ctx.setting, ctx.x = setting, (x.shape[2:], _is_last(x))


def _avg_pool_backward(ctx: Any, g: Tensor) -> Grads:
    size, last = ctx.x
    return _op("avg_pool_grad")(g, size, *ctx.setting, last), *(None,) * 5


def _avg_pool_grad_save(ctx: Any, inputs: tuple[Any, ...], dx: Tensor) -> None:
    _, _, *setting, _ = inputs
    ctx.setting = setting


def _avg_pool_grad_backward(ctx: Any, c: Tensor) -> Grads:
    return _op("avg_pool")(c, *ctx.setting), *(None,) * 7


def _batch_norm_backward(ctx: Any, g: Tensor | None, _: Tensor | None) -> Grads:
    return autograd_maps.batch_norm_backward(_op("batch_norm_grad"), ctx, g)


FORMULAS: Final = {
    "conv": Formula(_conv_save, _conv_backward),
    "conv_pool": Formula(_conv_pool_save, _conv_pool_backward),
    "grad_x": Formula(_grad_x_save, _grad_x_backward),
    "grad_w": Formula(_grad_w_save, _grad_w_backward),
    "grad_b": Formula(_grad_b_save, _grad_b_backward),
    "linear": Formula(_linear_save, _linear_backward),
    "max_pool": Formula(_max_pool_save, _max_pool_backward),
    "max_pool_grad": Formula(_max_pool_grad_save, _max_pool_grad_backward),
    "avg_pool": Formula(_avg_pool_save, _avg_pool_backward),
    "avg_pool_grad": Formula(_avg_pool_grad_save, _avg_pool_grad_backward),
    "batch_norm": Formula(autograd_maps.batch_norm_save, _batch_norm_backward),
    "batch_norm_grad": Formula(autograd_maps.batch_norm_grad_save, autograd_maps.batch_norm_grad_backward),
    "relu_grad": Formula(autograd_maps.relu_grad_save, autograd_maps.relu_grad_backward),
}
