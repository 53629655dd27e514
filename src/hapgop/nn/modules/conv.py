"""Convolution layers: those of torch.nn, computed by ours."""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.nn import functional
from hapgop.nn.functional.arguments import Numbers, Padding, checked_activation, several, sides
from hapgop.nn.modules.naming import named

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]


class Conv1d(nn.Conv1d):
    """`torch.nn.Conv1d`, computed by `hapgop.nn.functional.conv1d`; padding='same' also with a stride.

    >>> Conv1d(3, 6, 5)(torch.ones(1, 3, 32)).shape
    torch.Size([1, 6, 28])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Padding = 0,
        dilation: Numbers = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kernel: Any = kernel_size
        step: Any = stride
        spread: Any = dilation
        rest = (groups, bias, padding_mode, device, dtype)
        super().__init__(in_channels, out_channels, kernel, step, _known(padding), spread, *rest)
        _restore(self, padding)

    @named
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolved(self, functional.conv1d, input, weight, bias)


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d`, computed by `hapgop.nn.functional.conv2d`.

    Beyond PyTorch's: padding='same' also with a stride, padding by side as (top, bottom, left, right), and
    `activation="relu"` and `pool=2` (the largest of each 2 x 2 pixels), computed together with the convolution.

    >>> Conv2d(3, 6, 5, activation="relu")(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 6, 28, 28])
    >>> Conv2d(3, 6, 5, activation="relu", pool=2)(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 6, 14, 14])
    """

    activation: str | None = None
    pool: tuple[int, int] | None = None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Padding = 0,
        dilation: Numbers = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
        *,
        activation: str | None = None,
        pool: Numbers | None = None,
    ) -> None:
        kernel: Any = kernel_size
        step: Any = stride
        spread: Any = dilation
        rest = (groups, bias, padding_mode, device, dtype)
        super().__init__(in_channels, out_channels, kernel, step, _known(padding), spread, *rest)
        _restore(self, padding)
        self.activation = checked_activation(activation)
        if pool is not None:
            rows, columns = several("pool", pool, 2)
            self.pool = (rows, columns)

    @named
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        function = functional.conv2d
        return _convolved(self, function, input, weight, bias, activation=self.activation, pool=self.pool)

    def extra_repr(self) -> str:
        text: str = super().extra_repr()
        for name in ("activation", "pool"):
            if getattr(self, name) is not None:
                text += f", {name}={getattr(self, name)!r}"
        return text


class Conv3d(nn.Conv3d):
    """`torch.nn.Conv3d`, computed by PyTorch and counted so; padding='same' also with a stride.

    >>> Conv3d(3, 6, 5)(torch.ones(1, 3, 8, 8, 8)).shape
    torch.Size([1, 6, 4, 4, 4])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Numbers,
        stride: Numbers = 1,
        padding: Padding = 0,
        dilation: Numbers = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: PaddingMode = "zeros",
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        kernel: Any = kernel_size
        step: Any = stride
        spread: Any = dilation
        rest = (groups, bias, padding_mode, device, dtype)
        super().__init__(in_channels, out_channels, kernel, step, _known(padding), spread, *rest)
        _restore(self, padding)

    @named
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolved(self, functional.conv3d, input, weight, bias)


Layer = Conv1d | Conv2d | Conv3d


def _known(padding: Padding) -> Any:
    # PyTorch's constructors refuse 'same' with a stride; here only the forward needs to know.
    return "valid" if padding == "same" else padding


def _restore(layer: Layer, padding: Padding) -> None:
    if padding == "same":
        layer.padding = "same"
        kernel, dilation = layer.kernel_size[::-1], layer.dilation[::-1]
        totals = [(k - 1) * d for k, d in zip(kernel, dilation, strict=True)]
        # What PyTorch's own forward would read; at stride 1 it is also ours.
        layer._reversed_padding_repeated_twice = [side for t in totals for side in (t // 2, t - t // 2)]


def _convolved(
    layer: Layer, function: Callable[..., Tensor], x: Tensor, w: Tensor, bias: Tensor | None, **more: Any
) -> Tensor:
    padding: Any = layer.padding
    if layer.padding_mode != "zeros":
        axes = len(layer.stride)
        each = sides(padding, x.shape[-axes:], layer.kernel_size, layer.stride, layer.dilation)
        # F.pad counts axes from the last.
        around = [side for a in range(2 * axes - 2, -1, -2) for side in each[a : a + 2]]
        x, padding = F.pad(x, around, layer.padding_mode), 0
    return function(x, w, bias, layer.stride, padding, layer.dilation, layer.groups, **more)
