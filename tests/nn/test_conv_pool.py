"""A convolution with its activation and its pool in one operator: as the three one after the other."""

from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from hapgop.nn import Conv2d, MaxPool2d, functional, ops, pooled, report, reset_report, routes

pytestmark = pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")

FORMATS = (torch.contiguous_format, torch.channels_last)


def whole(*shape, dtype=torch.float32):
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("activation", [None, "relu"])
@pytest.mark.parametrize(("pool", "size"), [(2, (9, 8)), ((3, 2), (12, 7)), (1, (5, 5))])
def test_values_and_gradients_are_those_of_the_parts(pool, size, activation, memory_format):
    x = whole(3, 4, *size).to(memory_format=memory_format).requires_grad_()
    w, b = whole(6, 4, 3, 3).requires_grad_(), whole(6).requires_grad_()
    y = functional.conv2d(x, w, b, padding=1, activation=activation, pool=pool)
    plain = F.conv2d(x, w, b, padding=1)
    wanted = F.max_pool2d(plain if activation is None else F.relu(plain), pool)
    torch.testing.assert_close(y, wanted, rtol=0, atol=0)
    g = whole(*y.shape)
    for ours, theirs in zip(
        torch.autograd.grad(y, (x, w, b), g), torch.autograd.grad(wanted, (x, w, b), g), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("channels", "filters"), [(1, 6), (3, 5), (8, 6), (1, 16)])
def test_a_first_layer_has_the_gradients_of_the_parts(channels, filters, memory_format):
    """Nobody asks for its input's gradient: then its weights' is made from the pooled one in one pass."""
    x = whole(3, channels, 11, 10).to(memory_format=memory_format)
    w, b = whole(filters, channels, 5, 3).requires_grad_(), whole(filters).requires_grad_()
    y = functional.conv2d(x, w, b, padding=2, activation="relu", pool=2)
    wanted = F.max_pool2d(F.relu(F.conv2d(x, w, b, padding=2)), 2)
    g = whole(*y.shape)
    pairs = zip(torch.autograd.grad(y, (w, b), g), torch.autograd.grad(wanted, (w, b), g), strict=True)
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize("write", [lambda y: y.add_(1), lambda y: y[:, ::2].zero_(), lambda y: y.detach().neg_()])
@pytest.mark.parametrize("wanted_of", ["xwb", "wb", "xb", "w"])
@pytest.mark.parametrize("pool", [2, 3])
def test_the_result_may_be_written_over(write, wanted_of, pool):
    """PyTorch's pool does not read its result again, so it must be allowed here too, at whatever price."""
    parts = {"x": whole(2, 3, 9, 12), "w": whole(4, 3, 3, 3), "b": whole(4)}
    x, w, b = (part.requires_grad_(name in wanted_of) for name, part in parts.items())
    leaves = [parts[name] for name in wanted_of]
    y = functional.conv2d(x, w, b, padding=1, activation="relu", pool=pool)
    apart = F.max_pool2d(F.relu(F.conv2d(x, w, b, padding=1)), pool)
    g = whole(*y.shape)
    write(y)
    write(apart)
    with torch.no_grad():
        b.add_(9)  # nobody's derivative reads it
    for _ in range(2):
        ours, theirs = (torch.autograd.grad(z, leaves, g, retain_graph=True) for z in (y, apart))
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_result_that_was_written_over_is_differentiable_twice():
    x, w, b = (t.requires_grad_() for t in (whole(2, 2, 6, 6), whole(4, 2, 3, 3), whole(4)))
    found = []
    for y in (
        functional.conv2d(x, w, b, activation="relu", pool=2),
        F.max_pool2d(F.relu(F.conv2d(x, w, b)), 2),
    ):
        y.mul_(2)
        first = torch.autograd.grad(y.square().sum(), w, create_graph=True)[0]
        found.append(torch.autograd.grad(first.square().sum(), x)[0])
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_what_was_read_and_written_over_is_refused():
    x, w, b = whole(2, 2, 6, 6), whole(4, 2, 3, 3).requires_grad_(), whole(4).requires_grad_()
    y = functional.conv2d(x, w, b, activation="relu", pool=2)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.fixture
