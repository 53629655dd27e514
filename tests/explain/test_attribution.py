import numpy as np
import pytest
import torch
from torch import nn

from hapgop.errors import InputError
from hapgop.explain import (
    channels_that_mattered,
    costs,
    coverings,
    evidence,
    exciting,
    filter_health,
    opened,
    what_changes,
)


@pytest.fixture
def corner():
    """A net whose label 1 is the brightness of the top left quarter of a 12 x 12 image, by its channel 2."""
    net = nn.Sequential(nn.Conv2d(1, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 144, 2))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
        net[0].weight[2] = 1
        quarter = torch.zeros(4, 12, 12)
        quarter[2, :6, :6] = 1
        net[3].weight[1] = quarter.flatten()
        net[3].bias[0] = 34
    return net


@pytest.fixture
def white():
    return np.ones((1, 12, 12), np.float32)


@pytest.mark.parametrize("method", ["occlusion", "integrated"])
def test_evidence_lies_where_the_net_looks(corner, white, method):
    found = evidence(corner, white, method=method)
    assert (found.label, found.heat.shape, found.heat.dtype) == (1, (12, 12), np.float32)
    assert (found.heat[:6, :6] > 0).all()
    assert (found.heat[7:] == 0).all()
    assert (found.heat[:, 7:] == 0).all()


def test_integrated_gradients_share_out_the_whole_score(corner, white):
    assert evidence(corner, white, 1, "integrated").heat.sum() == pytest.approx(36, rel=1e-5)


def test_gradcam_takes_the_last_layer_that_shows_where(corner, white):
    found = evidence(corner, white, method="gradcam")
    assert found.layer == "0"
    assert found.heat.shape == (12, 12)
    deep = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Conv2d(2, 2, 3, stride=2), nn.Flatten(), nn.Linear(2 * 16, 2))
    assert evidence(deep, white, method="gradcam").layer == "0", "the second map has but 4 rows"


def test_the_channel_that_counts_is_named_first(corner, white):
    (first, *_) = channels_that_mattered(corner, white)
    assert (first.layer, first.channel, first.share) == ("0", 2, 36)


def test_covering_the_corner_changes_the_answer(corner, white):
    changes = what_changes(corner, white)
    assert changes
    assert all((one.was, one.label) == (1, 0) for one in changes)
    assert all(one.top < 6 and one.left < 6 for one in changes)
    places = len(coverings(*white.shape[1:]))
    parts = [one for first in range(0, places, 5) for one in what_changes(corner, white, first, 5)]
    assert tuple(parts) == changes


def test_a_mirror_image_has_a_say_in_what_changes(corner, white):
    left = white.copy()
    left[:, :, 6:] = 0
    assert what_changes(corner, left)
    assert what_changes(corner, left, mirror=True) == (), "the mean of both says 0, whatever is covered"
    with torch.no_grad():
        corner[3].bias[0] = 35
    assert all(one.left < 6 for one in what_changes(corner, white))
    assert any(one.left > 6 for one in what_changes(corner, white, mirror=True))


def test_what_there_is_not(corner, white):
    with pytest.raises(InputError, match="no method 'guess'"):
        evidence(corner, white, method="guess")
    with pytest.raises(InputError, match="labels 0 to 1"):
        evidence(corner, white, label=2)
    with pytest.raises(InputError, match="Grad-CAM needs one"):
        evidence(nn.Sequential(nn.Flatten(), nn.Linear(144, 2)), white, method="gradcam")
    with pytest.raises(InputError, match="no label to explain"):
        evidence(nn.Sequential(nn.Conv2d(1, 2, 3)), white)


def test_dead_duplicate_and_saturated_filters():
    net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=True), nn.ReLU())
    with torch.no_grad():
        net[0].bias.zero_()
        net[0].weight[0] = net[0].weight[1] * 3
        net[0].weight[2] = -1
        net[0].weight[3, :, 0, 0] = 5
    images = [np.random.default_rng(k).random((1, 6, 6)).astype(np.float32) for k in range(3)]
    health = filter_health(opened(net, images[0]), images, "0")
    assert health.activation == "1"
    assert 2 in health.dead
    assert 3 not in health.dead
    assert health.duplicates == ((0, 1),)
    shouting = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Sigmoid())
    with torch.no_grad():
        shouting[0].weight.zero_()
        shouting[0].bias.copy_(torch.tensor([30.0, 0.0]))
    assert filter_health(opened(shouting, images[0]), images, "0").saturated == (0,)
    with pytest.raises(InputError, match="of convolutions"):
        filter_health(opened(net, images[0]), images, "1")


def test_the_images_that_excite_a_channel_come_strongest_first(corner, white):
    spot = np.zeros((1, 12, 12), np.float32)
    spot[0, 3, 4] = 9
    found = exciting(opened(corner, white), [white, spot, 2 * white], "0", 2, top=2)
    assert [one.image for one in found] == [1, 2]
    assert (found[0].value, found[0].oh, found[0].ow, found[0].box) == (9, 3, 4, (3, 4, 4, 5))


def test_costs_are_counted_and_timed(corner, white):
    found = {cost.layer: cost for cost in costs(opened(corner, white), white, repeats=2)}
    assert found["0"].macs == 4 * 144
    assert found["0"].memory == 4 * 4 * 144
    assert found["0"].parameters == 4 * 8
    assert found["0"].algorithm is not None
    assert found["1"].algorithm is None
    assert all(cost.seconds > 0 for cost in found.values())
