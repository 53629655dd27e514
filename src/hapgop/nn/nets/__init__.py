"""The nets that ship: plain PyTorch modules made of our layers; their fully connected ends are PyTorch's own.

To add one: a file here with a class of (classes, input_shape) and its `smallest` image size, and a line in `_NETS`.
"""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Protocol

from torch import nn

from hapgop.errors import InputError
from hapgop.nn.nets.airbench import Airbench
from hapgop.nn.nets.cifar import Cifar
from hapgop.nn.nets.convnext import ConvNeXtTiny
from hapgop.nn.nets.digits import Digits
from hapgop.nn.nets.lenet5 import LeNet5
from hapgop.nn.nets.mobilenet_v2 import MobileNetV2
from hapgop.nn.nets.resnet import ResNet18, ResNet34, ResNet50
from hapgop.nn.nets.resnet_cifar import ResNet20, ResNet56
from hapgop.nn.nets.tinyvgg import TinyVGG
from hapgop.nn.nets.vgg import VGG11, VGG16, VGG11Norm, VGG16Norm

__all__ = ["NAMES", "build", "check", "default_for"]


class _Net(Protocol):
    smallest: int
    """Pixels in each direction of the smallest image that it takes."""

    def __call__(self, classes: int, input_shape: tuple[int, int, int]) -> nn.Module: ...


_NETS: Mapping[str, _Net] = {
    "digits": Digits,
    "lenet5": LeNet5,
    "tinyvgg": TinyVGG,
    "cifar": Cifar,
    "airbench": Airbench,
    "resnet20": ResNet20,
    "resnet56": ResNet56,
    "resnet18": ResNet18,
    "resnet34": ResNet34,
    "resnet50": ResNet50,
    "vgg11": VGG11,
    "vgg11_bn": VGG11Norm,
    "vgg16": VGG16,
    "vgg16_bn": VGG16Norm,
    "mobilenet_v2": MobileNetV2,
    "convnext_tiny": ConvNeXtTiny,
}

_LARGE = 48  # pixels: above, the first layers of "cifar" take minutes an epoch

NAMES: tuple[str, ...] = tuple(_NETS)


def build(name: str, *, classes: int, input_shape: tuple[int, int, int] = (3, 32, 32)) -> nn.Module:
    """A net by name, for images (c, h, w) and so many classes; weights as PyTorch's generator makes them.

    Raises InputError for a name that is unknown or an image that is too small for the net.

    >>> build("lenet5", classes=10, input_shape=(1, 28, 28))(torch.ones(1, 1, 28, 28)).shape
    torch.Size([1, 10])
    """
    if classes < 1 or len(input_shape) != 3 or min(input_shape) < 1:
        raise InputError(f"classes is {classes} and input_shape {input_shape}; wanted 1 or more, and (c, h, w)")
    check(name, input_shape[1:])
    return _NETS[name](classes, input_shape)


def check(name: str, size: tuple[int, int] | None = None) -> None:
    """Raises InputError for a name that is unknown, or a size (h, w) of images that is too small for the net.

    >>> check("lenet5", (28, 28))
    """
    if name not in _NETS:
        near = get_close_matches(name, NAMES, n=1)
        raise InputError(
            f"there is no net {name!r}{f'; did you mean {near[0]!r}?' if near else ''} ({', '.join(NAMES)})"
        )
    smallest = _NETS[name].smallest
    if size is not None and min(size) < smallest:
        fitting = [n for n, kind in _NETS.items() if min(size) >= kind.smallest]
        raise InputError(
            f"{name} wants images of at least {smallest} x {smallest} pixels, not {size[0]} x {size[1]}; "
            + (f"what fits them: {', '.join(fitting)}" if fitting else "no net here takes images so small")
        )


def default_for(input_shape: tuple[int, int, int]) -> str:
    """The net that is trained where none is named: by the size and the colours of the images (c, h, w).

    >>> default_for((1, 8, 8)), default_for((1, 28, 28)), default_for((3, 32, 32))
    ('digits', 'lenet5', 'cifar')
    >>> default_for((3, 128, 128))  # a tenth of the work of "cifar"
    'resnet20'
    """
    channels, height, width = input_shape
    side = min(height, width)
    if side < LeNet5.smallest:
        return "digits"
    if channels == 1 and side < _LARGE:
        return "lenet5"
    return "cifar" if side < _LARGE else "resnet20"
