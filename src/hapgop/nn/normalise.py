"""Batch norm in training by PyTorch's operators, each of which can be differentiated: what the kernels compute."""

import torch
from torch import Tensor

_AXES = (0, 2, 3)


def forward(
    x: Tensor, weight: Tensor, bias: Tensor, residual: Tensor | None, eps: float, activation: str | None
) -> tuple[Tensor, Tensor]:
    """(y, stats), as `hapgop.nn.maps.batch_norm`."""
    var, mean = torch.var_mean(x, _AXES, correction=0)
    inverse = torch.rsqrt(var + eps)
    y = (x - wide(mean)) * wide(inverse * weight) + wide(bias)
    y = y if residual is None else y + residual
    return torch.relu(y) if activation == "relu" else y, torch.stack((mean, var, inverse))


def backward(
    g: Tensor, x: Tensor, weight: Tensor, bias: Tensor, stats: Tensor, y: Tensor | None, activation: str | None
) -> tuple[Tensor, Tensor, Tensor]:
    """(dx, dr, dparams), as `hapgop.nn.maps.batch_norm_grad`; `stats` are taken as they are."""
    mean, _, inverse = stats.unbind()
    off = x - wide(mean)
    if activation == "relu":
        result = y if y is not None else off * wide(inverse * weight) + wide(bias)
        g = torch.ops.aten.threshold_backward(g, result.detach(), 0)
    hat = off * wide(inverse)
    db, dw = g.sum(_AXES), (g * hat).sum(_AXES)
    count = x.numel() // x.shape[1]
    dx = wide(inverse * weight) * (g - wide(db / count) - hat * wide(dw / count))
    return dx, g.new_empty(0) if y is None else g, torch.stack((dw, db))


def differentiated(
    g: Tensor, x: Tensor, weight: Tensor, bias: Tensor, y: Tensor | None, eps: float, activation: str | None
) -> tuple[Tensor, Tensor, Tensor]:
    """`backward`, with the statistics as the functions of x that they are."""
    var, mean = torch.var_mean(x, _AXES, correction=0)
    return backward(g, x, weight, bias, torch.stack((mean, var, torch.rsqrt(var + eps))), y, activation)


def wide(vector: Tensor) -> Tensor:
    """A number for each channel, beside maps."""
    return vector[:, None, None]
