"""The arithmetic of axes, tiles and blocks, against counting."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import axes, name

from hapgop.algorithms import registers
from hapgop.algorithms.layout import image_strides, vector_counts, weight_strides
from hapgop.algorithms.segments import segments
from hapgop.algorithms.track import backward, forward
from hapgop.machine import AVX2, AVX512, NEON
from hapgop.tile import Affine, Var


def outputs(axis):
    size, kernel, stride, before, after, dilation = axis
    return (size + before + after - (kernel - 1) * dilation - 1) // stride + 1


def meetings(axis):
    """All (output, tap, input) of a convolution along one axis."""
    size, kernel, stride, before, _, dilation = axis
    triples = ((q, t, q * stride - before + t * dilation) for q in range(outputs(axis)) for t in range(kernel))
    return {(q, t, i) for q, t, i in triples if 0 <= i < size}


def gathered(track):
    """All (number of the output, tap of the filter, input) of a track."""
    return {
        (track.out_first + q * track.out_step, track.tap_first + t * track.tap_step, track.source(q, t).const)
        for q in range(track.count)
        for t in range(track.taps)
        if track.valid(q, t)
    }


def tracks(axis):
    size, kernel, stride, before, _, dilation = axis
    arguments = (size, kernel, stride, before, dilation, outputs(axis))
    return forward(*arguments), backward(*arguments)


@given(axes())
def test_forward_meets_what_a_convolution_meets(axis):
    assert gathered(tracks(axis)[0]) == meetings(axis)


@given(axes())
def test_backward_meets_the_same_from_the_other_side(axis):
    every = [gathered(track) for track in tracks(axis)[1]]
    assert {(q, t, i) for part in every for i, t, q in part} == meetings(axis)
    assert sum(map(len, every)) == len(meetings(axis))


@given(axes())
def test_backward_writes_every_input_once(axis):
    written = [t.out_first + q * t.out_step for t in tracks(axis)[1] for q in range(t.count)]
    assert sorted(written) == list(range(axis[0]))


@given(axes())
def test_the_interior_is_where_every_tap_is_inside(axis):
    one, many = tracks(axis)
    for track in (one, *(track for track in many if track.taps)):
        whole = [q for q in range(track.count) if all(track.valid(q, t) for t in range(track.taps))]
        first, last = track.interior
        assert list(range(first, last)) == whole
        assert track.always_inside == (len(whole) == track.count)


@given(axes())
def test_the_range_of_taps_is_those_inside(axis):
    q = Var("q", 1)
    one, many = tracks(axis)
    for track in (one, *many):
        lows, highs = track.tap_range(Affine.of(q))
        for number in range(track.count):
            low, high = max(e.value({q: number}) for e in lows), min(e.value({q: number}) for e in highs)
            assert list(range(low, high)) == [t for t in range(track.taps) if track.valid(number, t)]


@given(axes(), st.integers(1, 9))
def test_segments_cut_a_row_without_gap_or_overlap(axis, pixels):
    one, many = tracks(axis)
    for track in (one, *many):
        row = segments(track, pixels)
        assert (row[0].start, row[-1].stop) == (0, track.count)
        assert all(left.stop == right.start for left, right in pairwise(row))
        for s in row:
            first, last = track.interior
            assert 1 <= s.pixels <= pixels
            assert (s.stop - s.start) % s.pixels == 0
            assert not s.interior or first <= s.start < s.stop <= last
            assert not s.dynamic or s.pixels == 1
            # A border tile's taps are known when the program is built: there is one of it.
            assert s.interior or s.dynamic or s.stop - s.start == s.pixels
        assert sum(not s.interior for s in row) <= 8


@pytest.mark.parametrize(
    ("axis", "kinds"),
    [
        ((2, 3, 1, 140, 141, 1), ["dynamic"]),
        ((330, 3, 1, 99, 99, 99), ["dynamic", "interior", "interior", "dynamic"]),
        ((56, 3, 1, 1, 1, 1), ["border", "interior", "border"]),
        ((7, 3, 1, 0, 0, 1), ["interior"]),
    ],
)
def test_borders_of_many_tiles_are_loops(axis, kinds):
    row = segments(tracks(axis)[0], 9)
    assert ["dynamic" if s.dynamic else "interior" if s.interior else "border" for s in row] == kinds


@given(st.integers(1, 70), st.integers(1, 40), st.sampled_from([AVX512, AVX2, NEON]))
def test_a_tile_fits_the_registers(width, vectors, machine):
    pixels, across = registers.choose_tile(width, vectors, machine)
    assert 1 <= pixels <= width
    assert 1 <= across <= vectors
    assert pixels * across + across + 1 <= machine.registers


@pytest.mark.parametrize("machine", [AVX512, AVX2, NEON], ids=name)
def test_wide_rows_fill_the_multipliers(machine):
    pixels, across = registers.choose_tile(56, 4, machine)
    assert pixels * across >= 8  # two multipliers, four cycles each


@given(st.integers(1, 99), st.integers(1, 30))
def test_balanced_blocks_are_as_few_and_as_equal_as_can_be(width, most):
    size = registers.balanced(width, most)
    assert size <= most
    assert -(-width // size) == -(-width // most)
    assert size == 1 or -(-width // (size - 1)) > -(-width // most)


@given(st.integers(1, 99), st.sampled_from([2, 4, 8, 16]))
def test_vectors_of_channels(channels, lanes):
    counts = vector_counts(channels, lanes)
    assert sum(counts) == channels
    assert all(count == lanes for count in counts[:-1])
    assert 1 <= counts[-1] <= lanes


def test_strides_are_numpys():
    for layout, order in (("nchw", (0, 1, 2, 3)), ("nhwc", (0, 2, 3, 1))):
        shape = (2, 3, 5, 7)
        place = dict.fromkeys(range(4), 1)
        for axis, after in reversed(list(pairwise(order))):
            place[axis] = place[after] * shape[after]
        s = image_strides(layout, *shape[1:])
        assert (s.n, s.c, s.h, s.w) == tuple(place[axis] for axis in range(4))
    assert weight_strides("oihw", 3, 5, 7) == image_strides("nchw", 3, 5, 7)
    assert weight_strides("ohwi", 3, 5, 7) == image_strides("nhwc", 3, 5, 7)
