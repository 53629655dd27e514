"""The shape of a pooling."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Self

from hapgop.shape.axis import Axis, formula_lines, refuse_too_large
from hapgop.shape.error import ShapeError
from hapgop.shape.padding import Four, Padding, Pair, Two, four_sides, pair, whole


@dataclass(frozen=True, init=False)
class PoolShape:
    """Everything that decides the arithmetic of one 2-D pooling, by PyTorch's rules, in one normal form.

    Sizes are in pixels: x (n, c, ih, iw), y (n, c, oh, ow). `stride` defaults to the kernel. `padding` takes
    the forms of ConvShape and is at most half the kernel on each side, so that every dense window holds a
    pixel. `ceil_mode` rounds the output size up, but the last window must start inside the input or the
    padding before it.

        kernel 2, stride 2:               12345 -> (12)(34)
        the same, ceil_mode:              12345 -> (12)(34)(5)

    Raises ShapeError with the formula, its numbers and the nearest settings that work.

    >>> PoolShape(1, 6, 28, 28, 2, 2).y_shape
    (1, 6, 14, 14)
    >>> print(PoolShape(1, 1, 5, 5, 2, 2, ceil_mode=True).formula())
    (5 - 2 + 0 + 0) / 2 + 1 = 2.5, rounded up to 3
    """

    n: int
    c: int
    ih: int
    iw: int
    kh: int
    kw: int
    stride: Two
    padding: Four
    dilation: Two
    ceil_mode: bool
    oh: int = field(init=False, compare=False, repr=False)
    ow: int = field(init=False, compare=False, repr=False)

    def __init__(
        self,
        n: int,
        c: int,
        ih: int,
        iw: int,
        kh: int,
        kw: int,
        stride: Pair | None = None,
        padding: Padding = 0,
        dilation: Pair = 1,
        ceil_mode: bool = False,
    ) -> None:
        n, c = whole("n", n, 0), whole("c", c, 1)
        ih, iw = whole("ih", ih, 1), whole("iw", iw, 1)
        kh, kw = whole("kh", kh, 1), whole("kw", kw, 1)
        stride = (kh, kw) if stride is None else pair("stride", stride)
        dilation = pair("dilation", dilation)
        padding = four_sides(padding, (ih, iw), (kh, kw), stride, dilation)
        self.__dict__.update(
            n=n, c=c, ih=ih, iw=iw, kh=kh, kw=kw,
            stride=stride, padding=padding, dilation=dilation, ceil_mode=bool(ceil_mode),
        )  # fmt: skip
        rows, columns = self.rows, self.columns
        for axis in (rows, columns):
            if max(axis.before, axis.after) > axis.kernel // 2:
                raise _refuse_padding(axis)
        self.__dict__.update(oh=rows.out, ow=columns.out)
        if self.oh < 1 or self.ow < 1:
            raise refuse_too_large(rows, columns, most_padding=(kh // 2, kw // 2))

    @property
    def x_shape(self) -> Four:
        return (self.n, self.c, self.ih, self.iw)

    @property
    def y_shape(self) -> Four:
        return (self.n, self.c, self.oh, self.ow)

    @cached_property
    def unread(self) -> Two:
        """Rows below the last window and columns right of it that no window reads.

        >>> PoolShape(1, 1, 7, 8, 2, 2).unread
        (1, 0)
        """
        return (self.rows.unread, self.columns.unread)

    def formula(self) -> str:
        """(N - F + P + P) / S + 1 with its numbers: one line, or one for the rows and one for the columns."""
        return formula_lines(self.rows, self.columns)

    def with_batch(self, n: int) -> Self:
        """The same pooling on a batch of `n`."""
        return type(self)(
            n, self.c, self.ih, self.iw, self.kh, self.kw,
            self.stride, self.padding, self.dilation, self.ceil_mode,
        )  # fmt: skip

    @cached_property
    def _hash(self) -> int:
        return hash((
            self.n, self.c, self.ih, self.iw, self.kh, self.kw,
            self.stride, self.padding, self.dilation, self.ceil_mode,
        ))  # fmt: skip

    def __hash__(self) -> int:
        return self._hash

    @property
    def rows(self) -> Axis:
        """The vertical axis, with its output size, formula and unread rows."""
        top, bottom = self.padding[:2]
        return Axis(self.ih, self.kh, self.stride[0], top, bottom, self.dilation[0], self.ceil_mode)

    @property
    def columns(self) -> Axis:
        """The horizontal axis."""
        left, right = self.padding[2:]
        return Axis(self.iw, self.kw, self.stride[1], left, right, self.dilation[1], self.ceil_mode)


def _refuse_padding(axis: Axis) -> ShapeError:
    padding = max(axis.before, axis.after)
    return ShapeError(
        f"padding: {padding} is more than half of the kernel of {axis.kernel}, so a window could hold "
        f"nothing but padding. What would work: padding of at most {axis.kernel // 2}, "
        f"or a kernel of at least {2 * padding}."
    )
