"""Receptive fields against what really influences a unit: gradients through random chains with skips."""

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from hapgop import oracle
from hapgop.shape import ConvShape, ReceptiveField, ShapeError

INPUT = (37, 41)


@st.composite
def chains(draw):
    """Layers, each a list of one or two paths of the same output size that are added up."""
    ih, iw = INPUT
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        kh, kw, sh, sw, dh, dw = (draw(st.integers(1, 3 if place < 2 else 2)) for place in range(6))
        top, bottom, left, right = (draw(st.integers(0, 2)) for _ in range(4))
        if ih + top + bottom < (kh - 1) * dh + 1 or iw + left + right < (kw - 1) * dw + 1:
            break
        paths = [ConvShape(1, 1, ih, iw, 1, kh, kw, (sh, sw), (top, bottom, left, right), (dh, dw))]
        if draw(st.booleans()):
            # A kernel longer by `before + after` taps, with so much more padding, has as many windows.
            before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
            padding = (top + before * dh, bottom + after * dh, left, right)
            paths.append(ConvShape(1, 1, ih, iw, 1, kh + before + after, kw, (sh, sw), padding, (dh, dw)))
        layers.append(paths)
        ih, iw = paths[0].oh, paths[0].ow
    return layers


def field_of(layers):
    field = ReceptiveField.identity()
    for paths in layers:
        after = [field.then((p.kh, p.kw), p.stride, (p.padding[0], p.padding[2]), p.dilation) for p in paths]
        field = after[0] if len(after) == 1 else after[0].join(after[1])
    return field


def influence(layers, row, column):
    """How much each input pixel counts for one unit, where every filter is of ones: nothing can cancel."""
    g = np.zeros(layers[-1][0].y_shape, np.int64)
    g[0, 0, row, column] = 1
    for paths in reversed(layers):
        g = sum(oracle.grad_x(g, np.ones(p.w_shape, np.int64), shape=p) for p in paths)
    return g[0, 0]


@settings(deadline=None)
@given(chains(), st.data())
def test_fields_are_what_influences_a_unit(layers, data):
    field = field_of(layers)
    last = layers[-1][0]
    unit = (data.draw(st.integers(0, last.oh - 1)), data.draw(st.integers(0, last.ow - 1)))
    seen = influence(layers, *unit)
    first = [start + u * jump for start, u, jump in zip(field.start, unit, field.jump, strict=True)]
    end = [pixel + size for pixel, size in zip(first, field.size, strict=True)]
    inside = min(first) >= 0 and end[0] <= INPUT[0] and end[1] <= INPUT[1]
    event(f"inside the input: {inside}")
    for axis in (0, 1):
        touched = np.flatnonzero(seen.any(1 - axis))
        assert set(touched) <= set(range(first[axis], end[axis]))
        if inside:
            assert (touched[0], touched[-1] + 1) == (first[axis], end[axis])


def test_one_pixel_sees_itself():
    assert ReceptiveField.identity() == ReceptiveField((1, 1), (1, 1), (0, 0))


def test_a_stride_and_a_dilation_on_top_of_it():
    field = ReceptiveField.identity().then(3, 2, 1).then((3, 1), 1, (2, 0), (2, 1))
    # Units 0, 2, 4 less the padding of 2, each of 3 pixels, 2 apart, less the padding of 1.
    assert field == ReceptiveField((11, 3), (2, 2), (-5, -1))


def test_vgg16():
    field = ReceptiveField.identity()
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            field = field.then(3, 1, 1)
        field = field.then(2, 2)
    # The table of Araujo, Norris, Sim 2019: 212, stride 32, padding 90.
    assert field == ReceptiveField((212, 212), (32, 32), (-90, -90))


def test_a_residual_block_sees_what_its_longer_path_sees():
    before = ReceptiveField.identity().then(7, 2, 3)
    long, short = before.then(3, 2, 1).then(3, 1, 1), before.then(1, 2)
    assert long.join(short) == short.join(long) == long


def test_a_join_of_shifted_paths_spans_both():
    one, other = ReceptiveField((3, 3), (2, 2), (-2, 0)), ReceptiveField((3, 2), (2, 2), (1, -4))
    assert one.join(other) == other.join(one) == ReceptiveField((6, 7), (2, 2), (-2, -4))


def test_paths_of_different_strides_do_not_meet():
    field = ReceptiveField.identity()
    with pytest.raises(ShapeError, match=r"^join: "):
        field.then(3, (1, 2)).join(field.then(3, (2, 1)))
