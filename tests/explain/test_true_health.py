"""What is said of filters that only look alike, and of maps that say nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from hapgop.explain import filter_health, health_of_all
from hapgop.explain.opened import Opened, opened

IMAGES = [np.random.default_rng(k).random((2, 6, 6)).astype(np.float32) for k in range(3)]


def health(net, images=IMAGES):
    return filter_health(opened(net, images[0]), images, "0")


def filled(net, *values):
    with torch.no_grad():
        for number, value in enumerate(values):
            net[0].weight[number] = value
        net[0].bias.zero_()
    return net


def test_equal_filters_of_two_groups_read_different_channels():
    depthwise = filled(nn.Sequential(nn.Conv2d(2, 2, 3, groups=2), nn.ReLU()), 1.0, 1.0)
    assert health(depthwise).duplicates == ()
    multiplied = filled(nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.ReLU()), 1.0, 1.0, 1.0, -1.0)
    assert health(multiplied).duplicates == ((0, 1),)


def test_a_map_that_is_one_number_is_dead_without_a_relu_too():
    plain = filled(nn.Sequential(nn.Conv2d(2, 3, 3)), 0.0, -1.0, 1.0)
    found = health(plain)
    assert (found.dead, found.still, found.rectified) == ((0,), (0,), False)


def test_a_bias_alone_is_dead_though_it_is_above_zero():
    net = filled(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), 0.0, -1.0, 1.0)
    with torch.no_grad():
        net[0].bias[0] = 2
    found = health(net)
    assert (found.dead, found.still, found.rectified) == ((0, 1), (0,), True)


@pytest.mark.parametrize(
    "between", [[nn.MaxPool2d(2)], [nn.AvgPool2d(2), nn.BatchNorm2d(2)], [nn.Dropout2d(), nn.Identity()]]
)
def test_a_relu_is_found_behind_what_lies_between(between):
    net = filled(nn.Sequential(nn.Conv2d(2, 2, 3), *between, nn.ReLU()).eval(), 1.0, -1.0)
    found = health(net)
    assert (found.activation, found.dead, found.rectified) == (str(len(between) + 1), (1,), True)


def test_without_an_activation_the_convolution_or_its_batch_norm_is_watched():
    plain = nn.Sequential(nn.Conv2d(2, 2, 3), nn.MaxPool2d(2))
    normed = nn.Sequential(nn.Conv2d(2, 2, 3), nn.BatchNorm2d(2), nn.MaxPool2d(2)).eval()
    assert [(found.activation, found.rectified) for found in map(health, (plain, normed))] == [
        ("0", False), ("1", False),
    ]  # fmt: skip


def test_pictures_without_detail_condemn_no_filter():
    grey = [np.stack([np.full((6, 6), 0.2, np.float32), np.full((6, 6), 0.4, np.float32)])]
    assert health(filled(nn.Sequential(nn.Conv2d(2, 2, 3)), 1.0, -1.0), grey).dead == ()


def test_all_convolutions_are_judged_by_one_run_an_image(monkeypatch):
    torch.manual_seed(0)
    net = opened(nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3), nn.Sigmoid()), IMAGES[0])
    wanted = [filter_health(net, IMAGES, layer) for layer in ("0", "2")]
    runs = []
    monkeypatch.setattr(Opened, "maps", lambda net, x, maps=Opened.maps: runs.append(1) or maps(net, x))
    assert health_of_all(net, IMAGES, ["0", "2"]) == wanted
    assert len(runs) == len(IMAGES)
