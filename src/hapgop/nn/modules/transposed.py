"""Transposed convolution layers: those of torch.nn, computed by ours."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from hapgop.nn import functional
from hapgop.nn.modules.naming import named


class ConvTranspose1d(nn.ConvTranspose1d):
    """`torch.nn.ConvTranspose1d`, computed by `hapgop.nn.functional.conv_transpose1d`.

    >>> ConvTranspose1d(6, 3, 5)(torch.ones(1, 6, 28)).shape
    torch.Size([1, 3, 32])
    """

    @named
    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return functional.conv_transpose1d(input, *_arguments(self, input, output_size, 1))


class ConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d`, computed by `hapgop.nn.functional.conv_transpose2d`.

    >>> ConvTranspose2d(6, 3, 5)(torch.ones(1, 6, 28, 28)).shape
    torch.Size([1, 3, 32, 32])
    """

    @named
    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return functional.conv_transpose2d(input, *_arguments(self, input, output_size, 2))


class ConvTranspose3d(nn.ConvTranspose3d):
    """`torch.nn.ConvTranspose3d`, computed by PyTorch.

    >>> ConvTranspose3d(6, 3, 5)(torch.ones(1, 6, 4, 4, 4)).shape
    torch.Size([1, 3, 8, 8, 8])
    """

    @named
    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return functional.conv_transpose3d(input, *_arguments(self, input, output_size, 3))


def _arguments(
    layer: ConvTranspose1d | ConvTranspose2d | ConvTranspose3d,
    x: Tensor,
    output_size: Sequence[int] | None,
    axes: int,
) -> tuple[Any, ...]:
    size = None if output_size is None else list(output_size)
    stride, dilation = list(layer.stride), list(layer.dilation)
    padding: Any = layer.padding
    more = layer._output_padding(x, size, stride, padding, list(layer.kernel_size), axes, dilation)
    return layer.weight, layer.bias, layer.stride, padding, tuple(more), layer.groups, layer.dilation
