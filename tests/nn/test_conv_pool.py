"""A convolution with its activation and its pool in one operator: as the three one after the other."""

import pytest
import torch
from torch.nn import functional as F

from hapgop.nn import Conv2d, MaxPool2d, functional, ops

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
