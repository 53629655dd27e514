"""Convolution, pooling and linear maps: names, arguments and defaults of `torch.nn.functional`.

What is not ours to compute (other devices, other dtypes, three dimensions) goes to the function of that name there,
and is counted in `hapgop.nn.report()`.
"""

from hapgop.nn.functional.conv import (
    conv1d,
    conv2d,
    conv3d,
    conv_transpose1d,
    conv_transpose2d,
    conv_transpose3d,
)
from hapgop.nn.functional.linear import linear
from hapgop.nn.functional.norm import batch_norm
from hapgop.nn.functional.pool import adaptive_avg_pool2d, avg_pool2d, max_pool2d

__all__ = [
    "adaptive_avg_pool2d",
    "avg_pool2d",
    "batch_norm",
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose1d",
    "conv_transpose2d",
    "conv_transpose3d",
    "linear",
    "max_pool2d",
]
