"""Nets with transposed convolutions: captured, planned for prediction and training, compiled, and looked into."""

import numpy as np
import pytest
import torch
from torch import nn

import hapgop.nn as ours
from hapgop import explain
from hapgop.errors import InputError
from hapgop.nn import TrainingProgram, capture
from hapgop.program import Program, layers

SHAPE = (3, 9, 7)


def decoder(layer=nn.ConvTranspose2d):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(),
        layer(8, 6, 3, 2, 1, output_padding=1, groups=2), nn.ReLU(),
        layer(6, 4, (4, 2), (2, 3), (1, 0), bias=False), nn.BatchNorm2d(4), nn.ReLU(),
        layer(4, 5, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


def images(n=4):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("layer", [nn.ConvTranspose2d, ours.ConvTranspose2d])
def test_a_planned_net_gives_what_pytorch_gives(layer):
    module = decoder(layer).eval()
    graph = capture(module, SHAPE)
    assert [node.op for node in graph.nodes].count("conv_transpose2d") == 3
    tensors = {name: module.state_dict()[name].numpy() for name in graph.tensor_names()}
    program = Program(graph, tensors)
    with torch.no_grad():
        wanted = module(images()).numpy()
    assert np.abs(program(images().numpy()) - wanted).max() < 1e-5
    assert not any(step.problem is None for step in program.plan(4).steps)


@pytest.mark.parametrize("made", [lambda net: net, ours.accelerate], ids=["as it is", "accelerated"])
def test_a_step_in_two_calls_has_the_layers_own_derivatives(made):
    one, other = decoder().train(), decoder().train()
    program = TrainingProgram(made(one))
    x = images().requires_grad_()
    y = images().requires_grad_()
    program(x).square().sum().backward()
    assert program.reason is None
    other(y).square().sum().backward()
    found = {name: p.grad for name, p in one.named_parameters()}
    for name, p in other.named_parameters():
        assert torch.allclose(found[name], p.grad, rtol=1e-3, atol=1e-4 * float(p.grad.abs().max())), name
    assert torch.allclose(x.grad, y.grad, rtol=1e-3, atol=1e-4 * float(y.grad.abs().max()))


def test_it_compiles_into_one_program():
    module = decoder().eval()
    compiled = torch.compile(module, backend="hapgop")
    with torch.no_grad():
        assert torch.allclose(compiled(images()), module(images()), rtol=1e-4, atol=1e-5)


def test_sizes_formula_and_cost():
    info = layers(capture(decoder(), SHAPE))[2]
    assert (info.input_shape, info.output_shape) == ((8, 5, 4), (6, 10, 8))
    assert info.formula == "rows: (5 - 1) * 2 + 3 - 1 - 1 + 1 = 10\ncolumns: (4 - 1) * 2 + 3 - 1 - 1 + 1 = 8"
    assert info.filter == "6 of 4×3×3, 2 groups"
    assert info.macs == 8 * 3 * 9 * 5 * 4
    assert info.parameters == 8 * 3 * 9 + 6


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.ConvTranspose2d(3, 2, 3, 2, dilation=4, output_padding=2), "output_padding is 2, but only up to 1"),
        (nn.ConvTranspose2d(3, 2, 1, padding=5), "padding of 5 leaves nothing of 9 rows"),
    ],
)
def test_what_no_convolution_goes_back_from_is_said(layer, words):
    with pytest.raises(InputError, match=words):
        capture(nn.Sequential(layer), SHAPE)


def test_a_result_of_gaps_alone_sees_nothing_and_is_planned_all_the_same():
    module = nn.Sequential(nn.ConvTranspose2d(3, 2, 1, 4, padding=1)).eval()
    graph = capture(module, (3, 2, 2))
    assert layers(graph)[0].output_shape == (2, 3, 3)
    tensors = {name: module.state_dict()[name].numpy() for name in graph.tensor_names()}
    x = torch.randn(1, 3, 2, 2)
    with torch.no_grad():
        assert np.abs(Program(graph, tensors)(x.numpy()) - module(x).numpy()).max() < 1e-6


def test_a_size_that_is_asked_for_is_refused():
    class Asking(nn.Module):
        def __init__(self):
            super().__init__()
            self.up = nn.ConvTranspose2d(3, 2, 3, 2)

        def forward(self, x):
            return self.up(x, [20, 16])

    with pytest.raises(InputError, match="is given an output_size"):
        capture(Asking(), SHAPE)


@pytest.mark.parametrize("layer", ["2", "4", "7"])
def test_every_number_of_it_can_be_taken_apart(layer):
    module = decoder().eval()
    x = images(1)[0].numpy()
    net = explain.opened(module, x)
    maps = net.maps(x)
    c, h, w = net.sizes[layer]
    chance = np.random.default_rng(2)
    for oc, oh, ow in zip(*(chance.integers(0, side, 12) for side in (c, h, w)), strict=True):
        found = explain.taken_apart(net, maps, layer, oc, oh, ow)
        assert abs(found.difference) < 1e-5
        field = explain.receptive_field(net, x, layer, oh, ow, oc)
        # What is outside of the field moves the unit in no way.
        effect = explain.effective_field(net, x, layer, oc, oh, ow)
        assert not effect[~field.mask].any()
        top, left, bottom, right = field.span
        rows, columns = np.nonzero(field.mask)
        assert not rows.size or (top <= rows.min() and rows.max() < bottom)
        assert not columns.size or (left <= columns.min() and columns.max() < right)
