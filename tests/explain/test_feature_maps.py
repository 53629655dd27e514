import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from hapgop import oracle
from hapgop.errors import InputError
from hapgop.explain import feature_maps
from hapgop.shape import ConvShape


def by_hand(net, image):
    """The outputs of a sequence, one module after the other, as (c, h, w)."""
    values, x = [], torch.from_numpy(image)[None]
    with torch.no_grad():
        for module in net:
            x = module(x.clone())
            values.append(x[0].clone().numpy())
    return [value if value.ndim == 3 else value.reshape(-1, 1, 1) for value in values]


def test_maps_are_what_the_layers_gave(net, image):
    maps = feature_maps(net, image)
    assert [one.layer for one in maps] == ["0", "1", "2", "3", "4", "5"]
    assert [one.op for one in maps] == ["Conv2d", "ReLU", "MaxPool2d", "Conv2d", "Flatten", "Linear"]
    for one, wanted in zip(maps, by_hand(net, image), strict=True):
        assert one.array.dtype == np.float32
        assert np.array_equal(one.array, wanted)


def test_a_layer_in_place_leaves_the_map_before_it_alone(net, image):
    conv, relu = feature_maps(net, image)[:2]
    assert (conv.array < 0).any()
    assert np.array_equal(relu.array, np.maximum(conv.array, 0))


def test_predictor_gives_the_same_maps(net, predictor, image):
    pixels = np.random.default_rng(1).integers(0, 5, (10, 14)).astype(np.uint8)
    prepared = predictor.prepare(pixels)
    assert np.array_equal(prepared[0], np.round(prepared[0])), "whole numbers, so that the bits must agree"
    ours, theirs = feature_maps(predictor, pixels), feature_maps(net, prepared)
    assert [one.op for one in ours] == ["conv2d", "relu", "max_pool2d", "conv2d", "flatten", "linear"]
    for one, other in zip(ours, theirs, strict=True):
        assert one.layer == other.layer
        assert np.array_equal(one.array, other.array)


@given(
    sizes=st.tuples(*[st.integers(3, 9)] * 2),
    channels=st.tuples(*[st.integers(1, 4)] * 2),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    seed=st.integers(0, 99),
)
def test_a_convolution_seen_is_a_convolution_defined(sizes, channels, kernel, stride, padding, seed):
    random = np.random.default_rng(seed)
    ic, oc = channels
    x = random.integers(-4, 5, (1, ic, *sizes)).astype(np.float32)
    w = random.integers(-4, 5, (oc, ic, kernel, kernel)).astype(np.float32)
    conv = nn.Conv2d(ic, oc, kernel, stride, padding, bias=False)
    conv.weight.data = torch.from_numpy(w)
    shape = ConvShape.of(x.shape, w.shape, stride=stride, padding=padding)
    (one,) = feature_maps(conv, x)
    assert one.layer == "conv2d"
    assert np.array_equal(one.array, oracle.conv(x, w, shape=shape)[0])


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.ReLU())

    def forward(self, x):
        return self.body(self.body(x))


def test_a_layer_called_again_has_a_map_of_its_own(image):
    names = [one.layer for one in feature_maps(Twice(), image)]
    assert names == ["body.0", "body.1", "body.0_1", "body.1_1"]


class Reshaped(nn.Module):
    """Leaves whose outputs are no (1, c, h, w), and one that gives no tensor at all."""

    def __init__(self):
        super().__init__()
        self.sequence, self.volume = nn.Conv1d(2, 3, 3, padding=1), nn.Conv3d(1, 2, 1)
        self.recurrent, self.split = nn.GRU(6, 4, batch_first=True), nn.Identity()

    def forward(self, x):
        y = self.sequence(x.reshape(1, 2, 6))
        self.volume(x.reshape(1, 1, 2, 2, 3))
        self.split((x, x))
        return self.recurrent(y)[0]


def test_outputs_of_other_dimensions_lie_flat():
    maps = feature_maps(Reshaped(), np.zeros((1, 3, 4), np.float32))
    assert [(one.op, one.array.shape) for one in maps] == [("Conv1d", (3, 1, 6)), ("Conv3d", (2, 4, 3))]


def test_modes_and_hooks_are_put_back(net, image):
    net.train()
    net[3].eval()
    modes = [module.training for module in net.modules()]
    inside = []
    net[0].register_forward_hook(lambda module, *_: inside.append(module.training))
    feature_maps(net, image)
    assert inside == [False]
    assert [module.training for module in net.modules()] == modes
    assert [len(module._forward_hooks) for module in net.modules()] == [0, 1, 0, 0, 0, 0, 0]


def test_modes_and_hooks_are_put_back_after_a_failure(net):
    net.train()
    with pytest.raises(InputError, match=r"shape \(3, 10, 14\)"):
        feature_maps(net, np.zeros((3, 10, 14), np.float32))
    assert all(module.training for module in net.modules())
    assert not any(module._forward_hooks for module in net.modules())


def test_batch_norm_learns_nothing_from_being_watched():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).train()
    feature_maps(net, np.ones((1, 5, 5), np.float32))
    assert int(net[1].num_batches_tracked) == 0
    assert all(parameter.grad is None for parameter in net.parameters())


def test_the_image_takes_the_nets_type(net, image):
    wanted = feature_maps(net, image)
    for given_image in (image.astype(np.float64), torch.from_numpy(image), image[np.newaxis]):
        for one, other in zip(feature_maps(net, given_image), wanted, strict=True):
            assert np.array_equal(one.array, other.array)
    assert feature_maps(net.double(), image)[0].array.dtype == np.float32


@pytest.mark.parametrize("shape", [(10, 14), (2, 1, 10, 14), (1, 1, 1, 10, 14)])
def test_one_image_is_asked_for(net, shape):
    with pytest.raises(InputError, match="One image is wanted"):
        feature_maps(net, np.zeros(shape, np.float32))
