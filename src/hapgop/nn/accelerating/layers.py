"""The classes that layers of `torch.nn` become: the same layers, computed by whichever is faster.

An object becomes one of them by its `__class__` alone, so that its parameters, hooks, name and place stay what they
were, wherever else in the model it is used.
"""

from collections.abc import Sequence
from typing import Any, Final

from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.nn import functional
from hapgop.nn.accelerating.choosing import chosen
from hapgop.nn.accelerating.norms import normed


class AcceleratedConv1d(nn.Conv1d):
    """A `torch.nn.Conv1d` that was accelerated."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        input, padding = padded(self, input)
        setting = (self.stride, padding, self.dilation, self.groups)
        return chosen((self,), "conv1d", functional.conv1d, F.conv1d, (input, weight, bias), setting)


class AcceleratedConv2d(nn.Conv2d):
    """A `torch.nn.Conv2d` that was accelerated."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        input, padding = padded(self, input)
        setting = (self.stride, padding, self.dilation, self.groups)
        return chosen((self,), "conv2d", functional.conv2d, F.conv2d, (input, weight, bias), setting)


class AcceleratedConvTranspose1d(nn.ConvTranspose1d):
    """A `torch.nn.ConvTranspose1d` that was accelerated."""

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        setting = _transposed(self, input, output_size, 1)
        tensors = (input, self.weight, self.bias)
        return chosen((self,), "conv_transpose1d", functional.conv_transpose1d, F.conv_transpose1d, tensors, setting)


class AcceleratedConvTranspose2d(nn.ConvTranspose2d):
    """A `torch.nn.ConvTranspose2d` that was accelerated."""

    def forward(self, input: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        setting = _transposed(self, input, output_size, 2)
        tensors = (input, self.weight, self.bias)
        return chosen((self,), "conv_transpose2d", functional.conv_transpose2d, F.conv_transpose2d, tensors, setting)


class AcceleratedMaxPool2d(nn.MaxPool2d):
    """A `torch.nn.MaxPool2d` that was accelerated."""

    def forward(self, input: Tensor) -> Any:
        setting = (self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices)
        return chosen((self,), "max_pool2d", functional.max_pool2d, F.max_pool2d, (input,), setting)


class AcceleratedAvgPool2d(nn.AvgPool2d):
    """A `torch.nn.AvgPool2d` that was accelerated."""

    def forward(self, input: Tensor) -> Tensor:
        setting = (
            self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad, self.divisor_override,
        )  # fmt: skip
        return chosen((self,), "avg_pool2d", functional.avg_pool2d, F.avg_pool2d, (input,), setting)


class AcceleratedAdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """A `torch.nn.AdaptiveAvgPool2d` that was accelerated."""

    def forward(self, input: Tensor) -> Tensor:
        name = "adaptive_avg_pool2d"
        setting = (self.output_size,)
        return chosen((self,), name, functional.adaptive_avg_pool2d, F.adaptive_avg_pool2d, (input,), setting)


class AcceleratedBatchNorm2d(nn.BatchNorm2d):
    """A `torch.nn.BatchNorm2d` that was accelerated: in training, for in eval mode it is PyTorch's."""

    def forward(self, input: Tensor) -> Tensor:
        return self.batch_normed((self,), input) if self.training else super().forward(input)

    def _check_input_dim(self, input: Any) -> None:
        if isinstance(input, Tensor):  # no tracer's stand-in, which has no dimensions to compare
            super()._check_input_dim(input)

    def batch_normed(self, layers: Sequence[nn.Module], input: Tensor, relu: bool = False) -> Tensor:
        """In training; `layers`: of whom it is the result, this one and a ReLU after it."""
        self._check_input_dim(input)
        share = 0.0 if self.momentum is None else self.momentum
        if self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:
                # The mean of all batches.
                share = 1.0 / float(self.num_batches_tracked)
        kept = (self.running_mean, self.running_var) if self.track_running_stats else (None, None)
        return normed(layers, input, kept, self.weight, self.bias, share, self.eps, relu)


LAYERS: Final[dict[type[nn.Module], type[nn.Module]]] = {
    nn.Conv1d: AcceleratedConv1d,
    nn.Conv2d: AcceleratedConv2d,
    nn.ConvTranspose1d: AcceleratedConvTranspose1d,
    nn.ConvTranspose2d: AcceleratedConvTranspose2d,
    nn.MaxPool2d: AcceleratedMaxPool2d,
    nn.AvgPool2d: AcceleratedAvgPool2d,
    nn.AdaptiveAvgPool2d: AcceleratedAdaptiveAvgPool2d,
    nn.BatchNorm2d: AcceleratedBatchNorm2d,
}


def padded(layer: Any, x: Tensor) -> tuple[Tensor, Any]:
    """x and the padding that is left to do: other paddings than zeros are made by PyTorch, before the layer."""
    if layer.padding_mode == "zeros":
        return x, layer.padding
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=layer.padding_mode), 0


def _transposed(layer: Any, x: Tensor, output_size: Sequence[int] | None, axes: int) -> tuple[Any, ...]:
    size = None if output_size is None else list(output_size)
    numbers = (list(layer.stride), list(layer.padding), list(layer.kernel_size), axes, list(layer.dilation))
    more = layer._output_padding(x, size, *numbers)
    return layer.stride, layer.padding, tuple(more), layer.groups, layer.dilation
