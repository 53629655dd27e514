"""The box of a field where windows differ in size, and where the image ends."""

import numpy as np
from torch import nn

from hapgop.explain import receptive_field


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
