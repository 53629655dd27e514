"""The shape of a convolution."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import gcd
from typing import Self

from hapgop.shape.axis import Axis, formula_lines, refuse_too_large
from hapgop.shape.error import ShapeError
from hapgop.shape.padding import Four, Padding, Pair, Two, four_sides, pair, whole


@dataclass(frozen=True, init=False)
class ConvShape:
    """Everything that decides the arithmetic of one 2-D convolution, checked and in one normal form.

    Sizes are in pixels: x (n, ic, ih, iw), w (oc, ic / groups, kh, kw), y (n, oc, oh, ow), with
    oh = (ih - ((kh - 1) * dilation + 1) + top + bottom) / stride + 1, rounded down.

    `stride` and `dilation` are an int or a pair (rows, columns); dilation 1 is dense. `padding` is zeros
    around x: an int, a pair (rows, columns), the four sides (top, bottom, left, right), the same four as
    ((top, bottom), (left, right)), 'valid' (none) or 'same'. Stored are always the pair and the four sides.

        padding=2:                         1234 -> 00123400
        'same', kernel 3, stride 1:        1234 -> 012340
        'same', kernel 3, stride 2:        1234 -> 12340      (TensorFlow's rule: the smaller half before)

    'same' gives ceil(ih / stride) rows; at stride 1 it is PyTorch's.

    Raises ShapeError with the formula, its numbers and the nearest settings that work.

    >>> shape = ConvShape(1, 1, 32, 32, 6, 5, 5)
    >>> shape.y_shape, shape.macs
    ((1, 6, 28, 28), 117600)
    >>> print(shape.formula())
    (32 - 5 + 0 + 0) / 1 + 1 = 28
    """

    n: int
    ic: int
    ih: int
    iw: int
    oc: int
    kh: int
    kw: int
    stride: Two
    padding: Four
    dilation: Two
    groups: int
    oh: int = field(init=False, compare=False, repr=False)
    ow: int = field(init=False, compare=False, repr=False)

    # Built on every call of a convolution: the checks are written for speed, their messages live elsewhere.
    def __init__(
        self,
        n: int,
        ic: int,
        ih: int,
        iw: int,
        oc: int,
        kh: int,
        kw: int,
        stride: Pair = (1, 1),
        padding: Padding = (0, 0, 0, 0),
        dilation: Pair = (1, 1),
        groups: int = 1,
    ) -> None:
        n = n if type(n) is int and n >= 0 else whole("n", n, 0)
        ic = ic if type(ic) is int and ic > 0 else whole("ic", ic, 1)
        ih = ih if type(ih) is int and ih > 0 else whole("ih", ih, 1)
        iw = iw if type(iw) is int and iw > 0 else whole("iw", iw, 1)
        oc = oc if type(oc) is int and oc > 0 else whole("oc", oc, 1)
        kh = kh if type(kh) is int and kh > 0 else whole("kh", kh, 1)
        kw = kw if type(kw) is int and kw > 0 else whole("kw", kw, 1)
        groups = groups if type(groups) is int and groups > 0 else whole("groups", groups, 1)
        sh, sw = stride = pair("stride", stride)
        dh, dw = dilation = pair("dilation", dilation)
        top, bottom, left, right = padding = four_sides(padding, (ih, iw), (kh, kw), stride, dilation)
        if ic % groups or oc % groups:
            raise _refuse_groups(ic, oc, groups)
        row_room = ih - (kh - 1) * dh - 1 + top + bottom
        column_room = iw - (kw - 1) * dw - 1 + left + right
        self.__dict__.update(
            n=n, ic=ic, ih=ih, iw=iw, oc=oc, kh=kh, kw=kw,
            stride=stride, padding=padding, dilation=dilation, groups=groups,
            oh=row_room // sh + 1, ow=column_room // sw + 1,
        )  # fmt: skip
        if row_room < 0 or column_room < 0:
            raise refuse_too_large(self.rows, self.columns)

    @classmethod
    def of(
        cls,
        x_shape: Sequence[int],
        w_shape: Sequence[int],
        *,
        stride: Pair = 1,
        padding: Padding = 0,
        dilation: Pair = 1,
        groups: int = 1,
    ) -> Self:
        """The shape of convolving x (n, ic, ih, iw) with w (oc, ic / groups, kh, kw).

        Raises ShapeError where the two do not fit, with the weight that would.

        >>> ConvShape.of((1, 3, 8, 8), (4, 3, 3, 3), padding="same").y_shape
        (1, 4, 8, 8)
        """
        if len(x_shape) != 4 or len(w_shape) != 4:
            raise _refuse_dimensions(x_shape, w_shape)
        n, ic, ih, iw = x_shape
        oc, channels, kh, kw = w_shape
        groups = groups if type(groups) is int else whole("groups", groups, 1)
        if channels * groups != ic:
            raise _refuse_weight(ic, w_shape, groups)
        return cls(n, ic, ih, iw, oc, kh, kw, stride, padding, dilation, groups)

    @property
    def x_shape(self) -> Four:
        return (self.n, self.ic, self.ih, self.iw)

    @property
    def w_shape(self) -> Four:
        return (self.oc, self.ic // self.groups, self.kh, self.kw)

    @property
    def y_shape(self) -> Four:
        return (self.n, self.oc, self.oh, self.ow)

    @property
    def macs(self) -> int:
        """Multiplications with an addition, taps on padding included."""
        return self.n * self.oc * self.oh * self.ow * (self.ic // self.groups) * self.kh * self.kw

    @property
    def flops(self) -> int:
        """Two for each multiplication with an addition."""
        return 2 * self.macs

    @cached_property
    def unread(self) -> Two:
        """Rows below the last window and columns right of it that no window reads.

        >>> ConvShape(1, 1, 8, 8, 1, 3, 3, stride=2).unread
        (1, 1)
        """
        return (self.rows.unread, self.columns.unread)

    def formula(self) -> str:
        """(N - F + P + P) / S + 1 with its numbers: one line, or one for the rows and one for the columns."""
        return formula_lines(self.rows, self.columns)

    def with_batch(self, n: int) -> Self:
        """The same convolution on a batch of `n`."""
        return type(self)(
            n, self.ic, self.ih, self.iw, self.oc, self.kh, self.kw,
            self.stride, self.padding, self.dilation, self.groups,
        )  # fmt: skip

    @cached_property
    def _hash(self) -> int:
        return hash((
            self.n, self.ic, self.ih, self.iw, self.oc, self.kh, self.kw,
            self.stride, self.padding, self.dilation, self.groups,
        ))  # fmt: skip

    def __hash__(self) -> int:
        return self._hash

    @property
    def rows(self) -> Axis:
        """The vertical axis, with its output size, formula and unread rows."""
        return Axis(self.ih, self.kh, self.stride[0], self.padding[0], self.padding[1], self.dilation[0])

    @property
    def columns(self) -> Axis:
        """The horizontal axis."""
        return Axis(self.iw, self.kw, self.stride[1], self.padding[2], self.padding[3], self.dilation[1])


def _refuse_dimensions(x_shape: Sequence[int], w_shape: Sequence[int]) -> ShapeError:
    name, given, wanted = "x", tuple(x_shape), "(n, ic, ih, iw)"
    if len(given) == 4:
        name, given, wanted = "weight", tuple(w_shape), "(oc, ic / groups, kh, kw)"
    hint = f" One image is a batch of one: {(1, *given)}." if name == "x" and len(given) == 3 else ""
    return ShapeError(f"{name}: shape {given} has {len(given)} dimensions, wanted 4: {wanted}.{hint}")


def _refuse_groups(ic: int, oc: int, groups: int) -> ShapeError:
    common = gcd(ic, oc)
    below = max(g for g in range(1, min(groups, common) + 1) if common % g == 0)
    above = next((g for g in range(groups + 1, common + 1) if common % g == 0), None)
    nearest = f"groups={below}" if above is None else f"groups={below}, or groups={above}"
    channels = [f"the {c} {kind} channels" for c, kind in ((ic, "input"), (oc, "output")) if c % groups]
    return ShapeError(f"groups: {groups} does not divide {' or '.join(channels)}. What would work: {nearest}.")


def _refuse_weight(ic: int, w_shape: Sequence[int], groups: int) -> ShapeError:
    ic, groups = whole("ic", ic, 1), whole("groups", groups, 1)
    oc, channels, kh, kw = map(whole, ("oc", "ic / groups", "kh", "kw"), w_shape, (1, 1, 1, 1))
    if ic % groups or oc % groups:
        return _refuse_groups(ic, oc, groups)
    works = [f"a weight of shape {(oc, ic // groups, kh, kw)}", f"an x of {channels * groups} channels"]
    if ic % channels == 0 and oc % (ic // channels) == 0:
        works.append(f"groups={ic // channels}")
    return ShapeError(
        f"weight: shape {tuple(w_shape)} takes {channels} input channels per group, but x has ic = {ic} and "
        f"groups = {groups}: {ic} / {groups} = {ic // groups}. What would work: {', or '.join(works)}."
    )
