"""The definition against plain loops, against PyTorch, and against the laws of convolution: integers, with ==."""

import warnings
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hapgop import oracle
from hapgop.errors import InputError
from hapgop.shape import ConvShape

exact = settings(deadline=None)


@st.composite
def conv_shapes(draw):
    small, side = st.integers(1, 3), st.integers(0, 2)
    g = draw(small)
    kh, kw, sh, sw, dh, dw = (draw(small) for _ in range(6))
    padding = top, bottom, left, right = tuple(draw(side) for _ in range(4))
    ih = max((kh - 1) * dh + 1 - top - bottom, 1) + draw(st.integers(0, 4))
    iw = max((kw - 1) * dw + 1 - left - right, 1) + draw(st.integers(0, 4))
    ic, oc = g * draw(small), g * draw(small)
    return ConvShape(draw(st.integers(0, 2)), ic, ih, iw, oc, kh, kw, (sh, sw), padding, (dh, dw), g)


def integers(seed, *shapes):
    generator = np.random.default_rng(seed)
    return [generator.integers(-4, 5, shape) for shape in shapes]


seeds = st.integers(0, 2**32 - 1)


def taps(s):
    """Every multiplication: (n, o, h, w) of y, (n, c, row, column) of x, (o, c', i, j) of the weight."""
    group = s.ic // s.groups
    for n, o, h, w in product(*map(range, s.y_shape)):
        for c, i, j in product(range(group), range(s.kh), range(s.kw)):
            row = h * s.stride[0] - s.padding[0] + i * s.dilation[0]
            column = w * s.stride[1] - s.padding[2] + j * s.dilation[1]
            if 0 <= row < s.ih and 0 <= column < s.iw:
                yield (n, o, h, w), (n, o // (s.oc // s.groups) * group + c, row, column), (o, c, i, j)


@exact
@given(conv_shapes(), seeds)
def test_plain_loops(shape, seed):
    x, w, g, bias = integers(seed, shape.x_shape, shape.w_shape, shape.y_shape, shape.oc)
    y, dx, dw, flipped = (np.zeros_like(a) for a in (g, x, w, g))
    for at_y, at_x, at_w in taps(shape):
        y[at_y] += x[at_x] * w[at_w]
        dx[at_x] += g[at_y] * w[at_w]
        dw[at_w] += g[at_y] * x[at_x]
        o, c, i, j = at_w
        flipped[at_y] += x[at_x] * w[o, c, shape.kh - 1 - i, shape.kw - 1 - j]
    for found, wanted in [
        (oracle.conv(x, w, shape=shape), y),
        (oracle.conv(x, w, bias, shape=shape), y + bias.reshape(1, -1, 1, 1)),
        (oracle.conv(x, w, shape=shape, flip=True), flipped),
        (oracle.grad_x(g, w, shape=shape), dx),
        (oracle.grad_w(x, g, shape=shape), dw),
    ]:
        assert found.dtype == np.int64
        np.testing.assert_array_equal(found, wanted, strict=True)


@exact
@given(conv_shapes(), seeds)
def test_pytorch(shape, seed):
    x, w, g, bias = (
        a.astype(np.float32) for a in integers(seed, shape.x_shape, shape.w_shape, shape.y_shape, shape.oc)
    )
    tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
    top, bottom, left, right = shape.padding
    padded = torch.nn.functional.pad(tx, (left, right, top, bottom))
    y = torch.nn.functional.conv2d(padded, tw, torch.tensor(bias), shape.stride, 0, shape.dilation, shape.groups)
    y.backward(torch.tensor(g))
    for found, wanted in [
        (oracle.conv(x, w, bias, shape=shape), y.detach()),
        (oracle.grad_x(g, w, shape=shape), tx.grad),
        (oracle.grad_w(x, g, shape=shape), tw.grad),
    ]:
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, wanted.double().numpy(), strict=True)


