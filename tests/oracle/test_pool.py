"""The poolings against plain loops and against PyTorch, with ties, NaN and infinities: with ==."""

from itertools import product
from math import isnan, lcm

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hapgop import oracle
from hapgop.shape import PoolShape

exact = settings(deadline=None)
seeds = st.integers(0, 2**32 - 1)
# Few distinct values, so that ties are everywhere.
VALUES = np.array([-np.inf, -1, -0.0, 0, 1, 2, np.inf, np.nan])


@st.composite
def pool_shapes(draw, symmetric=False, longest_dilation=2):
    dilations = st.integers(1, longest_dilation)
    (kh, kw, sh, sw), (dh, dw) = (draw(st.integers(1, 4)) for _ in range(4)), (draw(dilations), draw(dilations))
    top, left = draw(st.integers(0, kh // 2)), draw(st.integers(0, kw // 2))
    bottom = top if symmetric else draw(st.integers(0, kh // 2))
    right = left if symmetric else draw(st.integers(0, kw // 2))
    ih = max((kh - 1) * dh + 1 - top - bottom, 1) + draw(st.integers(0, 5))
    iw = max((kw - 1) * dw + 1 - left - right, 1) + draw(st.integers(0, 5))
    padding = (top, bottom, left, right)
    return PoolShape(draw(st.integers(1, 2)), 2, ih, iw, kh, kw, (sh, sw), padding, (dh, dw), draw(st.booleans()))


def windows(s):
    """Each place of y with its taps: (place in the window, row, column), also where they lie outside."""
    for n, c, h, w in product(*map(range, s.y_shape)):
        yield (
            (n, c, h, w),
            [
                (
                    i * s.kw + j,
                    h * s.stride[0] - s.padding[0] + i * s.dilation[0],
                    w * s.stride[1] - s.padding[2] + j * s.dilation[1],
                )
                for i, j in product(range(s.kh), range(s.kw))
            ],
        )


@exact
@given(pool_shapes(), seeds, st.booleans())
def test_max_by_plain_loops(shape, seed, whole):
    generator = np.random.default_rng(seed)
    x = generator.integers(-2, 3, shape.x_shape) if whole else generator.choice(VALUES, shape.x_shape)
    g = generator.integers(-4, 5, shape.y_shape)
    lowest = np.iinfo(np.int64).min if whole else -np.inf
    y, winners, dx = np.full(shape.y_shape, lowest, x.dtype), np.zeros_like(g), np.zeros_like(x, np.int64)
    for at, taps in windows(shape):
        best = None
        for place, row, column in taps:
            if 0 <= row < shape.ih and 0 <= column < shape.iw:
                value = x[at[0], at[1], row, column]
                if best is None or value > best[0] or isnan(value):
                    best = (value, place, row, column)
        if best is not None:  # a dilated window may miss a small picture altogether
            y[at], winners[at] = best[:2]
            dx[at[0], at[1], best[2], best[3]] += g[at]
    found_y, found_winners = oracle.max_pool(x, shape)
    np.testing.assert_array_equal(found_y, y, strict=True)
    np.testing.assert_array_equal(found_winners, winners, strict=True)
    np.testing.assert_array_equal(oracle.max_pool_grad(g, winners, shape), dx, strict=True)
    np.testing.assert_array_equal(oracle.max_pool_grad(g, winners.astype(np.float32), shape), dx, strict=True)


@exact
@given(pool_shapes(symmetric=True), seeds, st.sampled_from([torch.contiguous_format, torch.channels_last]))
def test_max_is_pytorchs(shape, seed, memory_format):
    generator = np.random.default_rng(seed)
    x = generator.choice(VALUES, shape.x_shape).astype(np.float32)
    g = generator.integers(-4, 5, shape.y_shape).astype(np.float32)
    (sh, sw), (top, _, left, _), (dh, dw) = shape.stride, shape.padding, shape.dilation
    given_x = torch.tensor(x).contiguous(memory_format=memory_format).requires_grad_()
    y, indices = torch.nn.functional.max_pool2d(
        given_x, (shape.kh, shape.kw), (sh, sw), (top, left), (dh, dw), shape.ceil_mode, return_indices=True
    )
    found, winners = oracle.max_pool(x, shape)
    rows = np.arange(shape.oh)[:, None] * sh - top + winners // shape.kw * dh
    columns = np.arange(shape.ow) * sw - left + winners % shape.kw * dw
    # For a dilated window without a single pixel PyTorch's index is beyond the picture, and its backward would
    # write there.
    some = (rows >= 0) & (rows < shape.ih) & (columns >= 0) & (columns < shape.iw)
    np.testing.assert_array_equal(found, y.detach().double().numpy(), strict=True)
    np.testing.assert_array_equal((rows * shape.iw + columns)[some], indices.numpy()[some])
    if some.all():
        y.backward(torch.tensor(g))
        np.testing.assert_array_equal(
            oracle.max_pool_grad(g, winners, shape), given_x.grad.double().numpy(), strict=True
        )


@exact
@given(pool_shapes(), seeds, st.booleans())
def test_mean_by_plain_loops(shape, seed, count_include_pad):
    generator = np.random.default_rng(seed)
    x = generator.integers(-4, 5, shape.x_shape)
    # A multiple of every count there can be: its shares are integers and add up exactly.
    g = generator.integers(-4, 5, shape.y_shape) * lcm(*range(1, 17))
    top, bottom, left, right = shape.padding if count_include_pad else (0, 0, 0, 0)
    y, dx = np.zeros(shape.y_shape), np.zeros(shape.x_shape)
    for at, taps in windows(shape):
        counted = sum(-top <= r < shape.ih + bottom and -left <= c < shape.iw + right for _, r, c in taps)
        inside = [(r, c) for _, r, c in taps if 0 <= r < shape.ih and 0 <= c < shape.iw]
        y[at] = sum(int(x[at[0], at[1], r, c]) for r, c in inside) / max(counted, 1)
        for r, c in inside:
            dx[at[0], at[1], r, c] += g[at] // counted
    np.testing.assert_array_equal(oracle.avg_pool(x, shape, count_include_pad), y, strict=True)
    np.testing.assert_array_equal(oracle.avg_pool_grad(g, shape, count_include_pad), dx, strict=True)


@exact
@given(pool_shapes(symmetric=True, longest_dilation=1), seeds, st.booleans())
def test_mean_is_pytorchs(shape, seed, count_include_pad):
    generator = np.random.default_rng(seed)
    x = torch.tensor(generator.integers(-4, 5, shape.x_shape), dtype=torch.float64, requires_grad=True)
    g = generator.integers(-4, 5, shape.y_shape) * lcm(*range(1, 17))
    (top, _, left, _), kernel = shape.padding, (shape.kh, shape.kw)
    y = torch.nn.functional.avg_pool2d(x, kernel, shape.stride, (top, left), shape.ceil_mode, count_include_pad)
    y.backward(torch.tensor(g, dtype=torch.float64))
    found = oracle.avg_pool(x.detach().numpy(), shape, count_include_pad)
    np.testing.assert_array_equal(found, y.detach().numpy(), strict=True)
    np.testing.assert_array_equal(oracle.avg_pool_grad(g, shape, count_include_pad), x.grad.numpy(), strict=True)


@pytest.mark.parametrize(
    ("row", "value", "winner"),
    [
        ([1, 3, 3], 3, 1),
        ([np.nan, 3, 3], np.nan, 0),
        ([np.nan, 3, np.nan], np.nan, 2),
        ([np.nan, np.nan, np.inf], np.nan, 1),
        ([-np.inf, -np.inf, -np.inf], -np.inf, 0),
    ],
)
def test_winners(row, value, winner):
    y, winners = oracle.max_pool([[[row]]], PoolShape(1, 1, 1, 3, 1, 3))
    np.testing.assert_array_equal(y.item(), value)
    assert winners.item() == winner


def test_padding_never_wins():
    shape = PoolShape(1, 1, 1, 2, 1, 2, 1, (0, 1))
    y, winners = oracle.max_pool([[[[-np.inf, -5]]]], shape)
    assert y.tolist() == [[[[-np.inf, -5, -5]]]]
    assert winners.tolist() == [[[[1, 1, 0]]]]


def test_the_smallest_integer_is_a_value_like_any_other():
    low = np.iinfo(np.int64).min
    y, winners = oracle.max_pool(np.full((1, 1, 1, 1), low), PoolShape(1, 1, 1, 1, 2, 2, 2, 1, ceil_mode=True))
    assert (y.item(), winners.item()) == (low, 3)
