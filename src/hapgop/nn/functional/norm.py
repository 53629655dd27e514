"""Batch norm, with what follows it: an addition and a ReLU in the same pass."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hapgop.errors import InputError
from hapgop.nn import ops
from hapgop.nn.functional.arguments import checked_activation
from hapgop.nn.functional.gate import elsewhere, not_ours, overridable
from hapgop.nn.layout import suggests


@overridable
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    *,
    residual: Tensor | None = None,
    activation: str | None = None,
) -> Tensor:
    """`torch.nn.functional.batch_norm` of (n, c, ih, iw), then `residual` added, then the activation.

    In training, y = activation((x - mean) / sqrt(var + eps) * weight + bias + residual) with mean and variance of each
    channel over batch and pixels; the running mean moves towards that mean, the running variance towards that of a
    sample. It is ours where the channels come last. residual: of the shape of input. `activation` is None or "relu".
    Raises InputError. After Ioffe and Szegedy, arXiv 1502.03167.

    >>> x = torch.arange(4.0).view(1, 1, 2, 2)
    >>> batch_norm(x, None, None, training=True, residual=x).flatten().tolist()  # doctest: +ELLIPSIS
    [-1.34..., 0.55..., 2.44..., 4.34...]
    """
    activation = checked_activation(activation)
    if residual is not None and residual.shape != input.shape:
        raise InputError(f"residual: got shape {tuple(residual.shape)}, wanted that of input, {tuple(input.shape)}.")
    reason = _refused(input, weight, bias, residual, training)
    if reason is not None:
        if training:
            elsewhere("batch_norm", reason)
        y = F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
        y = y if residual is None else y + residual
        return F.relu(y) if activation == "relu" else y
    y, stats = ops.batch_norm(input, weight, bias, residual, eps, activation)
    if running_mean is not None and running_var is not None:
        count = input.numel() // input.shape[1]
        kept = running_mean, running_var
        if not torch.compiler.is_compiling():
            # PyTorch's own norm, which may have saved them for its way back, does not count this as a change either.
            kept = running_mean.data, running_var.data
        with torch.no_grad():
            kept[0].lerp_(stats[0], momentum)
            # The variance of a sample, as PyTorch keeps it.
            kept[1].lerp_(stats[1] * (count / (count - 1)), momentum)
    return y


def _refused(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, residual: Tensor | None, training: bool
) -> str | None:
    """The reason why PyTorch computes, or None."""
    if not training:
        return "running statistics"
    if (reason := not_ours(x)) is not None:
        return reason
    if x.dim() != 4 or x.numel() <= x.shape[1]:
        return "one value a channel, or other than four dimensions"
    if weight is None or bias is None:
        return "no weight or no bias"
    if any(t is not None and t.dtype != x.dtype for t in (weight, bias, residual)):
        return "tensors of different dtypes"
    if x.dtype not in (torch.float32, torch.float64):
        return f"{str(x.dtype).removeprefix('torch.')} tensors"
    if not suggests(x) and x.shape[1] > 1:
        return "channels first"
    return None