@exact
@given(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4), st.integers(1, 2), seeds)
def test_same_is_pytorchs_at_stride_one(ih, iw, kh, kw, dilation, seed):
    shape = ConvShape(1, 2, ih, iw, 3, kh, kw, 1, "same", dilation)
    x, w = integers(seed, shape.x_shape, shape.w_shape)
    with warnings.catch_warnings():
        # PyTorch tells of the copy that it makes for an even kernel.
        warnings.simplefilter("ignore")
        y = torch.nn.functional.conv2d(torch.tensor(x).double(), torch.tensor(w).double(), None, 1, "same", dilation)
    np.testing.assert_array_equal(oracle.conv(x, w, shape=shape), y.numpy())


@exact
@given(conv_shapes(), seeds)
def test_the_three_are_derivatives_of_one_form(shape, seed):
    x, w, g = integers(seed, shape.x_shape, shape.w_shape, shape.y_shape)
    form = (g * oracle.conv(x, w, shape=shape)).sum()
    assert form == (oracle.grad_x(g, w, shape=shape) * x).sum()
    assert form == (oracle.grad_w(x, g, shape=shape) * w).sum()


@exact
@given(conv_shapes(), seeds, st.integers(-3, 3))
def test_linear_in_x_and_in_w(shape, seed, factor):
    x, other_x, w, other_w = integers(seed, shape.x_shape, shape.x_shape, shape.w_shape, shape.w_shape)

    def conv(x, w):
        return oracle.conv(x, w, shape=shape)

    np.testing.assert_array_equal(conv(x + factor * other_x, w), conv(x, w) + factor * conv(other_x, w))
    np.testing.assert_array_equal(conv(x, w + factor * other_w), conv(x, w) + factor * conv(x, other_w))


@exact
@given(conv_shapes(), seeds)
def test_a_shift_of_the_input_by_the_stride_shifts_the_output(shape, seed):
    (sh, sw), (n, ic, ih, iw) = shape.stride, shape.x_shape
    # With zeros at the edges, so that what leaves the picture is padding anyway.
    wide = ConvShape(n, ic, ih + 2 * sh, iw + 2 * sw, shape.oc, shape.kh, shape.kw,
                     shape.stride, shape.padding, shape.dilation, shape.groups)  # fmt: skip
    inner, w = integers(seed, shape.x_shape, shape.w_shape)
    x = np.pad(inner, ((0, 0), (0, 0), (sh, sh), (sw, sw)))
    shifted = np.roll(x, (sh, sw), (2, 3))
    y, y_shifted = oracle.conv(x, w, shape=wide), oracle.conv(shifted, w, shape=wide)
    np.testing.assert_array_equal(y_shifted[:, :, 1:, 1:], y[:, :, :-1, :-1])


@exact
@given(conv_shapes(), seeds)
def test_groups_are_convolutions_side_by_side(shape, seed):
    x, w, g = integers(seed, shape.x_shape, shape.w_shape, shape.y_shape)
    n, ic, ih, iw = shape.x_shape
    one = ConvShape(n, ic // shape.groups, ih, iw, shape.oc // shape.groups, shape.kh, shape.kw,
                    shape.stride, shape.padding, shape.dilation)  # fmt: skip
    xs, ws, gs = (np.split(a, shape.groups, axis) for a, axis in ((x, 1), (w, 0), (g, 1)))
    for whole, part, axis in [
        (oracle.conv(x, w, shape=shape), lambda k: oracle.conv(xs[k], ws[k], shape=one), 1),
        (oracle.grad_x(g, w, shape=shape), lambda k: oracle.grad_x(gs[k], ws[k], shape=one), 1),
        (oracle.grad_w(x, g, shape=shape), lambda k: oracle.grad_w(xs[k], gs[k], shape=one), 0),
    ]:
        np.testing.assert_array_equal(whole, np.concatenate([part(k) for k in range(shape.groups)], axis))


@exact
@given(conv_shapes(), seeds)
def test_dilation_is_a_filter_stuffed_with_zeros(shape, seed):
    x, w = integers(seed, shape.x_shape, shape.w_shape)
    (dh, dw), (kh, kw) = shape.dilation, (shape.kh, shape.kw)
    stuffed = np.zeros((*w.shape[:2], (kh - 1) * dh + 1, (kw - 1) * dw + 1), np.int64)
    stuffed[:, :, ::dh, ::dw] = w
    dense = ConvShape.of(shape.x_shape, stuffed.shape, stride=shape.stride, padding=shape.padding, groups=shape.groups)
    np.testing.assert_array_equal(oracle.conv(x, w, shape=shape), oracle.conv(x, stuffed, shape=dense))


