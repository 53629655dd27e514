"""MobileNetV2: depthwise convolutions between 1x1 ones, for little work."""

from torch import Tensor, nn

from hapgop.nn.modules import AdaptiveAvgPool2d, Conv2d

# expansion, channels out, blocks, stride of the first
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
_LAST = 1280


class InvertedResidual(nn.Module):
    """1x1 to `expansion` times as many channels, 3x3 within each, 1x1 back; added to the input where sizes agree."""

    def __init__(self, channels: int, out: int, expansion: int, stride: int) -> None:
        super().__init__()
        self.added = stride == 1 and channels == out
        wide = channels * expansion
        parts: list[nn.Module] = [_normed(channels, wide, 1)] if expansion != 1 else []
        parts += [_normed(wide, wide, 3, stride, wide), Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out)]
        self.conv = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.added else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 with the names that torchvision's weights have.

    Source: Sandler, Howard, Zhu, Zhmoginov and Chen, "MobileNetV2: inverted residuals and linear bottlenecks", 2018.

    >>> MobileNetV2(10, (3, 64, 64)).eval()(torch.ones(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    smallest = 32

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        parts: list[nn.Module] = [_normed(input_shape[0], 32, 3, 2)]
        channels = 32
        for expansion, out, blocks, stride in _STAGES:
            for number in range(blocks):
                parts.append(InvertedResidual(channels, out, expansion, stride if number == 0 else 1))
                channels = out
        parts.append(_normed(channels, _LAST, 1))
        self.features = nn.Sequential(*parts)
        self.average = AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(_LAST, classes))
        for layer in self.modules():
            if isinstance(layer, Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
            elif isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.flatten(self.average(self.features(x))))


def _normed(channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = Conv2d(channels, out, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out), nn.ReLU6(True))
