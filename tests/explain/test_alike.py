"""Patches that look alike to a layer: found where they were put, compared by direction, and refused in words."""

import numpy as np
import pytest
import torch
from torch import nn

from hapgop import explain
from hapgop.errors import InputError


@pytest.fixture
def net():
    torch.manual_seed(0)
    return explain.opened(
        nn.Sequential(nn.Conv2d(1, 8, 3, bias=False), nn.Flatten(), nn.Linear(800, 2)), np.zeros((1, 12, 12))
    )


def with_patch(patch, top, left):
    image = np.zeros((1, 12, 12), np.float32)
    image[0, top : top + 3, left : left + 3] = patch
    return image


def test_the_same_patch_is_found_wherever_it_lies(net):
    random = np.random.default_rng(0)
    patch, others = random.normal(size=(3, 3)), random.normal(size=(3, 3, 3))
    images = [
        with_patch(others[0], 2, 2),
        with_patch(patch, 7, 4),
        with_patch(others[1], 5, 5),
        with_patch(2 * patch, 1, 6),
    ]
    found = explain.alike(net, with_patch(patch, 3, 5), images, "0", (3, 5))
    assert {(one.image, one.oh, one.ow) for one in found[:2]} == {(1, 7, 4), (3, 1, 6)}
    assert [one.similarity for one in found[:2]] == pytest.approx([1, 1], abs=1e-6)
    assert all(one.similarity < 0.999 for one in found[2:])
    assert next(one for one in found if one.image == 1).box == (7, 4, 10, 7)
    assert [one.similarity for one in found] == sorted((one.similarity for one in found), reverse=True)


def test_without_a_unit_it_is_the_strongest(net):
    image = with_patch(np.ones((3, 3)), 4, 4)
    image[0, 0:3, 0:3] = np.arange(9).reshape(3, 3)
    y = net.maps(image)["0"]
    oh, ow = np.unravel_index((y**2).sum(0).argmax(), (10, 10))
    assert explain.alike(net, image, [image], "0") == explain.alike(net, image, [image], "0", (int(oh), int(ow)))


def test_an_empty_image_is_like_nothing(net):
    found = explain.alike(net, with_patch(1, 4, 4), [np.zeros((1, 12, 12), np.float32)], "0", (4, 4))
    assert found[0].similarity == 0


@pytest.mark.parametrize(
    ("layer", "unit", "words"), [("1", None, "no map"), ("9", None, "no layer called"), ("0", (10, 0), "10 rows")]
)
def test_what_there_is_not(net, layer, unit, words):
    with pytest.raises(InputError, match=words):
        explain.alike(net, np.zeros((1, 12, 12), np.float32), [], layer, unit)
