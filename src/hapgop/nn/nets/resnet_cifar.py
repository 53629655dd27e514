"""Residual nets for CIFAR: 6n + 2 layers of 16, 32 and 64 filters."""

from torch import Tensor, nn

from hapgop.nn.modules import AdaptiveAvgPool2d, BatchNorm2d, Conv2d


class Block(nn.Module):
    """Two 3x3 convolutions around which the input is added; a 1x1 convolution where its size changes."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, width, 3, stride, padding=1, bias=False)
        self.bn1 = BatchNorm2d(width, activation="relu")
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = BatchNorm2d(width, activation="relu")
        self.shortcut: nn.Module = nn.Sequential()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(Conv2d(channels, width, 1, stride, bias=False), BatchNorm2d(width))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.bn1(self.conv1(x)))
        return self.bn2(y, self.shortcut(x))


class ResNetCifar(nn.Module):
    """`blocks` residual blocks in each of three stages.

    Source: He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2015, section 4.2, with projection
    shortcuts (option B) where the size changes.
    """

    smallest = 8
    blocks = 3

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.conv1 = Conv2d(input_shape[0], 16, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(16, activation="relu")
        self.layer1 = self._stage(16, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2)
        self.average = AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(64, classes)

    def _stage(self, channels: int, width: int, stride: int) -> nn.Sequential:
        first = Block(channels, width, stride)
        return nn.Sequential(first, *(Block(width, width, 1) for _ in range(self.blocks - 1)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn1(self.conv1(x))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.flatten(self.average(x)))


class ResNet20(ResNetCifar):
    """ResNet-20 for CIFAR.

    >>> ResNet20(10, (3, 32, 32))(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """


class ResNet56(ResNetCifar):
    """ResNet-56 for CIFAR."""

    blocks = 9
