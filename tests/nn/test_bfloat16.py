"""Layers on bfloat16, by the engine: PyTorch's results, or nearer to those of float64."""

import pytest
import torch
import torch.nn.functional as F

import hapgop.nn
from hapgop.nn import functional, report, reset_report

SETTINGS = {
    "3x3": (64, 64, 12, 3, 1, 1, 1),
    "strided": (32, 48, 13, 3, 2, 1, 1),
    "first": (3, 16, 15, 7, 2, 3, 1),
    "1x1": (64, 128, 8, 1, 1, 0, 1),
    "depthwise": (48, 48, 10, 3, 1, 1, 48),
    "grouped": (64, 64, 10, 3, 1, 1, 4),
}


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.manual_seed(seed)).bfloat16()


@pytest.mark.parametrize("format", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("name", SETTINGS)
def test_convolution_and_its_gradients(name, format):
    ic, oc, size, k, stride, padding, groups = SETTINGS[name]
    x = normal(4, ic, size, size, seed=1).to(memory_format=format).requires_grad_()
    w = (normal(oc, ic // groups, k, k, seed=2) / (ic * k * k / groups) ** 0.5).detach().requires_grad_()
    setting = (stride, padding, 1, groups)
    reset_report()
    y = functional.conv2d(x, w, None, *setting)
    g = normal(*y.shape, seed=3)
    ours = (y, *torch.autograd.grad(y, (x, w), g))
    assert report().engine, str(report())
    a, b = x.detach().double().requires_grad_(), w.detach().double().requires_grad_()
    right = F.conv2d(a, b, None, *setting)
    wanted = (right, *torch.autograd.grad(right, (a, b), g.double()))
    for mine, exact in zip(ours, wanted, strict=True):
        assert mine.dtype == torch.bfloat16
        error = (mine.double() - exact).abs()
        assert (error <= exact.abs() * 2**-8 + 1e-4 * exact.abs().max()).all(), error.max()


def test_pooling_and_its_gradient():
    x = normal(2, 20, 9, 9).requires_grad_()
    for pool, theirs in ((functional.max_pool2d, F.max_pool2d), (functional.avg_pool2d, F.avg_pool2d)):
        reset_report()
        y = pool(x, 3, 2, 1)
        g = normal(*y.shape, seed=4)
        exact = x.detach().double().requires_grad_()
        right = theirs(exact, 3, 2, 1)
        pairs = (y, right), (torch.autograd.grad(y, x, g)[0], torch.autograd.grad(right, exact, g.double())[0])
        for mine, wanted in pairs:
            torch.testing.assert_close(mine.double(), wanted, rtol=2**-8, atol=1e-6)
        assert not report().pytorch, str(report())


def test_training_under_autocast_goes_through_the_engine():
    net = torch.nn.Sequential(hapgop.nn.Conv2d(3, 16, 3, activation="relu"), hapgop.nn.Conv2d(16, 8, 3))
    reset_report()
    with torch.autocast("cpu", torch.bfloat16):
        y = net(torch.randn(2, 3, 12, 12))
    assert y.dtype == torch.bfloat16
    y.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in net.parameters())
    assert {op for op, _ in report().engine} >= {"conv", "grad_w"}
