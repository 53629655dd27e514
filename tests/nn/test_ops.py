"""The operators themselves: PyTorch's own checks, derivatives of every order, memory orders."""

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck
from torch.library import opcheck

from hapgop.nn import functional, ops

pytestmark = pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}

# stride, padding (top, bottom, left, right), dilation, groups
SETTINGS = {
    "plain": ((1, 1), (0, 0, 0, 0), (1, 1), 1),
    "strided": ((2, 1), (1, 1, 1, 1), (1, 1), 1),
    "dilated": ((1, 1), (2, 2, 0, 0), (2, 1), 1),
    "grouped": ((1, 2), (0, 0, 1, 1), (1, 1), 2),
    "same, strided": ((2, 2), (0, 1, 1, 0), (1, 1), 1),
}


@pytest.fixture(params=FORMATS)
def like(request):
    """Makes float64 tensors of small integers in one memory order."""

    def make(*shape):
        x = torch.randint(-4, 5, shape).double()
        return x.to(memory_format=FORMATS[request.param]).requires_grad_()

    return make


def _operator(name):
    """As PyTorch knows it, without our short way."""
    return getattr(torch.ops.hapgop, name).default


def _problem(like, setting):
    x, w, bias = like(2, 4, 5, 4), like(4, 4 // setting[3], 3, 2), torch.randn(4).double().requires_grad_()
    y = ops.conv(x, w, None, *setting, None)
    return x, w, bias, like(*y.shape), setting


def _cases(like, setting):
    x, w, bias, g, setting = _problem(like, setting)
    return {
        "conv": (x, w, bias, *setting, None),
        "grad_x": (g, w, bias, x.shape[2:], *setting, True, None),
        "grad_w": (x, g, w.shape[2:], *setting, True),
    }


def _others(like):
    x, wide = like(2, 3, 6, 5), torch.randn(3, 4).double().requires_grad_()
    maximum, mean = ((3, 2), (2, 1), (1, 0), (1, 2), True), ((3, 2), (2, 1), (1, 0), True, False)
    y, winners = ops.max_pool(x, *maximum)
    g = torch.randn_like(y).requires_grad_()
    h = torch.randn_like(ops.avg_pool(x, *mean)).requires_grad_()
    return {
        "grad_b": (x,),
        "linear": (wide, torch.randn(2, 4).double().requires_grad_(), torch.randn(2).double(), None),
        "max_pool": (x, *maximum),
        "max_pool_grad": (g, winners, (6, 5), *maximum, True),
        "avg_pool": (x, *mean),
        "avg_pool_grad": (h, (6, 5), *mean, False),
    }


@pytest.mark.parametrize("name", ["conv", "grad_x", "grad_w"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_convolutions_pass_pytorchs_checks(definition, like, name, setting):
    opcheck(_operator(name), _cases(like, SETTINGS[setting])[name])


@pytest.mark.parametrize("name", ["grad_b", "linear", "max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad"])
def test_the_others_pass_pytorchs_checks(definition, like, name):
    opcheck(_operator(name), _others(like)[name])


@pytest.mark.parametrize("name", ["conv", "grad_x", "linear"])
def test_with_an_activation_too(definition, like, name):
    args = {**_cases(like, SETTINGS["plain"]), **_others(like)}[name]
    opcheck(_operator(name), (*args[:-1], "relu"))


@pytest.mark.parametrize("name", ["conv", "grad_x", "grad_w"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_derivatives_of_convolutions(definition, like, name, setting):
    args = _cases(like, SETTINGS[setting])[name]
    assert gradcheck(getattr(ops, name), args, fast_mode=True)
    assert gradgradcheck(getattr(ops, name), args, fast_mode=True)


@pytest.mark.parametrize("name", ["grad_b", "linear", "max_pool_grad", "avg_pool", "avg_pool_grad"])
def test_derivatives_of_the_others(definition, like, name):
    args = _others(like)[name]
    assert gradcheck(getattr(ops, name), args)
    assert gradgradcheck(getattr(ops, name), args)


def test_derivatives_of_max_pool(definition, like):
    # Distinct values, else the derivative is not one.
    x = torch.randperm(60).double().view(1, 3, 5, 4).requires_grad_()

    def pooled(x):
        return ops.max_pool(x, (3, 2), (2, 1), (1, 0), (1, 2), True)[0]

    assert gradcheck(pooled, (x,))
    assert gradgradcheck(pooled, (x,))


def test_derivatives_of_an_activation(definition):
    x, w = torch.randn(1, 2, 4, 4).double().requires_grad_(), torch.randn(3, 2, 3, 3).double().requires_grad_()
    rows, weight = torch.randn(3, 4).double().requires_grad_(), torch.randn(2, 4).double().requires_grad_()

    def conv(x, w):
        return ops.conv(x, w, None, *SETTINGS["plain"], "relu")

    def transposed(g, w, bias):
        return ops.grad_x(g, w, bias, (4, 4), *SETTINGS["plain"], True, "relu")

    def linear(x, w):
        return ops.linear(x, w, None, "relu")

    g, bias = torch.randn(1, 3, 2, 2).double().requires_grad_(), torch.randn(2).double().requires_grad_()
    for function, args in ((conv, (x, w)), (transposed, (g, w, bias)), (linear, (rows, weight))):
        assert gradcheck(function, args)
        assert gradgradcheck(function, args)


def test_third_derivatives(definition):
    x, w = torch.randn(1, 1, 3, 3).double().requires_grad_(), torch.randn(1, 1, 2, 2).double().requires_grad_()

    def cube(conv):
        y = (conv(x, w) ** 3).sum()
        for _ in range(3):
            (dx,) = torch.autograd.grad(y, x, create_graph=True)
            y = (dx * w.sum()).sum()
        return torch.autograd.grad(y, w)[0]

    ours = cube(lambda x, w: ops.conv(x, w, None, *SETTINGS["plain"], None))
    torch.testing.assert_close(ours, cube(torch.nn.functional.conv2d), rtol=1e-12, atol=1e-12)


def test_only_the_gradients_that_are_asked_for(definition, like):
    x, w, _, g, setting = _problem(like, SETTINGS["plain"])
    for wanted, left, op in (((x, w), (w,), "grad_w"), ((x, w), (x,), "grad_x")):
        inputs = [t.detach().requires_grad_(any(t is keep for keep in left)) for t in wanted]
        y = ops.conv(*inputs, None, *setting, None)
        definition.calls.clear()
        y.backward(g)
        assert [problem.op for problem in definition.calls] == [op]


def test_a_factor_is_kept_only_for_the_other_ones_gradient(definition, like):
    x, w, _, _, setting = _problem(like, SETTINGS["plain"])
    y = ops.conv(x.detach(), w, None, *setting, None)
    assert [t is None for t in y.grad_fn.saved_tensors] == [False, True, True]


def _unreal(value):
    if not isinstance(value, torch.Tensor):
        return value
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


sizes = st.integers(1, 5)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_fakes_have_the_strides_of_the_real_ones(definition, data):
    def tensor(*shape):
        x = torch.zeros(shape).to(memory_format=data.draw(st.sampled_from([*FORMATS.values()])))
        return data.draw(st.sampled_from([x, x.transpose(2, 3).contiguous().transpose(2, 3), x[:1].expand(shape)]))

    n, c, oc, kh, kw = (data.draw(st.integers(1, 3)) for _ in range(5))
    ih, iw = kh + data.draw(st.integers(0, 3)), kw + data.draw(st.integers(0, 3))
    stride, padding = (data.draw(sizes), data.draw(sizes)), tuple(data.draw(st.integers(0, 2)) for _ in range(4))
    last, ceil = data.draw(st.booleans()), data.draw(st.booleans())
    setting, window = (stride, padding, (1, 1), 1), ((kh, kw), stride, (kh // 2, 0), ceil, True)
    x, w = tensor(n, c, ih, iw), tensor(oc, c, kh, kw)
    y = torch.ops.hapgop.conv(x, w, None, *setting, None)
    pooled = torch.ops.hapgop.avg_pool(x, *window)
    calls = {
        "conv": (x, w, None, *setting, None),
        "grad_x": (tensor(*y.shape), w, None, (ih, iw), *setting, last, None),
        "grad_w": (x, tensor(*y.shape), (kh, kw), *setting, last),
        "max_pool": (x, *window[:3], (1, 1), ceil),
        "avg_pool": (x, *window),
        "avg_pool_grad": (tensor(*pooled.shape), (ih, iw), *window, last),
    }
    refuses = data.draw(st.booleans())
    definition.refuses = lambda problem: "no" if refuses else None
    for name, args in calls.items():
        real = getattr(ops, name)(*args)
        meta = _operator(name)(*map(_unreal, args))
        pairs = zip(real, meta, strict=True) if name == "max_pool" else [(real, meta)]
        for a, b in pairs:
            assert (a.shape, a.stride(), a.dtype) == (b.shape, b.stride(), b.dtype), name


@pytest.mark.parametrize(("x_last", "w_last"), [*itertools.product((True, False), repeat=2)])
def test_the_result_lies_as_pytorchs(definition, x_last, w_last):
    x, w = torch.zeros(2, 3, 6, 5), torch.zeros(4, 3, 3, 3)
    x = x.to(memory_format=torch.channels_last) if x_last else x
    w = w.to(memory_format=torch.channels_last) if w_last else w
    ours = ops.conv(x, w, None, *SETTINGS["plain"], None)
    assert ours.stride() == torch.nn.functional.conv2d(x, w).stride()
    (problem,) = definition.calls
    layouts = ("nchw", "nhwc")
    assert (problem.x_layout, problem.y_layout) == (layouts[x_last], layouts[x_last or w_last])
    assert problem.w_layout == ("ohwi" if w_last else "oihw")


def test_where_both_orders_are_the_same_it_is_channels_last_to_the_engine(definition):
    one_channel, one_pixel = torch.zeros(2, 1, 5, 5), torch.zeros(2, 3, 1, 1)
    for x in (one_channel, one_pixel):
        ops.conv(x, torch.zeros(1, x.shape[1], 1, 1), None, *SETTINGS["plain"], None)
    assert {(p.x_layout, p.y_layout) for p in definition.calls} == {("nhwc", "nhwc")}


def test_a_mixed_order_that_is_refused_is_brought_to_one(definition):
    x, w = torch.randint(-4, 5, (2, 3, 6, 5)).float(), torch.randint(-4, 5, (4, 3, 3, 3)).float()
    definition.refuses = lambda problem: "mixed" if problem.x_layout != problem.y_layout else None
    y = ops.conv(x, w.to(memory_format=torch.channels_last), None, *SETTINGS["plain"], None)
    assert torch.equal(y, torch.nn.functional.conv2d(x, w))
    assert y.is_contiguous(memory_format=torch.channels_last)
    assert [p.x_layout for p in definition.calls] == ["nhwc"]


def test_the_gradient_of_the_weight_lies_as_the_weight(definition):
    x = torch.randn(2, 3, 6, 5).to(memory_format=torch.channels_last)
    for memory_format in FORMATS.values():
        w = torch.randn(4, 3, 3, 3).to(memory_format=memory_format).requires_grad_()
        ops.conv(x, w, None, *SETTINGS["plain"], None).sum().backward()
        assert w.grad.stride() == w.stride()


def test_tensors_are_never_read_past_their_end(definition):
    x, w = torch.zeros(1, 3, 5, 5), torch.zeros(4, 3, 3, 3)
    with pytest.raises(ValueError, match=r"bias: got shape \(3,\), wanted \(4,\)"):
        ops.conv(x, w, torch.zeros(3), *SETTINGS["plain"], None)
    with pytest.raises(ValueError, match=r"gradient: got shape \(1, 4, 2, 3\), wanted \(1, 4, 3, 3\)"):
        ops.grad_x(torch.zeros(1, 4, 2, 3), w, None, (5, 5), *SETTINGS["plain"], False, None)
    with pytest.raises(ValueError, match=r"bias: got shape \(4,\), wanted \(3,\)"):
        ops.grad_x(torch.zeros(1, 4, 3, 3), w, torch.zeros(4), (5, 5), *SETTINGS["plain"], False, None)
    with pytest.raises(ValueError, match=r"gradient: got shape"):
        ops.grad_w(x, torch.zeros(1, 4, 2, 3), (3, 3), *SETTINGS["plain"], False)
    window = ((2, 2), (2, 2), (0, 0), (1, 1), False)
    y, winners = ops.max_pool(x, *window)
    with pytest.raises(ValueError, match=r"winners: got shape"):
        ops.max_pool_grad(y, winners[:, :1], (5, 5), *window, False)


def test_the_engine_gets_pytorchs_number_of_threads(definition):
    ops.grad_b(torch.zeros(1, 2, 3, 3))
    assert definition.threads == [torch.get_num_threads()]


def test_gradients_may_come_in_batches():
    x = torch.randn(1, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    w = torch.randn(3, 2, 3, 3, dtype=torch.float64)

    def pooled(x):
        return functional.conv2d(x, w, activation="relu", pool=2).sum(1)

    jacobian = torch.autograd.functional.jacobian
    torch.testing.assert_close(jacobian(pooled, x, vectorize=True), jacobian(pooled, x))
    hessian = torch.autograd.functional.hessian
    torch.testing.assert_close(
        hessian(lambda x: pooled(x).square().sum(), x, vectorize=True),
        hessian(lambda x: pooled(x).square().sum(), x),
    )
