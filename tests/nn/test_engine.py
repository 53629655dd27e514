"""The real engine under our layers, float32, exact on integers where every order of summation is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import hapgop.nn as ours
from hapgop.nn import functional, report

theirs = torch.nn

pytestmark = [
    pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning"),
    pytest.mark.usefixtures("plain_sums"),
]


def whole(*shape):
    return torch.randint(-4, 5, shape).float()


def gradients(function, tensors):
    given = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in tensors]
    y = function(*given)
    g = torch.arange(y.numel()).view(y.shape) % 9 - 4.0
    return [y, *torch.autograd.grad(y, given, g.contiguous(memory_format=_format(y)))]


def _format(y):
    last = y.is_contiguous(memory_format=torch.channels_last) and not y.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


# A new shape may be a new kernel to compile: few examples.
@settings(max_examples=12)
@given(
    st.integers(1, 3), st.sampled_from([1, 3, 16]), st.sampled_from([1, 8, 32]), st.sampled_from([1, 3, 5]),
    st.integers(1, 2), st.integers(5, 9), st.booleans(), st.booleans(),
)  # fmt: skip
def test_convolution(n, ic, oc, kernel, stride, size, last, relu):
    x, w, bias = whole(n, ic, size, size + 1), whole(oc, ic, kernel, kernel), whole(oc)
    if last:
        x, w = (t.to(memory_format=torch.channels_last) for t in (x, w))
    setting = {"stride": stride, "padding": kernel // 2}
    activation = "relu" if relu else None
    mine = gradients(lambda *t: functional.conv2d(*t, **setting, activation=activation), (x, w, bias))
    conv = theirs.functional.conv2d
    other = gradients(lambda *t: conv(*t, **setting).relu() if relu else conv(*t, **setting), (x, w, bias))
    for a, b in zip(mine, other, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("name", "args"),
    [("max_pool2d", (3, 2, 1)), ("max_pool2d", (2,)), ("avg_pool2d", (2,)), ("avg_pool2d", (4, 2, 2))],
)
def test_pools(memory_format, name, args):
    x = 4 * whole(2, 8, 9, 10).to(memory_format=memory_format)
    mine, other = (gradients(lambda t, f=f: getattr(f, name)(t, *args), (x,)) for f in (functional, theirs.functional))
    for a, b in zip(mine, other, strict=True):
        torch.testing.assert_close(a, b, rtol=2**-22, atol=0)


def test_a_net_in_training_agrees_with_pytorchs():
    def net(nn):
        torch.manual_seed(3)
        return torch.nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3), torch.nn.ReLU(), nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), nn.Linear(16, 4),
        )  # fmt: skip

    losses = []
    for nn in (ours, theirs):
        module = net(nn).to(memory_format=torch.channels_last)
        optimiser = torch.optim.SGD(module.parameters(), 0.1, momentum=0.9)
        torch.manual_seed(4)
        x, labels = torch.randn(16, 1, 8, 8), torch.randint(4, (16,))
        steps = []
        for _ in range(10):
            loss = torch.nn.functional.cross_entropy(module(x), labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            steps.append(loss.item())
        losses.append(steps)
    assert losses[0][-1] < 0.8 * losses[0][0]
    # Rounding errors of float32 grow from step to step, but in ten steps not beyond the fourth digit.
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert {"conv", "grad_x", "grad_w", "max_pool", "max_pool_grad"} <= {op for op, _ in report().engine}
