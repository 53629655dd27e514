"""What the errors say, word for word, and that what they propose is true."""

import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hapgop.errors import InputError
from hapgop.shape import ConvShape, PoolShape, ReceptiveField, ShapeError

FORMS = (
    "a whole number, a pair (rows, columns), four sides (top, bottom, left, right), "
    "((top, bottom), (left, right)), 'same' or 'valid'"
)


def conv(**changes):
    return ConvShape(**{"n": 1, "ic": 8, "ih": 5, "iw": 5, "oc": 16, "kh": 3, "kw": 3} | changes)


def pool(**changes):
    return PoolShape(**{"n": 1, "c": 8, "ih": 5, "iw": 5, "kh": 3, "kw": 3} | changes)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: conv(kh=7, kw=7),
            "kernel: 7 rows and columns do not fit into the 5 of the padded input: (5 - 7 + 0 + 0) / 1 + 1 = -1. "
            "What would work: a kernel of at most 5, or padding 1 on each side, or an input of at least 7.",
        ),
        (
            lambda: conv(kh=3, kw=8, padding=(0, 0, 1, 1)),
            "kernel: 8 columns do not fit into the 7 of the padded input: (5 - 8 + 1 + 1) / 1 + 1 = 0. "
            "What would work: a kernel of at most 7, or padding 2 on each side, or an input of at least 6.",
        ),
        (
            lambda: conv(iw=6, dilation=3),
            "kernel: 3 rows and columns, spread over 7 by dilation 3, do not fit into the {} of the padded input: "
            "({} - 7 + 0 + 0) / 1 + 1 = {}, where 7 = (3 - 1) * 3 + 1. "
            "What would work: a kernel of at most 2, or dilation 2, or padding 1 on each side, "
            "or an input of at least 7.",
        ),
        (
            lambda: pool(kh=6, kw=3),
            "kernel: 6 rows do not fit into the 5 of the padded input: "
            "(5 - 6 + 0 + 0) / 6 + 1 = 0.833333, rounded down to 0. What would work: a kernel of at most 5, "
            "or padding 1 on each side, or ceil_mode=True, or an input of at least 6.",
        ),
        (
            lambda: pool(ih=1, stride=1, padding=(0, 1), ceil_mode=True),
            "kernel: 3 rows do not fit into the 1 of the padded input: (1 - 3 + 0 + 0) / 1 + 1 = -1. "
            "What would work: a kernel of at most 1, or padding 1 on each side, or an input of at least 3.",
        ),
        (
            lambda: pool(padding=2),
            "padding: 2 is more than half of the kernel of 3, so a window could hold nothing but padding. "
            "What would work: padding of at most 1, or a kernel of at least 4.",
        ),
        (
            lambda: conv(groups=3),
            "groups: 3 does not divide the 8 input channels or the 16 output channels. "
            "What would work: groups=2, or groups=4.",
        ),
        (
            lambda: conv(groups=16),
            "groups: 16 does not divide the 8 input channels. What would work: groups=8.",
        ),
        (
            lambda: ConvShape.of((1, 8, 5, 5), (9, 4, 3, 3), groups=2),
            "groups: 2 does not divide the 9 output channels. What would work: groups=1.",
        ),
        (
            lambda: ConvShape.of((1, 8, 5, 5), (16, 4, 3, 3)),
            "weight: shape (16, 4, 3, 3) takes 4 input channels per group, but x has ic = 8 and groups = 1: "
            "8 / 1 = 8. What would work: a weight of shape (16, 8, 3, 3), or an x of 4 channels, or groups=2.",
        ),
        (
            lambda: ConvShape.of((1, 8, 5, 5), (16, 3, 3, 3), groups=2),
            "weight: shape (16, 3, 3, 3) takes 3 input channels per group, but x has ic = 8 and groups = 2: "
            "8 / 2 = 4. What would work: a weight of shape (16, 4, 3, 3), or an x of 6 channels.",
        ),
        (
            lambda: ConvShape.of((1, 8, 5, 5), (16, 4, 3, 3), groups=3),
            "groups: 3 does not divide the 8 input channels or the 16 output channels. "
            "What would work: groups=2, or groups=4.",
        ),
        (
            lambda: ConvShape.of((8, 5, 5), (16, 8, 3, 3)),
            "x: shape (8, 5, 5) has 3 dimensions, wanted 4: (n, ic, ih, iw). "
            "One image is a batch of one: (1, 8, 5, 5).",
        ),
        (lambda: ConvShape.of((8,), (16, 8, 3, 3)), "x: shape (8,) has 1 dimensions, wanted 4: (n, ic, ih, iw)."),
        (
            lambda: ConvShape.of((1, 8, 5, 5), (16, 8, 3)),
            "weight: shape (16, 8, 3) has 3 dimensions, wanted 4: (oc, ic / groups, kh, kw).",
        ),
        (
            lambda: ConvShape.of((1, 8, 5, 5), (16, 0, 3, 3)),
            "ic / groups: got 0, wanted at least 1; the nearest that works is 1.",
        ),
        (
            lambda: ConvShape.of((1, 8, 5, 5), (16, 8, 3, 3), groups=None),
            "groups: got None, wanted a whole number of at least 1.",
        ),
        (lambda: conv(padding="full"), f"padding: got 'full', wanted {FORMS}."),
        (lambda: conv(padding=(1, 2, 3)), f"padding: got (1, 2, 3), wanted {FORMS}."),
        (lambda: conv(padding=None), f"padding: got None, wanted {FORMS}."),
        (lambda: pool(padding=1.5), f"padding: got 1.5, wanted {FORMS}."),
        (lambda: conv(padding=-1), "padding: got -1, wanted at least 0; the nearest that works is 0."),
        (lambda: conv(padding=(0, 0, 0, "1")), "padding: got '1', wanted a whole number of at least 0."),
        (lambda: conv(stride=0), "stride: got 0, wanted at least 1; the nearest that works is 1."),
        (lambda: pool(stride=(1, -2)), "stride: got -2, wanted at least 1; the nearest that works is 1."),
        (lambda: conv(stride="22"), "stride: got '22', wanted a whole number or a pair (rows, columns)."),
        (lambda: conv(dilation=(1, 2, 3)), "dilation: got (1, 2, 3), wanted a whole number or a pair (rows, columns)."),
        (lambda: conv(kh=3.0), "kh: got 3.0, wanted a whole number of at least 1."),
        (lambda: conv(n=-1), "n: got -1, wanted at least 0; the nearest that works is 0."),
        (lambda: pool(c=0), "c: got 0, wanted at least 1; the nearest that works is 1."),
        (
            lambda: ReceptiveField.identity().join(ReceptiveField.identity().then(3, 2)),
            "join: the units of one path are (1, 1) input pixels apart, those of the other (2, 2). "
            "What would work: strides with the same product along both paths.",
        ),
    ],
)
def test_message(make, message):
    with pytest.raises(ShapeError) as caught:
        make()
    assert isinstance(caught.value, InputError)
    if "{}" in message:
        # Rows and columns fail with different numbers: a line each.
        rows, columns = message.format(5, 5, -1), message.format(6, 6, 0)
        message = rows.replace("rows and columns", "rows") + "\n" + columns.replace("rows and columns", "columns")
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["n", "ic", "ih", "iw", "oc", "kh", "kw", "groups", "stride", "dilation", "padding"])
def test_every_argument_of_a_convolution_is_named(name):
    for nonsense in (-1, "no", 2.5):
        with pytest.raises(ShapeError, match=f"^{name}: got {nonsense!r}, wanted "):
            conv(**{name: nonsense})


