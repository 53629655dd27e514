"""Layers in a row, as one: inside a `torch.nn.Sequential` it is known who reads what.

Only there, for a forward in Python may use a result twice, and what it does cannot be seen from outside.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules import module as torch_module

from hapgop.nn import functional
from hapgop.nn.accelerating.choosing import chosen
from hapgop.nn.accelerating.layers import AcceleratedBatchNorm2d, AcceleratedConv2d, AcceleratedMaxPool2d, padded
from hapgop.nn.plain import written_down


class AcceleratedSequential(nn.Sequential):
    """A `torch.nn.Sequential`, or a class that adds nothing to its forward, that was accelerated."""

    original: type[nn.Sequential] = nn.Sequential

    def forward(self, input: Any) -> Any:
        layers = list(self._modules.values())
        at = 0
        while at < len(layers):
            layer = layers[at]
            if type(layer) is AcceleratedBatchNorm2d and _normed_with_relu(layer, layers[at + 1 : at + 2], input):
                input = layer.batch_normed(layers[at : at + 2], input, relu=True)
                at += 2
                continue
            chain = _chain(layer, layers[at + 1 : at + 4]) if type(layer) is AcceleratedConv2d else None
            if chain is None:
                input = layer(input)
                at += 1
            else:
                input = _computed(chain, input)
                at += len(chain.layers)
        return input

    def __reduce_ex__(self, protocol: Any) -> Any:
        # The class is made when it is needed: pickle is told from what.
        return _blank, (self.original,), self.__getstate__()


class _Chain(NamedTuple):
    conv: AcceleratedConv2d
    relu: bool
    pool: tuple[int, int] | None
    layers: tuple[nn.Module, ...]


_classes: Final[dict[type[nn.Sequential], type[AcceleratedSequential]]] = {nn.Sequential: AcceleratedSequential}


def sequential_class(original: type[nn.Sequential]) -> type[AcceleratedSequential]:
    """What a sequential of this class becomes."""
    if original not in _classes:
        name = f"Accelerated{original.__name__}"
        _classes[original] = type(name, (AcceleratedSequential, original), {"original": original})
    return _classes[original]


def _blank(original: type[nn.Sequential]) -> nn.Module:
    return nn.Module.__new__(sequential_class(original))


def _chain(conv: AcceleratedConv2d, after: Sequence[nn.Module | None]) -> _Chain | None:
    """The convolution with what follows it, if anything that can be done in one does."""
    if written_down() or torch_module._has_any_global_hook() or heard(conv):
        return None
    place, relu, pool = 0, False, None
    if place < len(after) and type(after[place]) is nn.ReLU and not heard(after[place]):
        relu, place = True, place + 1
    if place < len(after) and type(after[place]) is AcceleratedMaxPool2d and not heard(after[place]):
        pool = _windows(after[place])
        # The way back of all three reads what came out: where that is written over, it would have to be made anew.
        written = relu and place + 1 < len(after) and getattr(after[place + 1], "inplace", False)
        pool = None if written else pool
        place += pool is not None
    return _Chain(conv, relu, pool, (conv, *filter(None, after[:place]))) if place else None


def _normed_with_relu(norm: nn.BatchNorm2d, after: Sequence[nn.Module | None], x: Any) -> bool:
    # A tracer's stand-in meets each layer by itself.
    if not norm.training or not isinstance(x, Tensor) or written_down() or torch_module._has_any_global_hook():
        return False
    return len(after) == 1 and type(after[0]) is nn.ReLU and not heard(norm) and not heard(after[0])


def heard(layer: Any) -> bool:
    """Does someone listen to this layer alone, or is it called otherwise than its class says?"""
    if "forward" in layer.__dict__ or "_conv_forward" in layer.__dict__:
        return True
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _windows(pool: Any) -> tuple[int, int] | None:
    """The windows of a pool whose windows lie side by side; None of others."""
    rows, columns, padding, dilation = (
        tuple(value) if isinstance(value, tuple | list) else (value, value)
        for value in (pool.kernel_size, pool.stride, pool.padding, pool.dilation)
    )
    plain = padding == (0, 0) and dilation == (1, 1)
    return rows if rows == columns and plain and not pool.ceil_mode and not pool.return_indices else None


def _computed(chain: _Chain, x: Tensor) -> Any:
    conv = chain.conv
    x, padding = padded(conv, x)
    setting = (conv.stride, padding, conv.dilation, conv.groups, chain.relu, chain.pool)
    name = "conv2d" + "+relu" * chain.relu + "+max_pool2d" * (chain.pool is not None)
    return chosen(chain.layers, name, _together, _apart, (x, conv.weight, conv.bias), setting)


def _together(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, relu: bool,
    pool: tuple[int, int] | None,
) -> Tensor:  # fmt: skip
    activation = "relu" if relu else None
    return functional.conv2d(x, w, bias, stride, padding, dilation, groups, activation=activation, pool=pool)


def _apart(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, relu: bool,
    pool: tuple[int, int] | None,
) -> Tensor:  # fmt: skip
    y = F.conv2d(x, w, bias, stride, padding, dilation, groups)
    y = F.relu(y, inplace=True) if relu else y
    return y if pool is None else F.max_pool2d(y, pool)
