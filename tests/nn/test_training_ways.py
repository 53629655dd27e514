"""A training step in two calls where the way is not the usual one: results that are maps, modules that are called
again, a way back that is gone twice, numbers that are not finite."""

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import hapgop.nn as ours
from hapgop.nn import TrainingProgram

LAST = torch.channels_last


@pytest.mark.parametrize("images", [torch.contiguous_format, LAST], ids=["contiguous", "channels last"])
@pytest.mark.parametrize("filters", [torch.contiguous_format, LAST], ids=["contiguous", "channels last"])
def test_a_result_of_maps_lies_as_that_of_the_layers(images, filters):
    net = nn.Sequential(ours.Conv2d(2, 5, 3, padding=1), ours.BatchNorm2d(5, activation="relu")).to(
        memory_format=filters
    )
    program = TrainingProgram(net)
    x = torch.randn(2, 2, 6, 6).to(memory_format=images)
    y = program(x)
    assert program.reason is None
    assert y.stride() == net(x).stride()
    # A gradient that lies in another order, and one that is spread out.
    y.backward(torch.randn(2, 5, 6, 6), retain_graph=True)
    program(x).sum().backward()
    y, back = program.forth(x)
    assert y.stride() == net(x).stride()
    g = torch.randn(2, 5, 6, 6)
    back(g)
    by_hand = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    program(x).backward(g)
    for a, b in zip(by_hand, net.parameters(), strict=True):
        assert torch.equal(a, b.grad)


class CalledAgain(nn.Module):
    """One ReLU behind two convolutions, the second of which has more channels than what the first is added to."""

    def __init__(self):
        super().__init__()
        self.stem, self.wide, self.narrow = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 32, 1), nn.Conv2d(32, 8, 1)
        self.relu, self.pool, self.fc = nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Linear(8, 10)

    def forward(self, x):
        a = self.relu(self.stem(x))
        b = self.relu(self.wide(a))
        return self.fc(self.pool(a + self.narrow(b)).flatten(1))


def test_a_module_that_is_called_again_has_a_gradient_for_each_call():
    net = CalledAgain()
    twin, x = copy.deepcopy(net), torch.randn(4, 3, 8, 8)
    program = TrainingProgram(net)
    program(x).square().sum().backward()
    assert program.reason is None
    twin(x).square().sum().backward()
    for a, b in zip(net.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("images", [torch.contiguous_format, LAST], ids=["contiguous", "channels last"])
def test_a_second_way_back_drops_what_the_first_has_dropped(images):
    net = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(4 * 36, 6), nn.Dropout(0.3), nn.Linear(6, 2)
    )
    program = TrainingProgram(net)
    x = torch.randn(3, 2, 8, 8).to(memory_format=images)
    y = program(x)
    assert program.reason is None
    state = torch.get_rng_state()
    first = torch.autograd.grad(y.square().sum(), [*net.parameters()], retain_graph=True)
    again = torch.autograd.grad(y.square().sum(), [*net.parameters()], retain_graph=True)
    recorded = torch.autograd.grad(y.square().sum(), [*net.parameters()], create_graph=True)
    for a, b, c in zip(first, again, recorded, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(c, a, rtol=1e-4, atol=1e-5)
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(layer._forward_hooks for layer in net)


def test_infinity_times_a_number_is_infinity():
    class Half(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(1, 1, 1, bias=False)
            nn.init.constant_(self.conv.weight, 3e38)

        def forward(self, x):
            return self.conv(x) * 0.5

    net, x = Half(), torch.tensor([3.0, -3.0, 1.0, 0.0]).view(1, 1, 2, 2)
    program = TrainingProgram(net)
    assert torch.equal(program(x), net(x))
    assert program.reason is None
    assert torch.isinf(net(x)).sum() == 2


def test_a_norm_of_theirs_and_one_of_ours_in_one_loss():
    """PyTorch's saves the running statistics for its way back, and ours moves them."""
    for norm in (ours.BatchNorm2d(4), nn.BatchNorm2d(4)):
        a = torch.randn(2, 4, 6, 6, requires_grad=True)
        b = torch.randn(2, 4, 6, 6).to(memory_format=LAST).requires_grad_()
        second = norm if isinstance(norm, ours.BatchNorm2d) else TrainingProgram(nn.Sequential(norm))
        (norm(a).square().sum() + second(b).square().sum()).backward()
        assert a.grad is not None
        wanted = torch.zeros(4)
        for x in (a, b):
            wanted = torch.lerp(wanted, x.detach().mean((0, 2, 3)), 0.1)
        torch.testing.assert_close(norm.running_mean, wanted)


def test_the_way_back_has_the_precision_of_the_way_forth():
    x, w = torch.randn(2, 3, 6, 6), torch.randn(4, 3, 3, 3)

    def gradients(outside):
        given = [x.clone().requires_grad_(), w.clone().requires_grad_()]
        with torch.autocast("cpu", torch.bfloat16, enabled=outside):
            with torch.autocast("cpu", enabled=False):
                y = ours.functional.conv2d(*given)
                z = ours.functional.conv_transpose2d(y, given[1])
            return torch.autograd.grad(z.square().sum(), given)

    for a, b in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(a, b)


def test_a_linear_layer_of_no_rows():
    for layer in (ours.Linear(3, 4), ours.Linear(3, 4, activation="relu")):
        x = torch.empty(0, 3, requires_grad=True)
        y = layer(x)
        assert y.shape == (0, 4)
        y.sum().backward()
        assert x.grad.shape == (0, 3)
        assert torch.equal(layer.weight.grad, torch.zeros(4, 3))
        assert layer(torch.empty(2, 0, 3)).shape == (2, 0, 4)
    assert F.linear(torch.empty(0, 3), layer.weight).shape == (0, 4)
