"""Pooling layers: those of `torch.nn`, computed by our operators."""

from torch import Tensor, nn

from hapgop.nn import functional


class MaxPool2d(nn.MaxPool2d):
    """`torch.nn.MaxPool2d`, computed by hapgop.

    >>> MaxPool2d(2)(torch.ones(1, 3, 8, 8)).shape
    torch.Size([1, 3, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        setting = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)
        y: Tensor = functional.max_pool2d(input, *setting)  # with return_indices: (values, indices), as PyTorch's
        return y


class AvgPool2d(nn.AvgPool2d):
    """`torch.nn.AvgPool2d`, computed by hapgop.

    >>> AvgPool2d(2)(torch.ones(1, 3, 8, 8)).shape
    torch.Size([1, 3, 4, 4])
    """

    def forward(self, input: Tensor) -> Tensor:
        setting = (self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
        return functional.avg_pool2d(input, *setting, self.divisor_override)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """`torch.nn.AdaptiveAvgPool2d`, computed by hapgop where the output size divides the input's.

    >>> AdaptiveAvgPool2d(1)(torch.ones(1, 3, 8, 8)).shape
    torch.Size([1, 3, 1, 1])
    """

    def forward(self, input: Tensor) -> Tensor:
        return functional.adaptive_avg_pool2d(input, self.output_size)
