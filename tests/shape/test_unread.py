"""The warning about rows and columns that no window reads: once, with how many, and with a true remedy."""

import itertools
import re
import warnings

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hapgop.shape import ConvShape, PoolShape, UnreadInputWarning, warn_if_unread

# A setting warns once in a process, so every example brings a name of its own.
names = (f"layer {number}" for number in itertools.count())


def said(shape, where=None):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn_if_unread(shape, where or next(names))
    assert all(one.category is UnreadInputWarning for one in caught)
    return [str(one.message) for one in caught]


def test_one_row():
    name = next(names)
    assert said(PoolShape(1, 3, 7, 8, 2, 2), name) == [
        f"{name}: 1 row of the 7x8 input is never read: rows: (7 - 2 + 0 + 0) / 2 + 1 = 3.5, rounded down to 3; "
        "columns: (8 - 2 + 0 + 0) / 2 + 1 = 4. What would read everything: ceil_mode=True."
    ]


def test_rows_and_columns():
    name = next(names)
    assert said(ConvShape(1, 3, 9, 9, 4, 4, 4, 3), name) == [
        f"{name}: 2 rows and 2 columns of the 9x9 input are never read: "
        "(9 - 4 + 0 + 0) / 3 + 1 = 2.66667, rounded down to 2. "
        "What would read everything: padding=(0, 1, 0, 1) (top, bottom, left, right)."
    ]


def test_once_per_setting_whatever_the_batch():
    name, other = next(names), next(names)
    shape = PoolShape(1, 3, 7, 7, 2, 2)
    assert len(said(shape, name)) == 1
    assert said(shape, name) == []
    assert said(shape.with_batch(64), name) == []
    assert len(said(shape, other)) == 1
    assert len(said(PoolShape(1, 3, 9, 9, 2, 2), name)) == 1


def test_the_warning_points_at_the_caller():
    with pytest.warns(UnreadInputWarning) as caught:
        warn_if_unread(PoolShape(1, 3, 7, 7, 2, 2), next(names))
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "shape",
    [
        ConvShape(1, 3, 8, 8, 4, 3, 3, 1),
        ConvShape(1, 3, 56, 56, 4, 3, 3, 2, 1),  # half a window over, but it is padding
        ConvShape(1, 3, 56, 56, 4, 1, 1, 2),  # every other row is skipped, the last among them
        PoolShape(1, 3, 7, 7, 2, 2, ceil_mode=True),
    ],
)
def test_silence(shape):
    assert said(shape) == []


def test_what_a_long_stride_skips_is_counted_all_the_same():
    assert ConvShape(1, 3, 56, 56, 4, 1, 1, 2).unread == (1, 1)


small = st.integers(1, 5)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), small, small, small, st.integers(1, 2))
def test_the_remedy_for_a_convolution_reads_everything(ih, iw, kh, kw, stride, dilation):
    assume(ih > (kh - 1) * dilation and iw > (kw - 1) * dilation)
    shape = ConvShape(1, 1, ih, iw, 1, kh, kw, stride, 0, dilation)
    messages = said(shape)
    for message in messages:
        padding = tuple(map(int, re.search(r"padding=\((\d+), (\d+), (\d+), (\d+)\)", message).groups()))
        mended = ConvShape(1, 1, ih, iw, 1, kh, kw, stride, padding, dilation)
        assert mended.unread == (0, 0)
    assert messages or max(shape.unread) <= max(stride - (min(kh, kw) - 1) * dilation - 1, 0)


@settings(deadline=None)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(1, 5), st.integers(1, 2))
def test_the_remedy_for_a_pooling_reads_everything(size, kernel, stride, dilation):
    assume(size > (kernel - 1) * dilation)
    messages = said(PoolShape(1, 1, size, size, kernel, kernel, stride, 0, dilation))
    for message in messages:
        assert "ceil_mode=True" in message
        assert said(PoolShape(1, 1, size, size, kernel, kernel, stride, 0, dilation, True)) == []