@pytest.mark.parametrize("name", ["n", "c", "ih", "iw", "kh", "kw", "stride", "dilation", "padding"])
def test_every_argument_of_a_pooling_is_named(name):
    for nonsense in (-1, "no", 2.5):
        with pytest.raises(ShapeError, match=f"^{name}: got {nonsense!r}, wanted "):
            pool(**{name: nonsense})


def works(kind, **settings):
    try:
        kind(**settings)
    except ShapeError:
        return False
    return True


PROPOSALS = {
    r"a kernel of at most (\d+)": (lambda kernel: {"kh": kernel}, +1),
    r"dilation (\d+)": (lambda dilation: {"dilation": (dilation, 1)}, +1),
    r"padding (\d+) on each side": (lambda padding: {"padding": (padding, 0)}, -1),
    r"an input of at least (\d+)": (lambda ih: {"ih": ih}, -1),
    r"ceil_mode=(True)": (lambda ceil_mode: {"ceil_mode": ceil_mode}, None),
}


def check_proposals(kind, settings):
    """Every proposal works, and the one a step nearer does not."""
    with pytest.raises(ShapeError) as caught:
        kind(**settings)
    for proposal in str(caught.value).partition("What would work: ")[2].rstrip(".").split(", or "):
        ((found, (change, nearer)),) = (
            (found, made) for pattern, made in PROPOSALS.items() if (found := re.fullmatch(pattern, proposal))
        )
        value = eval(found[1])
        assert works(kind, **settings | change(value)), proposal
        if nearer:
            assert not works(kind, **settings | change(value + nearer)), proposal


