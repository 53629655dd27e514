import random as chance

import numpy as np
import pytest
import torch
from torch import nn

from hapgop.errors import InputError
from hapgop.explain import effective_field, opened, receptive_field

from .random_nets import brute_force, random_net


@pytest.mark.parametrize("seed", range(200))
def test_fields_are_the_pixels_with_a_gradient(seed):
    random = chance.Random(seed)
    torch.manual_seed(seed)
    size = random.choice([13, 16, 20])
    net, channels = random_net(random, size)
    image = torch.rand(1, channels, size, size)
    seen = opened(net, image)
    leaves = {name: m for name, m in net.named_modules() if not list(m.children()) and name in seen.nodes}
    for _ in range(4):
        layer = random.choice(sorted(leaves))
        c, h, w = seen.sizes[layer]
        unit = random.randrange(c), random.choice([0, h // 2, h - 1]), random.randrange(w)
        mask = receptive_field(seen, image, layer, unit[1], unit[2], unit[0]).mask
        assert np.array_equal(mask, brute_force(net, image, leaves[layer], unit)), (layer, unit)


def test_a_field_by_hand():
    # 12 pixels, a 3-tap filter with dilation 2 and padding 1, then stride 2: unit 0 reads -1, 1, 3.
    net = nn.Sequential(nn.Conv2d(1, 1, (1, 3), stride=(1, 2), padding=(0, 1), dilation=(1, 2)))
    field = receptive_field(net, np.zeros((1, 1, 12)), "0", 0, 0)
    assert np.flatnonzero(field.mask[0]).tolist() == [1, 3]
    assert field.box == (0, 1, 1, 4)
    assert field.span == (0, -1, 1, 4)
    assert field.padding == pytest.approx(1 / 5)


def test_behind_a_flatten_everything_is_seen():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2 * 36, 3))
    assert receptive_field(net, np.zeros((1, 8, 8)), "2", 0, 0).mask.all()
    one = receptive_field(net, np.zeros((1, 8, 8)), "1", 0, 0, oc=7)
    assert one.box == (1, 1, 4, 4), "feature 7 of the flattened map is its row 1, column 1"


def test_a_channel_sees_what_its_group_sees():
    wide, narrow = nn.Conv2d(2, 2, 3, padding=1, groups=2), nn.Conv2d(2, 2, 1)
    net = nn.Sequential(wide, narrow)
    assert receptive_field(net, np.zeros((2, 8, 8)), "1", 4, 4).mask.sum() == 9


def test_the_effective_field_lies_in_the_field_and_is_the_gradient():
    net = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1))
    image = np.random.default_rng(0).normal(size=(1, 9, 9)).astype(np.float32)
    strength = effective_field(net, image, "2", 1, 4, 4)
    inside = receptive_field(net, image, "2", 4, 4).mask
    assert strength.shape == (9, 9)
    assert (strength[~inside] == 0).all()
    assert (strength[inside] > 0).any()
    x = torch.from_numpy(image)[None].requires_grad_()
    (wanted,) = torch.autograd.grad(net(x)[0, 1, 4, 4], x)
    np.testing.assert_allclose(strength, wanted[0, 0].abs().numpy(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("unit", [(2, 0, 0), (0, 9, 0), (0, 0, -1)])
def test_a_unit_that_there_is_not(unit):
    net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1))
    with pytest.raises(InputError, match="2 channels of 9 rows and 9 columns"):
        receptive_field(net, np.zeros((1, 9, 9)), "0", unit[1], unit[2], unit[0])


def test_a_layer_that_there_is_not():
    with pytest.raises(InputError, match=r"no layer called 'x'\. Its layers: 0\."):
        receptive_field(nn.Sequential(nn.ReLU()), np.zeros((1, 9, 9)), "x", 0, 0)
