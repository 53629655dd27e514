import numpy as np
import pytest
import torch
from torch import nn

from hapgop import engine
from hapgop.errors import InputError
from hapgop.explain import Opened, algorithm, opened, receptive_field, window
from hapgop.nn import capture
from hapgop.program import Graph, Node


def test_a_window_by_hand():
    net = nn.Sequential(nn.Conv2d(1, 1, 2, padding=1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]))
        net[0].bias.fill_(-7)
    image = np.array([[[5, 6], [7, 8]]], np.float32)
    corner = window(net, image, "0", 0, 0, 1)
    assert corner.rows.tolist() == [-1, 0]
    assert corner.columns.tolist() == [0, 1]
    assert corner.padding.tolist() == [[True, True], [False, False]]
    assert corner.values.tolist() == [[[0, 0], [5, 6]]]
    assert corner.products.tolist() == [[[0, 0], [15, 24]]]
    assert (corner.total, corner.bias, corner.before, corner.value) == (39, -7, 32, 32)
    assert (corner.engine, corner.difference) == (32, 0)
    assert "39 + bias -7 = 32" in str(corner)


def test_windows_are_the_engines_values_on_whole_numbers(net, image):
    seen = opened(net, image)
    random = np.random.default_rng(0)
    for layer in ("0", "2", "3", "5"):
        c, h, w = (*seen.sizes[layer], 1, 1)[:3]
        for _ in range(40):
            unit = tuple(int(random.integers(side)) for side in (c, h, w))
            found = window(seen, image, layer, *unit)
            assert found.difference == 0, (layer, unit)
            assert found.unit == unit


class Grouped(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(2, 1), groups=2)
        self.pool = nn.AvgPool2d(3, 2, 1, ceil_mode=True)
        self.skip = nn.AvgPool2d(2, count_include_pad=False, padding=1)
        self.average = nn.AdaptiveAvgPool2d((2, 3))

    def forward(self, x):
        return self.average(self.skip(self.pool(torch.relu(self.conv(x)))))


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_every_unit_of_odd_layers(mode):
    net = Grouped()
    net.conv.padding_mode = mode
    net.conv._reversed_padding_repeated_twice = [1, 1, 2, 2]
    x = np.random.default_rng(0).integers(-4, 5, (4, 11, 9)).astype(np.float32)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randint(-4, 5, parameter.shape))
    seen = opened(net, x)
    for layer in ("conv", "pool", "skip", "average"):
        c, h, w = seen.sizes[layer]
        for unit in np.ndindex(c, h, w):
            found = window(seen, x, layer, *unit)
            assert abs(found.difference) <= 1e-5 * max(1, abs(found.value)), (layer, unit)
    assert window(seen, x, "conv", 5, 0, 0).channels.tolist() == [2, 3]


def test_activations_are_part_of_the_layer():
    node = Node("a", "conv2d", ("input",), {"out_channels": 1, "kernel_size": 1, "activation": "relu"}, {"weight": "w"})
    net = Opened(Graph((1, 2, 2), (node,), "a"), {"w": np.full((1, 1, 1, 1), -3, np.float32)})
    found = window(net, np.ones((1, 2, 2), np.float32), "a", 0, 1, 1)
    assert (found.before, found.activation, found.value, found.engine) == (-3, "relu", 0, 0)


def test_a_fast_kernel_is_said_to_form_no_products():
    net = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1))
    image = np.random.default_rng(0).normal(size=(64, 32, 32)).astype(np.float32)
    found = window(net, image, "0", 9, 5, 5).algorithm
    assert "winograd" in found.name
    assert not found.forms_products
    assert "never forms these products" in found.note
    assert found.name in found.plan
    engine.set_precision("exact")
    try:
        plain = window(net, image, "0", 9, 5, 5).algorithm
    finally:
        engine.set_precision("fast")
    assert plain.forms_products
    assert "another order" in plain.note


def test_layers_without_a_window_say_so(net, image):
    with pytest.raises(InputError, match=r"1 \(relu\) has no window"):
        window(net, image, "1", 0, 0, 0)
    assert algorithm(opened(net, image), "1") is None


def test_a_module_needs_an_image_and_a_predictor_does_not(net, predictor, image):
    with pytest.raises(InputError, match="give an image"):
        opened(net)
    pixels = np.random.default_rng(1).integers(0, 5, (10, 14)).astype(np.uint8)
    ours, theirs = window(predictor, pixels, "3", 1, 0, 2), window(net, predictor.prepare(pixels), "3", 1, 0, 2)
    assert ours.engine == theirs.engine
    assert opened(predictor).graph.input_shape == capture(net, (1, 10, 14)).input_shape


def test_a_pointwise_layer_and_a_largest_of_unequal_windows():
    nodes = (
        Node("a", "pointwise", ("input",), {"out_features": 3}, {"weight": "w"}),
        Node("b", "adaptive_max_pool2d", ("a",), {"output_size": (2, 3)}),
    )
    random = np.random.default_rng(0)
    net = Opened(Graph((4, 5, 7), nodes, "b"), {"w": random.integers(-4, 5, (3, 4)).astype(np.float32)})
    x = random.integers(-4, 5, (4, 5, 7)).astype(np.float32)
    for layer in ("a", "b"):
        for unit in np.ndindex(*net.sizes[layer]):
            assert window(net, x, layer, *unit).difference == 0, (layer, unit)
    assert window(net, x, "a", 2, 4, 6).values.shape == (4, 1, 1)
    assert receptive_field(net, x, "b", 0, 0, 1).box == (0, 0, 3, 3)
