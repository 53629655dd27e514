"""What is proved about an expression holds for every iteration of every loop nest."""

from itertools import product
from math import floor

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hapgop.tile import Affine, Size, Var
from hapgop.tile.bounds import Ranges

SMALL = st.integers(-3, 3)


@st.composite
def affine(draw, atoms):
    """A sum of some atoms, some of them divided."""
    total = Affine(draw(st.integers(-6, 6)))
    for atom in draw(st.lists(st.sampled_from(atoms), max_size=3)) if atoms else ():
        term = Affine.of(atom) * draw(SMALL) + draw(SMALL)
        if draw(st.booleans()):
            term = term // draw(st.integers(1, 4))
            if draw(st.booleans()):
                term = (term + draw(st.sampled_from(atoms))) // draw(st.integers(2, 3))
        total += term * draw(SMALL)
    return total


@st.composite
def nests(draw):
    """Sizes, and up to three loops inside one another whose bounds depend on the outer ones."""
    sizes = []
    for i in range(draw(st.integers(0, 1))):
        low = draw(st.integers(-2, 3))
        sizes.append(Size(f"s{i}", low, low + draw(st.integers(0, 3))))
    atoms = list(sizes)
    loops = []
    for i in range(draw(st.integers(1, 3))):
        var = Var(f"v{i}", i + 1)
        lows = draw(st.lists(affine(atoms), min_size=1, max_size=2))
        length = draw(st.integers(1, 4))
        highs = [lows[0] + length, *draw(st.lists(affine(atoms), max_size=1))]
        loops.append((var, tuple(lows), tuple(highs), draw(st.integers(1, 3))))
        atoms.append(var)
    return sizes, loops, draw(affine(atoms))


def iterations(loops, values):
    """The values of all atoms, in every iteration of the innermost loop."""
    if not loops:
        yield dict(values)
        return
    (var, lows, highs, step), *inner = loops
    first, stop = max(a.value(values) for a in lows), min(a.value(values) for a in highs)
    for value in range(first, stop, step):
        yield from iterations(inner, {**values, var: value})


def enter_all(loops):
    ranges = Ranges()
    for loop in loops:
        ranges.enter(*loop)
    return ranges


@given(nests())
def test_bounds_hold_in_every_iteration(nest):
    sizes, loops, expression = nest
    ranges = enter_all(loops)
    lower, upper = ranges.lower(expression), ranges.upper(expression)
    seen = False
    for numbers in product(*(range(s.low, s.high + 1) for s in sizes)):
        for values in iterations(loops, dict(zip(sizes, numbers, strict=True))):
            seen = True
            assert lower <= expression.value(values) <= upper
    assume(seen)


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(1, 5), SMALL), min_size=1, max_size=3), SMALL)
def test_bounds_of_a_box_are_tight(axes, const):
    variables = [Var(f"v{i}", i + 1) for i in range(len(axes))]
    loops = [
        (v, (Affine(low),), (Affine(low + length),), 1) for v, (low, length, _) in zip(variables, axes, strict=True)
    ]
    expression = sum((Affine.of(v) * c for v, (_, _, c) in zip(variables, axes, strict=True)), Affine(const))
    values = [expression.value(v) for v in iterations(loops, {})]
    ranges = enter_all(loops)
    assert ranges.lower(expression) == min(values)
    assert ranges.upper(expression) == max(values)


@given(st.integers(-9, 9), st.integers(1, 9), st.integers(1, 5), st.integers(-9, 9), st.sampled_from([1, -1]))
def test_bounds_of_a_quotient_are_tight(low, length, divisor, offset, sign):
    i = Var("i", 1)
    loops = [(i, (Affine(low),), (Affine(low + length),), 1)]
    expression = (Affine.of(i) * sign + offset) // divisor
    values = [expression.value(v) for v in iterations(loops, {})]
    ranges = enter_all(loops)
    assert floor(ranges.lower(expression)) == min(values)
    assert floor(ranges.upper(expression)) == max(values)


@given(st.integers(1, 20), st.integers(1, 7))
def test_a_remainder_lies_below_its_divisor(count, divisor):
    i = Var("i", 1)
    ranges = enter_all([(i, (Affine(),), (Affine(count),), 1)])
    remainder = Affine.of(i) % divisor
    assert ranges.lower(remainder) >= 0
    assert ranges.upper(remainder) <= min(divisor - 1, count - 1)


def test_a_quotient_is_rounded_down():
    i = Var("i", 1)
    ranges = enter_all([(i, (Affine(),), (Affine(10),), 1)])
    assert ranges.upper(Affine.of(i) % 4) == 3
    assert ranges.lower(Affine.of(i) // 4 * 4 - i) == -3


def test_a_triangle():
    i, j, n = Var("i", 1), Var("j", 2), Size("n", 1, 100)
    ranges = enter_all([(i, (Affine(),), (Affine.of(n),), 1), (j, (Affine.of(i),), (Affine.of(n),), 1)])
    assert ranges.lower(Affine.of(j) - i) == 0
    assert ranges.upper(Affine.of(j) - n) == -1
    assert ranges.upper(Affine.of(j) * 1 + i) == 198


def test_windows_stay_inside_for_every_size():
    """The proof on which every kernel rests: n images of 12 elements, read in steps of 4."""
    n, image, at = Size("n"), Var("image", 1), Var("at", 2)
    ranges = enter_all([(image, (Affine(),), (Affine.of(n),), 1), (at, (Affine(),), (Affine(12),), 4)])
    last = Affine.of(image) * 12 + at + 3
    assert ranges.upper(last - Affine.of(n) * 12) == -1
    assert ranges.upper(last + 1 - Affine.of(n) * 12) == 0


def test_several_bounds_count_together():
    i, j = Var("i", 1), Var("j", 2)
    lows, highs = (Affine(), Affine.of(i) - 4), (Affine(7), Affine.of(i) + 2)
    ranges = enter_all([(i, (Affine(),), (Affine(10),), 1), (j, lows, highs, 1)])
    assert ranges.upper(Affine.of(j)) == 6
    assert ranges.upper(Affine.of(j) - i) == 1
    assert ranges.lower(Affine.of(j)) == 0
    assert ranges.lower(Affine.of(j) - i) == -4


def test_the_last_step_counts():
    i = Var("i", 1)
    assert enter_all([(i, (Affine(),), (Affine(10),), 4)]).upper(Affine.of(i)) == 8


def test_a_variable_without_a_loop_is_an_error():
    with pytest.raises(KeyError, match="i is used outside its loop"):
        Ranges().upper(Affine.of(Var("i", 1)))
