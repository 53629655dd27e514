"""The derivatives of what goes pixel by pixel through maps: batch norm in training, the gradient through a ReLU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hapgop.nn import normalise

Grads = tuple[Tensor | None, ...]


def batch_norm_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, bias, residual, eps, activation = inputs
    y, stats = output
    ctx.mark_non_differentiable(stats)
    # Else the missing gradient of the statistics would be filled with zeros.
    ctx.set_materialize_grads(False)
    # Without a residual, what the ReLU let through is seen from x, which is cheaper than reading y.
    ctx.save_for_backward(x, weight, bias, stats, y if residual is not None and activation == "relu" else None)
    ctx.setting = eps, activation


def batch_norm_backward(grad: Any, ctx: Any, g: Tensor | None) -> Grads:
    if g is None:
        return (None,) * 6
    x, weight, bias, stats, y = ctx.saved_tensors
    dx, dr, dparams = grad(g, x, weight, bias, stats, y, *ctx.setting)
    by_residual = ctx.needs_input_grad[3]
    return dx, dparams[0], dparams[1], (g if y is None else dr) if by_residual else None, None, None


def batch_norm_grad_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    g, x, weight, bias, _, y, eps, activation = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(g, x, weight, bias, y)
    ctx.setting = eps, activation


def batch_norm_grad_backward(ctx: Any, cx: Tensor | None, cr: Tensor | None, cparams: Tensor | None) -> Grads:
    """Rare enough (a penalty on gradients, say) to be left to PyTorch's operators, which go on from there."""
    g, x, weight, bias, y = ctx.saved_tensors
    recorded = torch.is_grad_enabled()
    with torch.enable_grad():
        # Aliases: g may be made of x, and that way must not be counted here.
        given = [t.view_as(t) if recorded and t.requires_grad else t.detach().requires_grad_() for t in (g, x, weight)]
        results = normalise.differentiated(given[0], given[1], given[2], bias, y, *ctx.setting)
        pairs = [(r, c) for r, c in zip(results, (cx, cr, cparams), strict=True) if c is not None and r.numel()]
        if not pairs:
            return (None,) * 8
        found = torch.autograd.grad(
            [r for r, _ in pairs], given, [c for _, c in pairs], create_graph=recorded, allow_unused=True
        )
    return *found, *(None,) * 5


def relu_grad_save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(inputs[1])


def relu_grad_backward(ctx: Any, cx: Tensor | None, cb: Tensor | None) -> Grads:
    (y,) = ctx.saved_tensors
    total = None if cb is None else normalise.wide(cb).expand(y.shape)
    total = cx if total is None else total if cx is None else cx + total
    return None if total is None else torch.ops.aten.threshold_backward(total, y, 0), None
