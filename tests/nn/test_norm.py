"""Batch norm in training: PyTorch's numbers, derivatives of every order, and what goes to PyTorch."""

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck
from torch.nn import functional as F

import hapgop.nn
from hapgop.errors import InputError
from hapgop.nn import ops
from hapgop.nn.report import report

KINDS = [(None, False), (None, True), ("relu", False), ("relu", True)]
every_kind = pytest.mark.parametrize(("activation", "residual"), KINDS)


def maps(*shape, last=True):
    x = torch.randn(shape, dtype=torch.float64)
    return x.to(memory_format=torch.channels_last) if last else x


def inputs(residual, last=True):
    shape = (3, 5, 4, 3)
    beside = maps(*shape, last=last).requires_grad_() if residual else None
    weight, bias = torch.randn(2, 5, dtype=torch.float64)
    return maps(*shape, last=last).requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), beside


def theirs(x, weight, bias, beside, activation):
    y = F.batch_norm(x, None, None, weight, bias, True)
    y = y if beside is None else y + beside
    return torch.relu(y) if activation == "relu" else y


@pytest.mark.parametrize("last", [True, False])
@every_kind
def test_it_computes_what_pytorch_does(activation, residual, last):
    x, weight, bias, beside = inputs(residual, last)
    given = [t for t in (x, weight, bias, beside) if t is not None]
    y = ops.batch_norm(x, weight, bias, beside, 1e-5, activation)[0]
    wanted = theirs(x, weight, bias, beside, activation)
    torch.testing.assert_close(y, wanted, rtol=1e-12, atol=1e-12)
    assert y.stride() == x.stride()
    g = torch.randn_like(y)
    for mine, other in zip(torch.autograd.grad(y, given, g), torch.autograd.grad(wanted, given, g), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)
    assert (("batch_norm", "batch norm") in report().engine) == last


@every_kind
def test_derivatives_of_every_order(activation, residual):
    x, weight, bias, beside = inputs(residual)

    def norm(x, weight, bias, beside):
        return ops.batch_norm(x, weight, bias, beside, 1e-5, activation)[0]

    assert gradcheck(norm, (x, weight, bias, beside))
    assert gradgradcheck(norm, (x, weight, bias, beside))


def test_third_derivatives():
    """Not against PyTorch's own, which takes the statistics for constants by then."""
    x, weight, bias, _ = inputs(False)

    def composed(x):
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        scale, wide = torch.rsqrt(var + 1e-5) * weight, (slice(None), None, None)
        return torch.relu((x - mean[wide]) * scale[wide] + bias[wide])

    def third(norm):
        y = (norm(x) ** 3).sum()
        for _ in range(2):
            (dx,) = torch.autograd.grad(y, x, create_graph=True)
            y = (dx**2).sum()
        return torch.autograd.grad(y, x)[0]

    mine = third(lambda x: ops.batch_norm(x, weight, bias, None, 1e-5, "relu")[0])
    wanted = third(composed)
    torch.testing.assert_close(mine, wanted, rtol=1e-8, atol=1e-10 * float(wanted.abs().max()))


def test_derivatives_of_the_gradient_through_a_relu():
    g, y = maps(2, 3, 4, 4).requires_grad_(), maps(2, 3, 4, 4)
    assert gradcheck(lambda g: ops.relu_grad(g, y), (g,))
    assert gradgradcheck(lambda g: ops.relu_grad(g, y), (g,))


@every_kind
def test_pytorchs_checks(definition, activation, residual):
    x, weight, bias, beside = inputs(residual)
    opcheck(torch.ops.hapgop.batch_norm.default, (x, weight, bias, beside, 1e-5, activation))
    y, stats = (t.detach() for t in ops.batch_norm(x, weight, bias, beside, 1e-5, activation))
    seen = y if residual and activation else None
    given = (torch.randn_like(y), x.detach(), weight.detach(), bias.detach(), stats, seen, 1e-5, activation)
    opcheck(torch.ops.hapgop.batch_norm_grad.default, given)


