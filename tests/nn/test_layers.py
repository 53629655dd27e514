"""The layers against those of torch.nn: all arguments, exact on integers, forward and backward."""

import copy
import inspect
import warnings

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import hapgop.nn as ours
from hapgop.errors import InputError
from hapgop.shape import ShapeError

theirs = torch.nn

pytestmark = pytest.mark.filterwarnings("ignore::hapgop.shape.UnreadInputWarning")

NAMES = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
    "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "Linear",
]  # fmt: skip

drawn = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def whole(*shape):
    return torch.randint(-4, 5, shape).double()


def twins(name, *args, **kwargs):
    """Our layer and PyTorch's with the same weights, small integers."""
    mine, other = getattr(ours, name)(*args, **kwargs), getattr(theirs, name)(*args, **kwargs)
    mine.double(), other.double()
    for parameter in other.parameters():
        parameter.data = whole(*parameter.shape)
    mine.load_state_dict(other.state_dict())
    return mine, other


def agree(mine, other, x, *args):
    """Same outputs and gradients, to the bit."""
    results = []
    for layer in (mine, other):
        given = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = layer(given, *args)
        g = torch.arange(y.numel()).double().view(y.shape) % 9 - 4
        results.append((y, *torch.autograd.grad(y, [given, *layer.parameters()], g)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    assert results[0][0].stride() == results[1][0].stride() or 1 in results[0][0].shape


def numbers(draw, axes, least, most):
    """A number for all axes, or one for each."""
    one = st.integers(least, most)
    return draw(one | st.tuples(*[one] * axes))


def each(value, axes):
    return value if isinstance(value, tuple) else (value,) * axes


def image(draw, axes, channels, least):
    sizes = [low + draw(st.integers(0, 4)) for low in least]
    batch = draw(st.sampled_from([(), (1,), (2,)]))
    x = whole(*batch, channels, *sizes)
    if x.dim() == 4 and draw(st.booleans()):
        x = x.to(memory_format=torch.channels_last)
    return x


@drawn
@given(st.data())
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_convolution(definition, axes, data):
    draw = data.draw
    groups = draw(st.integers(1, 3))
    ic, oc = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel, stride = numbers(draw, axes, 1, 3), numbers(draw, axes, 1, 3)
    dilation = numbers(draw, axes, 1, 2)
    padding = draw(st.sampled_from(["same", "valid"])) if draw(st.booleans()) else numbers(draw, axes, 0, 2)
    assume(padding != "same" or each(stride, axes) == (1,) * axes)
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    setting = (ic, oc, kernel, stride, padding, dilation, groups, draw(st.booleans()), mode)
    reach = [(k - 1) * d + 1 for k, d in zip(each(kernel, axes), each(dilation, axes), strict=True)]
    x = image(draw, axes, ic, [max(r, 1 if mode == "zeros" else 3) for r in reach])
    agree(*twins(f"Conv{axes}d", *setting), x)


@drawn
@given(st.data())
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_transposed_convolution(definition, axes, data):
    draw = data.draw
    groups = draw(st.integers(1, 3))
    ic, oc = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    kernel, stride = numbers(draw, axes, 1, 3), numbers(draw, axes, 1, 3)
    padding, dilation = numbers(draw, axes, 0, 2), numbers(draw, axes, 1, 3)
    most = [max(s, d) - 1 for s, d in zip(each(stride, axes), each(dilation, axes), strict=True)]
    more = tuple(draw(st.integers(0, m)) for m in most)
    x = image(draw, axes, ic, (1,) * axes)
    window = zip(x.shape[-axes:], *(each(v, axes) for v in (kernel, stride, padding, dilation)), more, strict=True)
    assume(all((i - 1) * s - 2 * p + (k - 1) * d + 1 + m > 0 for i, k, s, p, d, m in window))
    agree(
        *twins(f"ConvTranspose{axes}d", ic, oc, kernel, stride, padding, more, groups, draw(st.booleans()), dilation), x
    )


def test_a_transposed_convolution_with_an_activation(definition):
    x, w, bias = whole(2, 4, 5, 5), whole(4, 3, 3, 3), whole(3)
    for images in (x, x[0]):
        mine = ours.functional.conv_transpose2d(images, w, bias, 2, 1, activation="relu")
        wanted = torch.nn.functional.conv_transpose2d(images, w, bias, 2, 1)
        assert torch.equal(mine, torch.relu(wanted))


@drawn
@given(st.data())
def test_max_pool(definition, data):
    draw = data.draw
    kernel, stride = numbers(draw, 2, 1, 4), draw(st.none()) if draw(st.booleans()) else numbers(draw, 2, 1, 3)
    padding = tuple(draw(st.integers(0, k // 2)) for k in each(kernel, 2))
    dilation, ceil, indices = numbers(draw, 2, 1, 2), draw(st.booleans()), draw(st.booleans())
    reach = [(k - 1) * d + 1 for k, d in zip(each(kernel, 2), each(dilation, 2), strict=True)]
    x = image(draw, 2, 2, reach)
    mine, other = twins("MaxPool2d", kernel, stride, padding, dilation, indices, ceil)
    if indices:
        for a, b in zip(mine(x), other(x), strict=True):
            assert a.dtype == b.dtype
            assert torch.equal(a, b)
    else:
        agree(mine, other, x)


@drawn
@given(st.data())
def test_average_pool(definition, data):
    draw = data.draw
    # Windows of powers of two: their means are exact.
    kernel = draw(st.sampled_from([1, 2, 4, (2, 1), (1, 4), (4, 2)]))
    stride = draw(st.none()) if draw(st.booleans()) else numbers(draw, 2, 1, 3)
    padding = tuple(draw(st.integers(0, k // 2)) for k in each(kernel, 2))
    ceil, include = draw(st.booleans()), draw(st.booleans())
    divisor = draw(st.sampled_from([None, None, 2]))
    mine, other = twins("AvgPool2d", kernel, stride, padding, ceil, include, divisor)
    x = 5040 * image(draw, 2, 2, each(kernel, 2))  # so that means of 3, 5 and 7 are whole too
    given = [x.clone().requires_grad_() for _ in range(2)]
    outs = [layer(g) for layer, g in zip((mine, other), given, strict=True)]
    assert torch.equal(*outs)
    for y in outs:
        y.backward(torch.full_like(y, 5040.0))
    torch.testing.assert_close(given[0].grad, given[1].grad, rtol=1e-14, atol=0)


@drawn
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 3, (1, 2), (None, 1), (2, None), (None, None)]))
def test_adaptive_pool(definition, rows, columns, size):
    x = 5040 * whole(2, 3, rows, columns)
    mine, other = twins("AdaptiveAvgPool2d", size)
    wanted = [s if part is None else part for part, s in zip(each(size, 2), (rows, columns), strict=True)]
    ours.reset_report()
    torch.testing.assert_close(mine(x), other(x), rtol=1e-14, atol=1e-9)
    divides = rows % wanted[0] == 0 and columns % wanted[1] == 0
    assert bool(ours.report().engine) == divides
    assert ours.report().pytorch == ({} if divides else {("adaptive_avg_pool2d", "parts of different sizes"): 1})


@drawn
@given(st.lists(st.integers(1, 3), max_size=3), st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_linear(definition, before, features, out, bias):
    agree(*twins("Linear", features, out, bias), whole(*before, features))


def test_linear_of_a_transposed_weight_and_input(definition):
    mine, other = twins("Linear", 4, 3)
    for layer in (mine, other):
        layer.weight.data = layer.weight.data.T.contiguous().T
    agree(mine, other, whole(4, 5).T)


@pytest.mark.parametrize("layer", ["Conv2d", "Linear"])
def test_activation_is_a_relu_on_top(definition, layer):
    args, x = ((3, 4, 3), whole(2, 3, 5, 5)) if layer == "Conv2d" else ((3, 4), whole(2, 3))
    mine = getattr(ours, layer)(*args, activation="relu").double()
    other = theirs.Sequential(getattr(theirs, layer)(*args).double(), theirs.ReLU())
    other[0].load_state_dict({name: whole(*value.shape) for name, value in other[0].state_dict().items()})
    mine.load_state_dict(other[0].state_dict())
    agree(mine, other, x)
    assert repr(mine).endswith(", activation='relu')")


@pytest.mark.parametrize("stride", [2, 3, (2, 1)])
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("size", [5, 6, 7])
def test_same_with_a_stride(definition, stride, mode, size):
    layer = ours.Conv2d(1, 1, 3, stride, "same", padding_mode=mode, bias=False).double()
    layer.weight.data = whole(1, 1, 3, 3)
    x, y = whole(1, 1, size, size), None
    steps = each(stride, 2)
    totals = [max((-(-size // s) - 1) * s + 3 - size, 0) for s in steps]
    around = [totals[1] // 2, totals[1] - totals[1] // 2, totals[0] // 2, totals[0] - totals[0] // 2]
    padded = theirs.functional.pad(x, around, "constant" if mode == "zeros" else mode)
    y = layer(x)
    assert y.shape[2:] == tuple(-(-size // s) for s in steps)
    assert torch.equal(y, theirs.functional.conv2d(padded, layer.weight, stride=stride))
    assert layer.stride == steps
    assert layer.padding == "same"


def test_padding_by_side(definition):
    layer = ours.Conv2d(1, 1, 3, padding=(0, 1, 2, 3), bias=False).double()
    x = whole(1, 1, 4, 4)
    padded = theirs.functional.pad(x, (2, 3, 0, 1))
    assert torch.equal(layer(x), theirs.functional.conv2d(padded, layer.weight))


def test_output_size_of_a_transposed_convolution(definition):
    mine, other = twins("ConvTranspose2d", 2, 3, 3, 2)
    x = whole(1, 2, 4, 4)
    agree(mine, other, x, [10, 9])
    with pytest.raises(ValueError, match="requested an output size"):
        mine(x, [12, 9])


@pytest.mark.parametrize("name", NAMES)
def test_names_arguments_and_defaults_are_pytorchs(name):
    mine, other = getattr(ours, name), getattr(theirs, name)
    assert issubclass(mine, other)
    assert mine.__name__ == name

    def arguments(layer):
        parameters = inspect.signature(layer).parameters.values()
        return [(p.name, p.default, p.kind) for p in parameters if p.kind is not p.KEYWORD_ONLY]

    assert arguments(mine) == arguments(other)
    more = {p.name for p in inspect.signature(mine).parameters.values() if p.kind is p.KEYWORD_ONLY}
    assert more == {"Conv2d": {"activation", "pool"}, "Linear": {"activation"}}.get(name, set())


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("Conv2d", (4, 6, 3, 2, 1, 1, 2, False, "reflect")),
        ("Conv1d", (4, 6, 3, 1, "same")),
        ("ConvTranspose2d", (4, 6, 3, 2, 1, 1)),
        ("Linear", (4, 6)),
        ("MaxPool2d", (3, 2)),
        ("AvgPool2d", (3, 2)),
        ("AdaptiveAvgPool2d", (3,)),
    ],
)
def test_seeds_states_and_texts_are_pytorchs(name, args):
    torch.manual_seed(7)
    mine = getattr(ours, name)(*args)
    torch.manual_seed(7)
    other = getattr(theirs, name)(*args)
    assert repr(mine) == repr(other)
    assert list(mine.state_dict()) == list(other.state_dict())
    for key, value in other.state_dict().items():
        assert torch.equal(mine.state_dict()[key], value)
    other.load_state_dict(mine.state_dict())
    assert type(copy.deepcopy(mine)) is type(mine)


def test_arguments_by_name(definition):
    x = whole(1, 2, 5, 5)
    weight = whole(3, 2, 3, 3)
    y = ours.functional.conv2d(input=x, weight=weight, bias=None, stride=[2], padding=[1, 0], dilation=1, groups=1)
    assert torch.equal(y, theirs.functional.conv2d(x, weight, None, [2], [1, 0]))
    assert torch.equal(ours.functional.avg_pool2d(input=x, kernel_size=1, stride=[]), x)


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (("Conv2d", 3, 6, 5), (1, 3, 4, 9), r"Conv2d\(3, 6, .*: kernel: 5 rows do not fit"),
        (("Conv2d", 3, 6, 5), (1, 4, 9, 9), r"Conv2d\(3, 6, .*takes 3 input channels"),
        (("Conv2d", 3, 6, 5), (9, 9), r"Conv2d\(3, 6, .*2 dimensions, wanted 4, \(n, c, h, w\), or 3"),
        (("Conv1d", 3, 6, 5), (1, 3, 4, 9), r"Conv1d\(3, 6, .*wanted 3, \(n, c, l\)"),
        (("ConvTranspose2d", 3, 6, 2), (1, 4, 9, 9), r"ConvTranspose2d\(3, 6, .*takes 3"),
        (("ConvTranspose2d", 3, 6, 2, 1, 3), (1, 3, 1, 1), r"ConvTranspose2d.*padding: 3 .*at most 0"),
        (("MaxPool2d", 5), (1, 3, 4, 9), r"MaxPool2d\(kernel_size=5.*do not fit"),
        (("MaxPool2d", 2, 2, 2), (1, 3, 4, 9), r"MaxPool2d.*padding: 2 is more than half"),
        (("AvgPool2d", 5), (1, 3, 4, 9), r"AvgPool2d\(kernel_size=5.*do not fit"),
        (("Linear", 400, 10), (2, 16, 5, 5), r"Linear\(in_features=400.*torch.flatten\(input, 1\)"),
        (("Linear", 120, 10), (2, 100), r"Linear\(in_features=120.*has 100 features"),
    ],
)
def test_errors_name_the_layer_and_what_would_work(layer, shape, words):
    module = getattr(ours, layer[0])(*layer[1:])
    with pytest.raises(ShapeError, match=words):
        module(torch.zeros(shape))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: ours.Conv2d(3, 6, 3, activation="gelu"), "activation: got 'gelu', wanted None or 'relu'"),
        (lambda: ours.functional.conv2d(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 1, 1), stride=(1, 2, 3)), "stride"),
        (lambda: ours.functional.conv2d(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 1, 1), padding="full"), "'full'"),
        (lambda: ours.ConvTranspose2d(3, 6, 3, 2, 0, 2)(torch.zeros(1, 3, 4, 4)), "nearest that works is 1"),
        (lambda: ours.AdaptiveAvgPool2d((1, 2, 3))(torch.zeros(1, 3, 4, 4)), "output_size"),
    ],
)
def test_settings_that_make_no_sense(call, words):
    with pytest.raises(InputError, match=words):
        call()


def test_rows_that_are_never_read_are_told_once():
    layer = ours.MaxPool2d(2)
    with pytest.warns(UserWarning, match="1 row of the 7x6 input is never read"):
        layer(torch.zeros(1, 1, 7, 6))
    with warnings.catch_warnings(action="error"):
        layer(torch.zeros(1, 1, 7, 6))
