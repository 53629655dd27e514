"""Nets whose layers are not what they seem: their steps go layer by layer, until they are."""

import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from hapgop.nn import TrainingProgram


class Frozen(nn.BatchNorm2d):
    """By its running statistics in training too."""

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


class FrozenBuffers(nn.Module):
    def __init__(self, channels):
        super().__init__()
        for name, value in (("weight", 2.0), ("bias", 1.0), ("running_mean", 0.5), ("running_var", 3.0)):
            self.register_buffer(name, torch.full((channels,), value))

    def forward(self, x):
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias)


class Clashing(nn.Module):
    """A call with the name of a layer that is not called."""

    def __init__(self):
        super().__init__()
        self.conv, self.dropout = nn.Conv2d(1, 2, 3), nn.Dropout(0.5)

    def forward(self, x):
        return F.dropout(self.conv(x), 0.5, training=False)


def behind_a_convolution(name, layer):
    return nn.Sequential(OrderedDict([("conv", nn.Conv2d(1, 2, 3)), (name, layer)]))


@pytest.mark.parametrize(
    "build",
    [
        lambda: behind_a_convolution("1", Frozen(2)),
        # The name that its call has in a trace.
        lambda: behind_a_convolution("batch_norm", Frozen(2)),
        lambda: behind_a_convolution("1", FrozenBuffers(2)),
        Clashing,
    ],
)
def test_a_call_with_a_mode_of_its_own(build):
    net, x = build(), torch.randn(2, 1, 8, 8)
    program, twin = TrainingProgram(net), copy.deepcopy(net)
    for _ in range(2):
        assert torch.equal(program(x), twin(x))
        assert "in a training step only layers have one: nn.BatchNorm2d, nn.Dropout" in program.reason
        assert all(map(torch.equal, net.buffers(), twin.buffers()))


def test_a_net_whose_sizes_come_with_its_first_call():
    net = nn.Sequential(nn.LazyConv2d(3, 3), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(2))
    program, x = TrainingProgram(net), torch.randn(2, 1, 8, 8)
    assert program(x).shape == (2, 2)
    assert "sizes are not known" in program.reason
    torch.testing.assert_close(program(x), copy.deepcopy(net)(x))
    assert program.reason is None
