"""VGG: 3x3 convolutions in five blocks, a pool after each, and three wide layers."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from hapgop.nn.modules import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, MaxPool2d

_ELEVEN = ((64,), (128,), (256, 256), (512, 512), (512, 512))
_SIXTEEN = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


class VGG(nn.Module):
    """A VGG with the names that torchvision's weights have.

    Source: Simonyan and Zisserman, "Very deep convolutional networks for large-scale image recognition", 2014.
    """

    smallest = 32
    blocks: ClassVar[Sequence[Sequence[int]]] = _SIXTEEN
    norm = False
    hidden = 4096

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.features = _features(input_shape[0], self.blocks, self.norm)
        self.avgpool = AdaptiveAvgPool2d(7)
        self.flatten = nn.Flatten()
        wide = self.hidden
        self.classifier = nn.Sequential(
            nn.Linear(self.blocks[-1][-1] * 49, wide), nn.ReLU(True), nn.Dropout(),
            nn.Linear(wide, wide), nn.ReLU(True), nn.Dropout(),
            nn.Linear(wide, classes),
        )  # fmt: skip
        for layer in self.modules():
            if isinstance(layer, Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.avgpool(self.features(x))))


def _features(channels: int, blocks: Sequence[Sequence[int]], norm: bool) -> nn.Sequential:
    """Numbered as in torchvision, where ReLU and pool have numbers of their own; ours do both in the convolution."""
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    number = 0
    for widths in blocks:
        for place, width in enumerate(widths, 1):
            last = place == len(widths)
            if norm:
                parts[str(number)] = Conv2d(channels, width, 3, padding=1)
                parts[str(number + 1)] = BatchNorm2d(width, activation="relu")
            else:
                parts[str(number)] = Conv2d(channels, width, 3, padding=1, activation="relu", pool=2 if last else None)
            number += 3 if norm else 2
            channels = width
        if norm:
            parts[str(number)] = MaxPool2d(2)
        number += 1
    return nn.Sequential(parts)


class VGG11(VGG):
    """VGG-11.

    >>> VGG11(10, (3, 32, 32))(torch.ones(1, 3, 32, 32)).shape  # doctest: +SKIP
    torch.Size([1, 10])
    """

    blocks = _ELEVEN


class VGG11Norm(VGG11):
    """VGG-11 with batch norm."""

    norm = True


class VGG16(VGG):
    """VGG-16."""


class VGG16Norm(VGG):
    """VGG-16 with batch norm."""

    norm = True
