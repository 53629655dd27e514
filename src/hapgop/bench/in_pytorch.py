"""A net of ours with every layer computed by PyTorch's own operators: the other side of a comparison."""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.errors import InputError

_ACTIVATIONS: Final = {None: lambda y: y, "relu": F.relu_, "relu6": F.relu6, "hardswish": F.hardswish}


class _Conv2d(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        layer: Any = self
        if len(layer.padding) == 4 and not isinstance(layer.padding, str):
            top, bottom, left, right = layer.padding
            y = F.conv2d(
                F.pad(input, (left, right, top, bottom)), weight, bias, self.stride, 0, self.dilation, self.groups
            )
        else:
            y = super()._conv_forward(input, weight, bias)
        y = _ACTIVATIONS[getattr(layer, "activation", None)](y)
        pool = getattr(layer, "pool", None)
        return y if pool is None else F.max_pool2d(y, pool)


class _Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        activation: Any = getattr(self, "activation", None)
        return _ACTIVATIONS[activation](super().forward(input))


class _BatchNorm2d(nn.BatchNorm2d):
    def forward(self, input: Tensor, residual: Tensor | None = None) -> Tensor:
        y = super().forward(input)
        activation: Any = getattr(self, "activation", None)
        return _ACTIVATIONS[activation](y if residual is None else y + residual)


_THEIRS: Final[dict[str, type[nn.Module]]] = {
    "Conv2d": _Conv2d,
    "Linear": _Linear,
    "BatchNorm2d": _BatchNorm2d,
    "MaxPool2d": nn.MaxPool2d,
    "AvgPool2d": nn.AvgPool2d,
    "AdaptiveAvgPool2d": nn.AdaptiveAvgPool2d,
}


def in_pytorch(net: nn.Module) -> nn.Module:
    """A copy with the same weights under the same names, in which no layer is ours any more.

    Raises InputError naming a layer for which PyTorch's is not known here.

    >>> from hapgop.nn import Conv2d
    >>> layer = Conv2d(3, 6, 5, activation="relu", pool=2)
    >>> x = layer.weight.new_ones(1, 3, 32, 32)
    >>> bool((in_pytorch(layer)(x) - layer(x)).abs().max() < 1e-5)
    True
    """
    copy = deepcopy(net)
    for name, layer in copy.named_modules():
        kind = type(layer)
        if kind.__module__.startswith("hapgop.nn.modules"):
            if kind.__name__ not in _THEIRS:
                raise InputError(f"layer {name!r} is a {kind.__name__}, for which this benchmark knows no other side")
            # Ours are subclasses of PyTorch's with the same state: another class is all the difference.
            layer.__class__ = _THEIRS[kind.__name__]
    return copy
