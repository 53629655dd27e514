"""The arithmetic of index expressions is Python's."""

from hypothesis import given
from hypothesis import strategies as st

from hapgop.tile import Affine, Quotient, Size, Var, depth

N = Size("n", 1, 9)
VI, VJ, VK = Var("i", 1), Var("j", 2), Var("k", 3)
VALUES = st.fixed_dictionaries({atom: st.integers(-40, 40) for atom in (N, VI, VJ, VK)})

# An expression and the Python function that it has to agree with.
leaves = st.one_of(
    st.integers(-9, 9).map(lambda c: (Affine.of(c), lambda _: c)),
    st.sampled_from([N, VI, VJ, VK]).map(lambda a: (Affine.of(a), lambda values: values[a])),
)


def _grow(children):
    both = st.tuples(children, children)
    factors, divisors = st.integers(-5, 5), st.integers(1, 7)

    def left(children, others, make):
        return st.tuples(children, others).map(lambda t: make(*t))

    return st.one_of(
        both.map(lambda t: (t[0][0] + t[1][0], lambda v: t[0][1](v) + t[1][1](v))),
        both.map(lambda t: (t[0][0] - t[1][0], lambda v: t[0][1](v) - t[1][1](v))),
        children.map(lambda e: (-e[0], lambda v: -e[1](v))),
        left(children, factors, lambda e, c: (e[0] * c, lambda v: e[1](v) * c)),
        left(children, factors, lambda e, c: (c * e[0], lambda v: c * e[1](v))),
        left(children, factors, lambda e, c: (c - e[0], lambda v: c - e[1](v))),
        left(children, factors, lambda e, c: (c + e[0], lambda v: c + e[1](v))),
        left(children, factors, lambda e, c: (e[0] - c, lambda v: e[1](v) - c)),
        left(children, st.sampled_from([N, VI, VJ]), lambda e, a: (e[0] + a, lambda v: e[1](v) + v[a])),
        left(children, divisors, lambda e, d: (e[0] // d, lambda v: e[1](v) // d)),
        left(children, divisors, lambda e, d: (e[0] % d, lambda v: e[1](v) % d)),
    )


expressions = st.recursive(leaves, _grow, max_leaves=8)


@given(expressions, VALUES)
def test_value_is_pythons(pair, values):
    expression, function = pair
    assert expression.value(values) == function(values)


@given(expressions, expressions)
def test_sums_are_compared_by_value(left, right):
    a, b = left[0], right[0]
    assert a + b == b + a
    assert hash(a + b) == hash(b + a)
    assert a - a == Affine()
    assert a + b - b == a
    assert a * 3 - a - a == a
    assert (a == b) == ((a - b) == Affine())


@given(expressions, expressions, st.integers(1, 5))
def test_operands_are_left_as_they_were(left, right, c):
    a, b = left[0], right[0]
    before = repr(a), repr(b), hash(a), hash(b)
    a + b, a - b, a * c, -a, a // c, a % c, c - a
    assert (repr(a), repr(b), hash(a), hash(b)) == before


def test_terms_that_cancel_are_gone():
    i = Affine.of(VI)
    assert (i * 2 - i - i).terms == {}
    assert (i * 0).terms == {}


def test_an_expression_is_no_number():
    assert Affine(3) != 3


def test_depth_is_that_of_the_deepest_variable():
    assert depth(N) == 0
    assert depth(VJ) == 2
    assert depth(Quotient(Affine.of(VI) + VJ, 2)) == 2
    assert depth(Quotient(Affine.of(N), 2)) == 0


def test_text():
    i, n = Affine.of(VI), Affine.of(N)
    assert str(Affine()) == "0"
    assert str(i * 4 - n + 2) == "4 i - 1 n + 2"
    assert str(n * -3 - 1) == "-3 n - 1"
    assert str((i + 5) // 2 * 3) == "3 (i + 5 // 2)"