@exact
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), seeds)
def test_one_by_one_is_a_matrix_product(ic, oc, size, seed):
    shape = ConvShape(2, ic, size, size + 1, oc, 1, 1)
    x, w = integers(seed, shape.x_shape, shape.w_shape)
    product = w[:, :, 0, 0] @ x.reshape(2, ic, -1)
    np.testing.assert_array_equal(oracle.conv(x, w, shape=shape), product.reshape(shape.y_shape))


@exact
@given(st.lists(st.integers(-9, 9), min_size=1, max_size=8), st.lists(st.integers(-9, 9), min_size=1, max_size=5))
def test_flipped_is_the_product_of_polynomials(signal, kernel):
    whole = len(kernel) - 1
    for x, w, padding in (
        (np.array(signal)[None, None, None], np.array(kernel)[None, None, None], (0, whole)),
        (np.array(signal)[None, None, :, None], np.array(kernel)[None, None, :, None], (whole, 0)),
    ):
        y = oracle.conv(x, w, shape=ConvShape.of(x.shape, w.shape, padding=padding), flip=True)
        assert y.ravel().tolist() == np.convolve(signal, kernel).tolist()


def test_bound_is_k_u_of_the_absolute_values():
    shape = ConvShape(1, 3, 4, 4, 2, 3, 3, padding=1)
    x, w = integers(0, shape.x_shape, shape.w_shape)
    sums = oracle.conv(np.abs(x), np.abs(w), shape=shape)
    for dtype, unit in ((np.float16, 2.0**-11), (np.float32, 2.0**-24), (np.float64, 2.0**-53)):
        given_x, given_w = x.astype(dtype), w.astype(dtype)
        np.testing.assert_array_equal(oracle.bound(given_x, given_w, shape, k=8), 8 * unit * sums)
        np.testing.assert_array_equal(oracle.bound(given_x, given_w, shape), (16 + 2 * 27**0.5) * unit * sums)
    assert not oracle.bound(x, w, shape).any()


def test_float32_keeps_the_bound_and_a_shift_by_a_pixel_breaks_it():
    shape = ConvShape(2, 16, 9, 9, 8, 3, 3, padding=1)
    generator = np.random.default_rng(7)
    x = generator.standard_normal(shape.x_shape, np.float32)
    w = generator.standard_normal(shape.w_shape, np.float32)
    y, bound = oracle.conv(x, w, shape=shape), oracle.bound(x, w, shape)
    ours = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), padding=1).numpy()
    assert (np.abs(ours - y) <= bound).all()
    assert (np.abs(np.roll(ours, 1, 3) - y) > bound).mean() > 0.99


def test_mixed_integers_and_floats_are_float64():
    shape = ConvShape(1, 1, 1, 1, 1, 1, 1)
    whole, half = np.full((1, 1, 1, 1), 3), np.full((1, 1, 1, 1), 0.5, np.float32)
    assert oracle.conv(whole, half, shape=shape).item() == 1.5
    assert oracle.conv(whole, whole, [0.5], shape=shape).item() == 9.5


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s, a: oracle.conv(a, a, shape=s), "w: got shape (1, 2, 3, 3), wanted (4, 2, 3, 3)."),
        (lambda s, a: oracle.conv(a[0], a, shape=s), "x: got shape (2, 3, 3), wanted (1, 2, 3, 3)."),
        (lambda s, a: oracle.grad_x(a, a, shape=s), "g: got shape (1, 2, 3, 3), wanted (1, 4, 1, 1)."),
        (lambda s, a: oracle.conv(a, np.ones((4, 2, 3, 3)), [1], shape=s), "bias: got shape (1,), wanted (4,)."),
    ],
)
def test_arrays_of_another_shape_are_refused(call, message):
    with pytest.raises(InputError) as caught:
        call(ConvShape(1, 2, 3, 3, 4, 3, 3), np.ones((1, 2, 3, 3)))
    assert str(caught.value) == message
