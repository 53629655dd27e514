"""The nets whose training is measured, each with its images and batch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from hapgop.errors import InputError
from hapgop.nn import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, MaxPool2d, nets

_CLASSES = 10


@dataclass(frozen=True, slots=True)
class TrainedNet:
    """A net by name: `build` makes it; images are (c, h, w)."""

    name: str
    build: Callable[[], nn.Module]
    input_shape: tuple[int, int, int]
    batch: int

    def made(self) -> nn.Module:
        """The net with the weights that it always starts from; nothing is dropped, so that losses can be compared."""
        torch.manual_seed(1)
        net = self.build()
        for layer in net.modules():
            if isinstance(layer, nn.Dropout):
                layer.p = 0.0
        return net

    def images(self, batch: int) -> tuple[Tensor, Tensor]:
        """Seeded images and labels."""
        generator = torch.Generator().manual_seed(2)
        x = torch.randn(batch, *self.input_shape, generator=generator)
        return x, torch.randint(0, _CLASSES, (batch,), generator=generator)


class _Plain(nn.Sequential):
    """3x3 convolutions with ReLU, "M" for a 2x2 max-pool, and linear layers."""

    def __init__(self, channels: int, layers: Sequence[int | str], end: Sequence[int]) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (width, after) in enumerate(zip(layers, [*layers[1:], ""], strict=True)):
            if isinstance(width, int):
                pool = 2 if after == "M" else None
                parts[f"conv{number}"] = Conv2d(channels, width, 3, padding=1, activation="relu", pool=pool)
                channels = width
        parts["flatten"] = nn.Flatten()
        for number, (before, features) in enumerate(zip(end, end[1:], strict=False)):
            parts[f"linear{number}"] = nn.Linear(before, features)
            if number < len(end) - 2:
                parts[f"relu{number}"] = nn.ReLU(inplace=True)
        super().__init__(parts)
        for layer in self.modules():
            if isinstance(layer, Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


class _Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width, activation="relu")
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width, activation="relu")
        self.downsample = None
        if stride != 1 or channels != width:
            self.downsample = nn.Sequential(Conv2d(channels, width, 1, stride, bias=False), BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.bn1(self.conv1(x)))
        return self.bn2(y, x if self.downsample is None else self.downsample(x))


class _ResNet18(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = Conv2d(3, 64, 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64, activation="relu")
        self.maxpool = MaxPool2d(3, 2, 1)
        widths = (64, 64, 128, 256, 512)
        blocks = [
            block
            for before, width in zip(widths, widths[1:], strict=False)
            for block in (_Block(before, width, 1 if before == width else 2), _Block(width, width, 1))
        ]
        self.blocks = nn.Sequential(*blocks)
        self.average = AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512, _CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.maxpool(self.bn1(self.conv1(x))))
        return self.fc(self.flatten(self.average(x)))


def _shipped(name: str, input_shape: tuple[int, int, int]) -> nn.Module:
    return nets.build(name, classes=_CLASSES, input_shape=input_shape)


_THREE: Final = (64, "M", 128, "M", 256, "M")
_VGG11: Final = (64, "M", 128, "M", 256, 256, "M", 512, 512, "M", 512, 512, "M")

NETS: Final[Mapping[str, TrainedNet]] = {
    net.name: net
    for net in (
        TrainedNet("lenet5", partial(_shipped, "lenet5", (1, 28, 28)), (1, 28, 28), 128),
        TrainedNet("cifar3", lambda: _Plain(3, _THREE, (256 * 16, _CLASSES)), (3, 32, 32), 128),
        TrainedNet("resnet20", partial(_shipped, "resnet20", (3, 32, 32)), (3, 32, 32), 128),
        TrainedNet("resnet18", _ResNet18, (3, 224, 224), 16),
        TrainedNet("vgg11", lambda: _Plain(3, _VGG11, (512 * 49, 4096, 4096, _CLASSES)), (3, 224, 224), 16),
    )
}


def net_named(name: str) -> TrainedNet:
    """Raises InputError where there is none."""
    if name not in NETS:
        raise InputError(f"--net {name}: wanted is one of {', '.join(NETS)}")
    return NETS[name]
