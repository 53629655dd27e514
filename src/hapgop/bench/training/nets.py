"""The nets whose training is measured, each with its images and batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from hapgop.errors import InputError
from hapgop.nn import Conv2d, nets

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


class _Cifar3(nn.Sequential):
    """Three 3x3 convolutions with bias, ReLU and pool, and a linear layer."""

    def __init__(self) -> None:
        super().__init__(
            Conv2d(3, 64, 3, padding=1, activation="relu", pool=2),
            Conv2d(64, 128, 3, padding=1, activation="relu", pool=2),
            Conv2d(128, 256, 3, padding=1, activation="relu", pool=2),
            nn.Flatten(),
            nn.Linear(256 * 4 * 4, _CLASSES),
        )


def _shipped(name: str, input_shape: tuple[int, int, int]) -> nn.Module:
    return nets.build(name, classes=_CLASSES, input_shape=input_shape)


NETS: Final[Mapping[str, TrainedNet]] = {
    net.name: net
    for net in (
        TrainedNet("lenet5", partial(_shipped, "lenet5", (1, 28, 28)), (1, 28, 28), 128),
        TrainedNet("cifar3", _Cifar3, (3, 32, 32), 128),
        TrainedNet("resnet20", partial(_shipped, "resnet20", (3, 32, 32)), (3, 32, 32), 128),
        TrainedNet("resnet18", partial(_shipped, "resnet18", (3, 224, 224)), (3, 224, 224), 16),
        TrainedNet("vgg11", partial(_shipped, "vgg11", (3, 224, 224)), (3, 224, 224), 16),
    )
}


def net_named(name: str) -> TrainedNet:
    """Raises InputError where there is none."""
    if name not in NETS:
        raise InputError(f"--case {name}: wanted is one of {', '.join(NETS)}")
    return NETS[name]
