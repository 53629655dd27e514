"""Residual nets for photographs: a stem, four stages of blocks, and a mean over what is left of the image."""

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from hapgop.nn.modules import AdaptiveAvgPool2d, BatchNorm2d, Conv2d, MaxPool2d


class _Block(nn.Module):
    """What two kinds of block share: `grow` times as many channels come out, and the input is added to them."""

    grow: ClassVar[int]
    downsample: nn.Module | None

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.convolve(channels, width, stride)
        out = width * self.grow
        # After the convolutions: the order of the state dict is torchvision's.
        self.downsample = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(Conv2d(channels, out, 1, stride, bias=False), BatchNorm2d(out))

    def convolve(self, channels: int, width: int, stride: int) -> None:
        raise NotImplementedError

    def beside(self, x: Tensor) -> Tensor:
        return x if self.downsample is None else self.downsample(x)


class Basic(_Block):
    """Two 3x3 convolutions."""

    grow = 1

    def convolve(self, channels: int, width: int, stride: int) -> None:
        self.conv1 = Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width, activation="relu")
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width, activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        return self.bn2(self.conv2(y), self.beside(x))


class Bottleneck(_Block):
    """1x1 to fewer channels, 3x3 (with the stride, as torchvision and timm have it), 1x1 to four times as many."""

    grow = 4

    def convolve(self, channels: int, width: int, stride: int) -> None:
        self.conv1 = Conv2d(channels, width, 1, bias=False)
        self.bn1 = BatchNorm2d(width, activation="relu")
        self.conv2 = Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width, activation="relu")
        self.conv3 = Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = BatchNorm2d(4 * width, activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x))
        y = self.bn2(self.conv2(y))
        return self.bn3(self.conv3(y), self.beside(x))


class ResNet(nn.Module):
    """A residual net with the names that torchvision's weights have.

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015.
    """

    smallest = 32
    block: ClassVar[type[_Block]] = Basic
    depths: ClassVar[Sequence[int]]

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = Conv2d(input_shape[0], 64, 7, 2, padding=3, bias=False)
        self.bn1 = BatchNorm2d(64, activation="relu")
        self.maxpool = MaxPool2d(3, 2, 1)
        grow = self.block.grow
        self.layer1 = self._stage(64, 64, self.depths[0], 1)
        self.layer2 = self._stage(64 * grow, 128, self.depths[1], 2)
        self.layer3 = self._stage(128 * grow, 256, self.depths[2], 2)
        self.layer4 = self._stage(256 * grow, 512, self.depths[3], 2)
        self.avgpool = AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(512 * grow, classes)
        for layer in self.modules():
            if isinstance(layer, Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")

    def _stage(self, channels: int, width: int, depth: int, stride: int) -> nn.Sequential:
        first = self.block(channels, width, stride)
        return nn.Sequential(first, *(self.block(width * self.block.grow, width, 1) for _ in range(depth - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(self.flatten(self.avgpool(x)))


class ResNet18(ResNet):
    """ResNet-18.

    >>> ResNet18(10, (3, 64, 64)).eval()(torch.ones(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    depths = (2, 2, 2, 2)


class ResNet34(ResNet):
    """ResNet-34."""

    depths = (3, 4, 6, 3)


class ResNet50(ResNet):
    """ResNet-50."""

    block = Bottleneck
    depths = (3, 4, 6, 3)