def test_pytorchs_checks_of_the_gradient_through_a_relu(definition):
    opcheck(torch.ops.hapgop.relu_grad.default, (maps(2, 3, 4, 4).requires_grad_(), maps(2, 3, 4, 4)))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_the_layer_is_pytorchs(momentum):
    mine, other = hapgop.nn.BatchNorm2d(5, momentum=momentum), torch.nn.BatchNorm2d(5, momentum=momentum)
    assert mine.state_dict().keys() == other.state_dict().keys()
    for _ in range(3):
        x = (3 + 2 * torch.randn(4, 5, 6, 6)).to(memory_format=torch.channels_last)
        torch.testing.assert_close(mine(x), other(x), rtol=1e-5, atol=1e-5)
    for key, value in other.state_dict().items():
        torch.testing.assert_close(mine.state_dict()[key], value, rtol=1e-6, atol=1e-6)
    mine.eval(), other.eval()
    torch.testing.assert_close(mine(x), other(x))
    assert report().engine == {("batch_norm", "batch norm"): 3}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"affine": False}, "no weight or no bias"),
        ({"dtype": torch.bfloat16}, "bfloat16 tensors"),
    ],
)
def test_what_is_not_ours_goes_to_pytorch_and_is_counted(change, reason):
    x = torch.randn(2, 3, 4, 4, dtype=change.get("dtype")).to(memory_format=torch.channels_last)
    layer, other = hapgop.nn.BatchNorm2d(3, activation="relu", **change), torch.nn.BatchNorm2d(3, **change)
    assert torch.equal(layer(x, x), torch.relu(other(x) + x))
    assert report().pytorch == {("batch_norm", reason): 1}


def test_channels_first_go_to_pytorch():
    hapgop.nn.BatchNorm2d(3)(torch.randn(2, 3, 4, 4))
    assert report().pytorch == {("batch_norm", "channels first"): 1}


def test_errors_name_the_layer_and_what_is_wanted():
    layer = hapgop.nn.BatchNorm2d(3)
    with pytest.raises(InputError, match=r"BatchNorm2d\(3.*residual: got shape \(2, 3, 4, 1\), wanted .*4, 4\)"):
        layer(torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 1))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(torch.zeros(1, 3, 1, 1))
    with pytest.raises(InputError, match="activation: got 'tanh'"):
        hapgop.nn.BatchNorm2d(3, activation="tanh")
    with pytest.raises(ValueError, match="wanted 3 channels"):
        ops.batch_norm(torch.zeros(2, 3, 4, 4), torch.zeros(4), torch.zeros(3), None, 1e-5, None)


class _Residual(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = hapgop.nn.Conv2d(3, 3, 3, padding=1, bias=False)
        self.norm = hapgop.nn.BatchNorm2d(3, activation="relu")

    def forward(self, x):
        return self.norm(self.conv(x), x)


def test_a_graph_has_the_addition_and_the_relu_as_nodes():
    graph = hapgop.nn.capture(_Residual(), (3, 5, 5))
    assert [node.op for node in graph.nodes] == ["conv2d", "batch_norm2d", "add", "relu"]


def test_it_compiles_with_its_gradients():
    net = _Residual().double()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    x = maps(2, 3, 5, 5).requires_grad_()
    results = [torch.autograd.grad(f(x).square().sum(), [x, *net.parameters()]) for f in (net, compiled)]
    for mine, other in zip(*results, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-10)


def test_in_autocast_it_is_as_precise_as_what_it_is_given():
    net = _Residual()
    x = torch.randn(2, 3, 5, 5).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        y = net(x)
    torch.testing.assert_close(y.float(), net(x), rtol=0.05, atol=0.05)


def test_a_norm_that_no_longer_tracks_counts_no_batches():
    norm = hapgop.nn.BatchNorm2d(3)
    norm.track_running_stats = False
    norm(torch.randn(2, 3, 4, 4))
    assert norm.num_batches_tracked.item() == 0