axis = {
    "size": st.integers(1, 6),
    "kernel": st.integers(2, 9),
    "stride": st.integers(1, 4),
    "dilation": st.integers(1, 4),
}


@settings(deadline=None)
@given(**axis, before=st.integers(0, 4), after=st.integers(0, 4))
def test_proposals_for_a_convolution_work(size, kernel, stride, dilation, before, after):
    settings = {
        "n": 1, "ic": 1, "ih": size, "iw": 1, "oc": 1, "kh": kernel, "kw": 1,
        "stride": stride, "padding": (before, after, 0, 0), "dilation": (dilation, 1),
    }  # fmt: skip
    assume(not works(ConvShape, **settings))
    check_proposals(ConvShape, settings)


@settings(deadline=None)
@given(**axis, padding=st.integers(0, 4), ceil_mode=st.booleans())
def test_proposals_for_a_pooling_work(size, kernel, stride, dilation, padding, ceil_mode):
    settings = {
        "n": 1, "c": 1, "ih": size, "iw": 1, "kh": kernel, "kw": 1,
        "stride": stride, "padding": (padding, 0), "dilation": (dilation, 1), "ceil_mode": ceil_mode,
    }  # fmt: skip
    assume(padding <= kernel // 2 and not works(PoolShape, **settings))
    check_proposals(PoolShape, settings)


@settings(deadline=None)
@given(kernel=st.integers(1, 9), padding=st.integers(1, 9))
def test_proposals_for_the_padding_of_a_pooling_work(kernel, padding):
    settings = {"n": 1, "c": 1, "ih": 20, "iw": 20, "kh": kernel, "kw": kernel, "padding": padding}
    assume(padding > kernel // 2)
    with pytest.raises(ShapeError) as caught:
        PoolShape(**settings)
    most, least = map(int, re.findall(r"at (?:most|least) (\d+)", str(caught.value)))
    assert works(PoolShape, **settings | {"padding": most})
    assert not works(PoolShape, **settings | {"padding": most + 1})
    assert works(PoolShape, **settings | {"kh": least, "kw": least})
    assert not works(PoolShape, **settings | {"kh": least - 1, "kw": least - 1})


@settings(deadline=None)
@given(st.integers(1, 48), st.integers(1, 48), st.integers(1, 60))
def test_proposed_groups_are_the_nearest(ic, oc, groups):
    divides = [g for g in range(1, 49) if ic % g == 0 and oc % g == 0]
    assume(groups not in divides)
    with pytest.raises(ShapeError) as caught:
        conv(ic=ic, oc=oc, groups=groups)
    proposed = [int(number) for number in re.findall(r"groups=(\d+)", str(caught.value))]
    below = [max(g for g in divides if g < groups)]
    above = [g for g in divides if g > groups][:1]
    assert proposed == below + above