def go(monkeypatch):
    """Which gradients are made winner by winner is measured; here it is said."""
    yield lambda names: (routes.forget(), monkeypatch.setattr(pooled, "at_once", lambda *_: names))
    routes.forget()


@pytest.mark.parametrize(
    ("names", "ops"),
    [
        ("wx", {"pooled_grad_w", "pooled_grad_x"}),
        ("w", {"pooled_grad_w", "pooled_grad", "grad_x"}),
        ("", {"pooled_grad", "grad_x", "grad_w"}),
    ],
)
def test_what_the_backward_took_is_counted(names, ops, go):
    go(names)
    x = whole(2, 1, 16, 16).to(memory_format=torch.channels_last)
    first, second = (Conv2d(i, o, 3, padding=1, activation="relu", pool=2) for i, o in pairwise((1, 4, 7)))
    reset_report()
    second(first(x)).sum().backward()
    assert {op for op, _ in report().engine} == {"conv_pool", *ops}


def test_the_profiler_hears_of_it(go):
    x = whole(2, 1, 16, 16).to(memory_format=torch.channels_last)
    net = torch.nn.Sequential(*(Conv2d(i, o, 3, padding=1, activation="relu", pool=2) for i, o in pairwise((1, 4, 7))))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as record:
        for names in ("wx", ""):
            go(names)
            net(x).sum().backward()
    wanted = {"hapgop::pooled_grad", "hapgop::pooled_grad_x", "hapgop::pooled_grad_w"}
    assert wanted <= {event.key for event in record.key_averages()}


def test_a_recorded_backward_is_made_of_operators():
    x, w = whole(2, 1, 8, 8), whole(4, 1, 3, 3).requires_grad_()
    b = whole(4).requires_grad_()
    y = functional.conv2d(x, w, b, padding=1, activation="relu", pool=2)
    reset_report()
    dw, db = torch.autograd.grad((y * y).sum(), (w, b), create_graph=True)
    assert "pooled_grad_w" not in {op for op, _ in report().engine}
    assert dw.requires_grad
    assert db.requires_grad


def test_twice_differentiable():
    generator = torch.Generator().manual_seed(0)
    x, w, b = (
        torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in ((2, 2, 6, 6), (3, 2, 3, 3), (3,))
    )

    def layer(x, w, b):
        return functional.conv2d(x, w, b, padding=1, activation="relu", pool=2)

    assert torch.autograd.gradcheck(layer, (x, w, b))
    assert torch.autograd.gradgradcheck(layer, (x, w, b))


def test_the_operator_is_one_for_pytorch():
    x, w, b = (t.requires_grad_() for t in (whole(2, 3, 6, 6), whole(4, 3, 3, 3), whole(4)))
    setting = ((1, 1), (1, 1, 1, 1), (1, 1), 1, "relu", (2, 2))
    torch.library.opcheck(torch.ops.hapgop.conv_pool.default, (x, w, b, *setting))
    assert ops.conv_pool(x, w, b, *setting)[1].requires_grad is False


def test_the_layer_has_the_weights_of_a_convolution():
    layer, apart = Conv2d(3, 5, 3, activation="relu", pool=2), torch.nn.Conv2d(3, 5, 3)
    apart.load_state_dict(layer.state_dict())
    x = torch.randn(2, 3, 9, 9)
    torch.testing.assert_close(layer(x), MaxPool2d(2)(F.relu(apart(x))), rtol=1e-5, atol=1e-6)
    assert "activation='relu', pool=(2, 2)" in repr(layer)
    assert layer(x[0]).shape == (5, 3, 3)


def test_elsewhere_it_is_pytorchs():
    x, w = whole(1, 3, 6, 6).half(), whole(4, 3, 3, 3).half()
    wanted = F.max_pool2d(F.relu(F.conv2d(x, w)), 2)
    torch.testing.assert_close(functional.conv2d(x, w, activation="relu", pool=2), wanted)
