"""The layers of torch.nn that are ours to compute: same names, arguments, defaults and state_dict keys."""

from hapgop.nn.modules.conv import Conv1d, Conv2d, Conv3d
from hapgop.nn.modules.linear import Linear
from hapgop.nn.modules.norm import BatchNorm2d
from hapgop.nn.modules.pool import AdaptiveAvgPool2d, AvgPool2d, MaxPool2d
from hapgop.nn.modules.transposed import ConvTranspose1d, ConvTranspose2d, ConvTranspose3d

__all__ = [
    "AdaptiveAvgPool2d",
    "AvgPool2d",
    "BatchNorm2d",
    "Conv1d",
    "Conv2d",
    "Conv3d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "ConvTranspose3d",
    "Linear",
    "MaxPool2d",
]
