"""The net of the CIFAR-10 speed records, with ReLU: three stages of two convolutions behind a whitening layer."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from hapgop.nn.modules import BatchNorm2d, Conv2d, MaxPool2d

_WIDTHS = (64, 256, 256)
# Patches whose covariance is enough to whiten by, and what is added to its eigenvalues: a patch with next to no
# variance in some direction must not be blown up to noise.
_EPSILON = 5e-4
# The net begins with answers near 0, so that its last layer is learned before it steers the others.
_ANSWERS = 0.25


class Stage(nn.Module):
    """Convolution, pool, normalisation, ReLU; convolution, normalisation, ReLU: the pool early, where it saves most."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv1 = Conv2d(channels, width, 3, padding=1, bias=False, pool=2)
        self.norm1 = BatchNorm2d(width, activation="relu")
        self.conv2 = Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = BatchNorm2d(width, activation="relu")
        for conv in (self.conv1, self.conv2):
            # At first a convolution hands its channels on, as far as they go.
            nn.init.dirac_(conv.weight.data[: conv.in_channels])
        for norm in (self.norm1, self.norm2):
            # Scales learn nothing that the next filters cannot.
            norm.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm2(self.conv2(self.norm1(self.conv1(x))))


class Airbench(nn.Module):
    """2x2 patches whitened by fixed filters, three stages (64, 256, 256 filters), and the largest of each map.

    The whitening filters are made by `initialise_from` from training images; training calls it once, before its
    first step.

    Source: Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, and the repository
    KellerJordan/cifar10-airbench; ours has ReLU for GELU.

    >>> Airbench(10, (3, 32, 32))(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 10])
    """

    smallest = 16
    # Answers near 0 have small gradients: by SGD, biases learn at so many times the rate of the last layer.
    bias_rate = 350.0

    def __init__(self, classes: int, input_shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, *sides = input_shape
        filters = 2 * 4 * channels
        # One row and column more, so that sides that are multiples of 8 are halved three times without a rest.
        self.whiten = Conv2d(channels, filters, 2, padding="same", activation="relu")
        self.whiten.weight.requires_grad_(False)
        widths = (filters, *_WIDTHS)
        self.stages = nn.Sequential(*(Stage(a, b) for a, b in pairwise(widths)))
        rows, columns = (side // 8 for side in sides)
        self.largest = MaxPool2d((rows, columns))
        self.flatten = nn.Flatten()
        self.classify = nn.Linear(widths[-1], classes, bias=False)

    @torch.no_grad()
    def initialise_from(self, images: Tensor) -> None:
        """The whitening filters of these images (n, c, h, w): eigenvectors of their 2x2 patches' covariance, and their
        negatives, each divided by the root of its eigenvalue; of a net that has been trained, those that it has."""
        half = len(self.whiten.weight) // 2
        if torch.allclose(self.whiten.weight[:half], -self.whiten.weight[half:], rtol=1e-4):
            return  # what lies behind has learned to read these
        patches = images.unfold(2, 2, 1).unfold(3, 2, 1).transpose(1, 3).reshape(-1, 4 * images.shape[1]).double()
        patches = patches - patches.mean(0)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        filters = (vectors / (values + _EPSILON).sqrt()).T.flip(0).reshape(-1, *self.whiten.weight.shape[1:])
        self.whiten.weight.copy_(torch.cat([filters, -filters]))
        self.whiten.bias.zero_()  # type: ignore[union-attr]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.whiten(x))
        return self.classify(self.flatten(self.largest(x))) * _ANSWERS
