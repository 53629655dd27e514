"""ConvNeXt: a convolutional net that took over the habits of transformers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hapgop.nn.modules import AdaptiveAvgPool2d, Conv2d

_DEPTHS = (3, 3, 9, 3)
_WIDTHS = (96, 192, 384, 768)
_EPS = 1e-6


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of each pixel, (n, c, h, w) to the same."""

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)


class Mlp(nn.Module):
    """Two linear layers over the last axis, GELU between them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """A 7x7 convolution within each channel, then norm and two linear layers over the channels of each pixel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((width,), 1e-6))
        self.conv_dw = Conv2d(width, width, 7, padding=3, groups=width)
        self.norm = nn.LayerNorm(width, eps=_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv_dw(x).permute(0, 2, 3, 1)
        return x + (self.mlp(self.norm(y)) * self.gamma).permute(0, 3, 1, 2)


class Stage(nn.Module):
    """Half the size (but in the first stage), then blocks."""

    def __init__(self, channels: int, width: int, depth: int) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if channels != width:
            self.downsample = nn.Sequential(ChannelNorm(channels, eps=_EPS), Conv2d(channels, width, 2, 2))
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.downsample(x))


class Head(nn.Module):
    """The mean over what is left of the image, a norm, and the classes."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.average = AdaptiveAvgPool2d(1)
        self.norm = ChannelNorm(width, eps=_EPS)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.flatten(self.norm(self.average(x))))


class ConvNeXtTiny(nn.Module):
    """ConvNeXt-T with the names that timm's weights have.

    Source: Liu, Mao, Wu, Feichtenhofer, Darrell and Xie, "A ConvNet for the 2020s", 2022.

    >>> ConvNeXtTiny(10, (3, 64, 64)).eval()(torch.ones(1, 3, 64, 64)).shape
    torch.Size([1, 10])
    """

    smallest = 32

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        first = _WIDTHS[0]
        self.stem = nn.Sequential(Conv2d(input_shape[0], first, 4, 4), ChannelNorm(first, eps=_EPS))
        before = (first, *_WIDTHS)
        self.stages = nn.Sequential(*(Stage(*sizes) for sizes in zip(before, _WIDTHS, _DEPTHS, strict=False)))
        self.head = Head(_WIDTHS[-1], classes)
        for layer in self.modules():
            if isinstance(layer, Conv2d | nn.Linear):
                nn.init.trunc_normal_(layer.weight, std=0.02)
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)))
