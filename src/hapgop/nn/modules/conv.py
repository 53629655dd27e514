"""Convolution layers: those of `torch.nn`, computed by our operators."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.nn import functional
from hapgop.nn.functional.arguments import checked_activation

Numbers = int | tuple[int, ...]


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d`, computed by hapgop.

    >>> Conv1d(3, 6, 5)(torch.ones(1, 3, 32)).shape
    torch.Size([1, 6, 28])
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        input, padding = _padded(self, input)
        return functional.conv1d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, computed by hapgop; `activation="relu"` fuses a ReLU into the convolution.

    Arguments, defaults, padding modes and state dict keys are those of `torch.nn.Conv2d`. `padding="same"` works with
    a stride too: ceil(size / stride) pixels, the smaller half of the padding before.

    >>> Conv2d(3, 6, 5, activation="relu")(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 6, 28, 28])
    """

    def __init__(self, *args: Any, activation: str | None = None, **kwargs: Any) -> None:
        # PyTorch's constructor refuses 'same' with a stride; the stride is given to it afterwards.
        stride = args[3] if len(args) > 3 else kwargs.get("stride", 1)
        padding = args[4] if len(args) > 4 else kwargs.get("padding", 0)
        strided_same = padding == "same" and stride not in (1, (1, 1))
        if strided_same:
            args, kwargs = (args[:3] + (1,) + args[4:], kwargs) if len(args) > 3 else (args, {**kwargs, "stride": 1})
        super().__init__(*args, **kwargs)
        if strided_same:
            self.stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
        self.activation = checked_activation(activation)

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        input, padding = _padded(self, input)
        setting = (self.stride, padding, self.dilation, self.groups)
        return functional.conv2d(input, weight, bias, *setting, activation=self.activation)

    def extra_repr(self) -> str:
        return super().extra_repr() + _activation_repr(self.activation)


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`: computed by PyTorch for now, and counted so."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        input, padding = _padded(self, input)
        return functional.conv3d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class ConvTranspose1d(nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d`, computed by hapgop.

    >>> ConvTranspose1d(6, 3, 5)(torch.ones(1, 6, 28)).shape
    torch.Size([1, 3, 32])
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _transposed(self, functional.conv_transpose1d, 1, input, output_size)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`, computed by hapgop: the gradient of a convolution by its input.

    >>> ConvTranspose2d(6, 3, 5)(torch.ones(1, 6, 28, 28)).shape
    torch.Size([1, 3, 32, 32])
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _transposed(self, functional.conv_transpose2d, 2, input, output_size)


class ConvTranspose3d(nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d`: computed by PyTorch for now, and counted so."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _transposed(self, functional.conv_transpose3d, 3, input, output_size)


def _padded(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> tuple[Tensor, Any]:
    """The input and the padding that is left to do: other paddings than zeros are put around it here."""
    if layer.padding_mode == "zeros":
        return x, layer.padding
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), 0


def _transposed(layer: Any, function: Any, axes: int, x: Tensor, output_size: list[int] | None) -> Tensor:
    if layer.padding_mode != "zeros":
        raise ValueError(f"Only zeros are known as padding_mode of {type(layer).__name__}, not {layer.padding_mode!r}")
    more = layer._output_padding(
        x, output_size, layer.stride, layer.padding, layer.kernel_size, axes, layer.dilation
    )
    result: Tensor = function(
        x, layer.weight, layer.bias, layer.stride, layer.padding, tuple(more), layer.groups, layer.dilation
    )
    return result


def _activation_repr(activation: str | None) -> str:
    return "" if activation is None else f", activation={activation!r}"


