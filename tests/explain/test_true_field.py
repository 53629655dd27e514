"""The box of a field where windows differ in size, and where the image ends."""

import numpy as np
from torch import nn

from hapgop.explain import opened, receptive_field


def test_behind_windows_of_unequal_size_the_span_is_what_is_seen():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d((3, 5)), nn.Conv2d(2, 1, 1))
    for oh in range(3):
        for ow in range(5):
            field = receptive_field(net, np.zeros((1, 16, 16)), "2", oh, ow)
            rows, columns = np.flatnonzero(field.mask.any(1)), np.flatnonzero(field.mask.any(0))
            assert field.box == field.span == (rows[0], columns[0], rows[-1] + 1, columns[-1] + 1)
            assert field.padding == 0


def test_windows_of_equal_size_keep_their_span():
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d((4, 4)))
    field = receptive_field(net, np.zeros((1, 16, 16)), "1", 0, 0)
    assert (field.box, field.span) == ((0, 0, 5, 5), (-1, -1, 5, 5))


class Gated(nn.Module):
    """A gate from the whole image on every channel, as in squeeze-and-excitation."""

    def __init__(self):
        super().__init__()
        self.conv, self.pool, self.gate = nn.Conv2d(1, 2, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Sigmoid()

    def forward(self, x):
        y = self.conv(x)
        return y * self.gate(self.pool(y))


def test_behind_a_gate_that_sees_everything_nothing_lies_in_the_padding():
    image = np.zeros((1, 16, 16))
    net = opened(Gated(), image)
    for unit in ((3, 3), (0, 0), (15, 8)):
        field = receptive_field(net, image, net.graph.output, *unit)
        assert (field.box, field.span, field.padding) == ((0, 0, 16, 16), (0, 0, 16, 16), 0)
    assert receptive_field(net, image, "conv", 0, 0).padding > 0


def test_behind_a_transposed_convolution_with_a_stride_the_span_is_what_is_seen():
    image = np.zeros((1, 16, 16))
    net = nn.Sequential(nn.Conv2d(1, 2, 2, 2), nn.ConvTranspose2d(2, 1, 3, 2, 1, output_padding=1))
    field = receptive_field(net, image, "1", 0, 0)
    assert (field.box, field.span, field.padding) == ((0, 0, 2, 2), (0, 0, 2, 2), 0)
    without = nn.Sequential(nn.ConvTranspose2d(1, 1, 3))
    field = receptive_field(without, image, "0", 0, 1)
    assert (field.box, field.span) == ((0, 0, 1, 2), (-2, -1, 1, 2))
