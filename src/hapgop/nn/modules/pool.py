"""Pooling layers: those of torch.nn, computed by ours."""

from typing import Any

from torch import Tensor, nn

from hapgop.nn import functional
from hapgop.nn.modules.naming import named


class MaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d`, computed by `hapgop.nn.functional.max_pool2d`.

    >>> MaxPool2d(2)(torch.ones(1, 6, 28, 28)).shape
    torch.Size([1, 6, 14, 14])
    """

    # With return_indices a pair, as PyTorch's, which declares it no better.
    @named
    def forward(self, input: Tensor) -> Any:
        kernel: Any = self.kernel_size
        stride: Any = self.stride
        padding: Any = self.padding
        dilation: Any = self.dilation
        rest = (self.ceil_mode, self.return_indices)
        return functional.max_pool2d(input, kernel, stride, padding, dilation, *rest)


class AvgPool2d(nn.AvgPool2d):
    """`torch.nn.AvgPool2d`, computed by `hapgop.nn.functional.avg_pool2d`.

    >>> AvgPool2d(2)(torch.ones(1, 6, 28, 28)).shape
    torch.Size([1, 6, 14, 14])
    """

    @named
    def forward(self, input: Tensor) -> Tensor:
        kernel: Any = self.kernel_size
        stride: Any = self.stride
        padding: Any = self.padding
        rest = (self.ceil_mode, self.count_include_pad, self.divisor_override)
        return functional.avg_pool2d(input, kernel, stride, padding, *rest)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """`torch.nn.AdaptiveAvgPool2d`, computed by `hapgop.nn.functional.adaptive_avg_pool2d`.

    >>> AdaptiveAvgPool2d(1)(torch.ones(1, 6, 28, 28)).shape
    torch.Size([1, 6, 1, 1])
    """

    @named
    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(input, self.output_size)
