"""The linear map of the last axis."""

import torch
from torch import Tensor
from torch.nn import functional as F

from hapgop.nn import ops
from hapgop.nn.functional.arguments import checked_activation
from hapgop.nn.functional.gate import elsewhere, not_ours, overridable
from hapgop.shape import ShapeError


@overridable
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, activation: str | None = None) -> Tensor:
    """`torch.nn.functional.linear` with an activation on top: a 1x1 convolution over a row of pixels.

    input (..., in), weight (out, in), bias (out). `activation` is None or "relu". Raises ShapeError.

    >>> linear(torch.ones(2, 3), torch.ones(4, 3)).shape
    torch.Size([2, 4])
    """
    activation = checked_activation(activation)
    reason = not_ours(input)
    if reason is None and not torch.compiler.is_compiling() and not input.numel():
        reason = "an empty tensor"
    if reason is not None:
        elsewhere("linear", reason)
        y = F.linear(input, weight, bias)
        return y if activation is None else F.relu(y)
    if weight.dim() != 2 or input.dim() == 0 or input.shape[-1] != weight.shape[1]:
        raise _refuse_features(input, weight)
    if input.dim() == 2:
        return ops.linear(input, weight, bias, activation)
    rows = input.reshape(-1, weight.shape[1])
    return ops.linear(rows, weight, bias, activation).view(*input.shape[:-1], weight.shape[0])


def _refuse_features(x: Tensor, w: Tensor) -> ShapeError:
    if w.dim() != 2:
        return ShapeError(f"weight: shape {tuple(w.shape)}, wanted 2 dimensions: (out, in).")
    if x.dim() == 0:
        return ShapeError("input: a single number, wanted at least 1 dimension: (..., in).")
    works = [f"a weight of shape {(w.shape[0], x.shape[-1])}", f"an input of shape {(*x.shape[:-1], w.shape[1])}"]
    if x.dim() > 2 and x[0].numel() == w.shape[1]:
        works.append("flattening each of the batch first: torch.flatten(input, 1)")
    return ShapeError(
        f"input: shape {tuple(x.shape)} has {x.shape[-1]} features in its last axis, but the weight "
        f"{tuple(w.shape)}, which is (out, in), takes {w.shape[1]}. What would work: {', or '.join(works)}."
    )
