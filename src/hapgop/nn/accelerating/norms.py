"""Batch norm in training, with the addition and the ReLU after it: the faster of ours and PyTorch's."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.nn import functional
from hapgop.nn.accelerating.choosing import prefers_ours

Buffers = tuple[Tensor | None, Tensor | None]


def normed(
    layers: Sequence[nn.Module], x: Tensor, kept: Buffers, weight: Tensor | None, bias: Tensor | None, share: float,
    eps: float, relu: bool = False, residual: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """By the statistics of the batch; the running ones in `kept` move by `share`."""
    name = "batch_norm" + "+add" * (residual is not None) + "+relu" * relu
    # Tried without the running statistics, which a trial must not move.
    ours = prefers_ours(layers, name, _ours, _theirs, (x, weight, bias, residual), (None, None, 0.0, eps, relu))
    return (_ours if ours else _theirs)(x, weight, bias, residual, *kept, share, eps, relu)


def _ours(x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, *setting: Any) -> Tensor:
    mean, var, share, eps, relu = setting
    activation = "relu" if relu else None
    return functional.batch_norm(x, mean, var, weight, bias, True, share, eps, residual=residual, activation=activation)


def _theirs(x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, *setting: Any) -> Tensor:
    mean, var, share, eps, relu = setting
    y = F.batch_norm(x, mean, var, weight, bias, True, share, eps)
    y = y if residual is None else y + residual
    return F.relu(y, inplace=True) if relu else y
