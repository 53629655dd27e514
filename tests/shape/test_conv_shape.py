"""Sizes of convolutions against counting, and the normal form."""

import pickle
from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hapgop.shape import ConvShape, ShapeError

small = st.integers(1, 4)
sides = st.integers(0, 3)


def windows(size: int, kernel: int, stride: int, before: int, after: int, dilation: int) -> list[list[int]]:
    """Every window that fits into the padded axis, as the input pixels under its taps."""
    found, start = [], -before
    while start + (kernel - 1) * dilation < size + after:
        found.append([start + tap * dilation for tap in range(kernel)])
        start += stride
    return found


@example(size=1, kernel=1, stride=3, before=2, after=0, dilation=1)  # the only window lies in the padding
@settings(deadline=None)
@given(st.integers(1, 12), small, small, sides, sides, small)
def test_output_size_and_unread_agree_with_counting(size, kernel, stride, before, after, dilation):
    counted = windows(size, kernel, stride, before, after, dilation)
    assume(counted)
    padding, other = (before, after, 0, 0), (0, 0, before, after)
    rows = ConvShape(1, 1, size, 1, 1, kernel, 1, (stride, 1), padding, (dilation, 1))
    columns = ConvShape(1, 1, 1, size, 1, 1, kernel, (1, stride), other, (1, dilation))
    assert (rows.oh, rows.ow) == (len(counted), 1)
    assert (columns.oh, columns.ow) == (1, len(counted))
    beyond = [pixel for pixel in range(size) if pixel > counted[-1][-1]]
    assert rows.unread == (len(beyond), 0)
    assert columns.unread == (0, len(beyond))


@settings(deadline=None)
@given(st.integers(1, 12), small, small, sides, sides, small)
def test_the_formula_computes_the_output_size(size, kernel, stride, before, after, dilation):
    assume(windows(size, kernel, stride, before, after, dilation))
    padding = (before, after, before, after)
    shape = ConvShape(1, 1, size, size, 1, kernel, kernel, stride, padding, dilation)
    left, _, right = shape.formula().partition(" = ")
    numbers, _, operations = left[1:].partition(")")
    assert int(eval(f"({numbers}){operations}")) == shape.oh == shape.ow
    assert right.split(",")[0] == f"{eval(left):.6g}"


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (ConvShape(1, 1, 32, 32, 6, 5, 5), "(32 - 5 + 0 + 0) / 1 + 1 = 28"),
        (ConvShape(1, 1, 32, 32, 6, 5, 5, 2), "(32 - 5 + 0 + 0) / 2 + 1 = 14.5, rounded down to 14"),
        (
            ConvShape(1, 1, 32, 32, 6, 5, 5, 1, 1, 2),
            "(32 - 9 + 1 + 1) / 1 + 1 = 26, where 9 = (5 - 1) * 2 + 1",
        ),
        (
            ConvShape(1, 1, 8, 9, 6, 3, 3, 3, (0, 1, 2, 0)),
            "rows: (8 - 3 + 0 + 1) / 3 + 1 = 3\ncolumns: (9 - 3 + 2 + 0) / 3 + 1 = 3.66667, rounded down to 3",
        ),
    ],
)
def test_formula_text(shape, text):
    assert shape.formula() == text


