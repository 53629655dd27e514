"""Sizes of poolings against PyTorch."""

import pickle
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hapgop.shape import PoolShape, ShapeError


@settings(deadline=None)
@given(
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 5),
    st.none() | st.integers(1, 5),
    st.integers(0, 3),
    st.integers(1, 3),
    st.booleans(),
)
def test_sizes_and_refusals_are_pytorchs(ih, iw, kernel, stride, padding, dilation, ceil_mode):
    x = torch.zeros(1, 2, ih, iw)
    try:
        wanted = torch.nn.functional.max_pool2d(x, kernel, stride, padding, dilation, ceil_mode).shape
    except RuntimeError:
        with pytest.raises(ShapeError):
            PoolShape(1, 2, ih, iw, kernel, kernel, stride, padding, dilation, ceil_mode)
    else:
        shape = PoolShape(1, 2, ih, iw, kernel, kernel, stride, padding, dilation, ceil_mode)
        assert shape.y_shape == tuple(wanted)
        assert shape.x_shape == tuple(x.shape)


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (PoolShape(1, 1, 28, 28, 2, 2), "(28 - 2 + 0 + 0) / 2 + 1 = 14"),
        (PoolShape(1, 1, 7, 7, 2, 2), "(7 - 2 + 0 + 0) / 2 + 1 = 3.5, rounded down to 3"),
        (PoolShape(1, 1, 7, 7, 2, 2, ceil_mode=True), "(7 - 2 + 0 + 0) / 2 + 1 = 3.5, rounded up to 4"),
        (
            PoolShape(1, 1, 4, 4, 2, 2, 3, 1, ceil_mode=True),
            "(4 - 2 + 1 + 1) / 3 + 1 = 2.33333, rounded up to 3, "
            "less the last window, which would start outside the input: 2",
        ),
    ],
)
def test_formula_text(shape, text):
    assert shape.formula() == text


def test_ceil_mode_reads_everything():
    assert PoolShape(1, 1, 7, 8, 2, 3).unread == (1, 2)
    assert PoolShape(1, 1, 7, 8, 2, 3, ceil_mode=True).unread == (0, 0)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 5))
def test_same_keeps_the_size_over_the_stride(size, kernel, stride):
    assert PoolShape(1, 1, size, size, kernel, kernel, stride, "same").y_shape[2:] == (-(-size // stride),) * 2


def test_normal_form():
    wanted = PoolShape(1, 3, 8, 8, 3, 2, (3, 2), (1, 1, 0, 0), (1, 1), False)
    shape = PoolShape(1, 3, 8, 8, 3, 2, padding=[1, 0])
    assert (shape, hash(shape), repr(shape)) == (wanted, hash(wanted), repr(wanted))
    assert pickle.loads(pickle.dumps(shape)) == shape
    assert shape.with_batch(5) == replace(shape, n=5)
    others = [replace(shape, **{name: getattr(shape, name) + 1}) for name in ("n", "c", "ih", "iw", "kh", "kw")]
    others += [replace(shape, stride=1), replace(shape, padding=1), replace(shape, dilation=2)]
    assert len({shape, replace(shape, ceil_mode=True), *others}) == 11