@settings(deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), small, small, small, small, small, small)
def test_same_keeps_the_size_over_the_stride(ih, iw, kh, kw, sh, sw, dh, dw):
    shape = ConvShape(1, 1, ih, iw, 1, kh, kw, (sh, sw), "same", (dh, dw))
    assert (shape.oh, shape.ow) == (-(-ih // sh), -(-iw // sw))
    top, bottom, left, right = shape.padding
    assert bottom - top in (0, 1)
    assert right - left in (0, 1)
    # No more than needed: with one row less of padding the last window would not fit.
    if bottom:
        assert ih + top + bottom - 1 < (shape.oh - 1) * sh + (kh - 1) * dh + 1


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding"),
    [
        (4, 3, 1, (1, 1)),
        (4, 3, 2, (0, 1)),
        (5, 3, 2, (1, 1)),
        (4, 2, 1, (0, 1)),
        (224, 7, 2, (2, 3)),
        (4, 1, 2, (0, 0)),
    ],
)
def test_same_is_tensorflows(size, kernel, stride, padding):
    assert ConvShape(1, 1, size, size, 1, kernel, kernel, stride, "same").padding == padding * 2


def test_every_form_has_one_normal_form():
    wanted = ConvShape(2, 4, 9, 8, 6, 3, 3, (2, 2), (1, 1, 1, 1), (1, 1), 2)
    for padding in (1, [1, 1], (1, 1), (1, 1, 1, 1), [[1, 1], [1, 1]], ((1, 1), 1), np.int64(1)):
        for stride in (2, (2, 2), [2, 2], np.int64(2), (np.int64(2), 2)):
            shape = ConvShape(2, 4, 9, np.int32(8), 6, 3, 3, stride, padding, 1, 2)
            assert shape == wanted
            assert hash(shape) == hash(wanted)
            assert repr(shape) == repr(wanted)
    assert ConvShape(1, 1, 9, 9, 1, 3, 3, padding=(1, 2)).padding == (1, 1, 2, 2)
    assert ConvShape(1, 1, 9, 9, 1, 3, 3, padding=((1, 2), (3, 4))).padding == (1, 2, 3, 4)
    assert ConvShape(1, 1, 9, 9, 1, 3, 3, padding="valid").padding == (0, 0, 0, 0)


def test_each_field_tells_shapes_apart():
    shape = ConvShape(2, 4, 9, 8, 6, 3, 2, 2, 1, 1, 2)
    others = [replace(shape, **{name: getattr(shape, name) + 1}) for name in ("n", "ih", "iw", "kh", "kw")]
    others += [replace(shape, ic=6), replace(shape, oc=8), replace(shape, groups=1)]
    others += [replace(shape, stride=1), replace(shape, padding=2), replace(shape, dilation=2)]
    assert len({shape, *others}) == 12


def test_derived_numbers():
    shape = ConvShape.of((2, 4, 9, 8), (6, 2, 3, 2), stride=(2, 1), padding=1, groups=2)
    assert shape == ConvShape(2, 4, 9, 8, 6, 3, 2, (2, 1), 1, 1, 2)
    assert (shape.x_shape, shape.w_shape, shape.y_shape) == ((2, 4, 9, 8), (6, 2, 3, 2), (2, 6, 5, 9))
    assert shape.macs == (2 * 6 * 5 * 9) * (2 * 3 * 2)
    assert shape.flops == 2 * shape.macs
    assert shape.with_batch(7) == replace(shape, n=7)


def test_an_empty_batch_is_a_shape():
    assert ConvShape(0, 1, 3, 3, 1, 3, 3).y_shape == (0, 1, 1, 1)


def test_frozen_and_picklable():
    shape = ConvShape(1, 1, 3, 3, 1, 3, 3)
    with pytest.raises(FrozenInstanceError):
        shape.n = 2
    copy = pickle.loads(pickle.dumps(shape))
    assert (copy, hash(copy), copy.oh) == (shape, hash(shape), 1)


@settings(deadline=None)
@given(st.integers(1, 8), small, small, sides, sides, small)
def test_refuses_exactly_what_has_no_window(size, kernel, stride, before, after, dilation):
    padding = (before, after, before, after)
    if windows(size, kernel, stride, before, after, dilation):
        ConvShape(1, 1, size, size, 1, kernel, kernel, stride, padding, dilation)
    else:
        with pytest.raises(ShapeError, match="do not fit"):
            ConvShape(1, 1, size, size, 1, kernel, kernel, stride, padding, dilation)
