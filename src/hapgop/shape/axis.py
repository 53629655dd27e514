"""One axis of a window operator: its output size, the formula with its numbers, and what is never read."""

from typing import NamedTuple

from hapgop.shape.error import ShapeError


class Axis(NamedTuple):
    """Rows, or columns: `size` pixels, padded by `before` and `after`, under a window of `kernel` taps."""

    size: int
    kernel: int
    stride: int
    before: int
    after: int
    dilation: int
    ceil: bool = False

    @property
    def reach(self) -> int:
        """Pixels from the first tap to the last, both included: F in (N - F + 2P) / S + 1."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def room(self) -> int:
        """How far the window can move: N - F + 2P."""
        return self.size - self.reach + self.before + self.after

    @property
    def out(self) -> int:
        if not self.ceil:
            return self.room // self.stride + 1
        rounded_up = -(-self.room // self.stride) + 1
        return rounded_up - (1 if self._last_starts_outside(rounded_up) else 0)

    @property
    def unread(self) -> int:
        """Pixels at the far edge, past the last window, that no window reads."""
        return self._from(self._end)

    @property
    def missing(self) -> int:
        """The padding to add for a whole output size."""
        return -self.room % self.stride

    @property
    def surprising(self) -> int:
        """Those of the unread that a stride longer than the window does not skip everywhere anyway."""
        return self._from(self._end + max(self.stride - self.reach, 0))

    @property
    def formula(self) -> str:
        """(N - F + P + P) / S + 1 with its numbers, e.g. `(32 - 5 + 0 + 0) / 1 + 1 = 28`."""
        whole = self.room % self.stride == 0
        value = f"{self.room // self.stride + 1}" if whole else f"{self.room / self.stride + 1:.6g}"
        text = f"({self.size} - {self.reach} + {self.before} + {self.after}) / {self.stride} + 1 = {value}"
        if not whole and self.ceil:
            rounded_up = -(-self.room // self.stride) + 1
            text += f", rounded up to {rounded_up}"
            if self._last_starts_outside(rounded_up):
                text += f", less the last window, which would start outside the input: {self.out}"
        elif not whole:
            text += f", rounded down to {self.out}"
        if self.dilation > 1:
            text += f", where {self.reach} = ({self.kernel} - 1) * {self.dilation} + 1"
        return text

    @property
    def _end(self) -> int:
        """The first coordinate past the last window."""
        return (self.out - 1) * self.stride - self.before + self.reach

    def _from(self, coordinate: int) -> int:
        """How many pixels lie there or beyond; the coordinate may be in the padding."""
        return self.size - min(max(coordinate, 0), self.size)

    def _last_starts_outside(self, out: int) -> bool:
        return (out - 1) * self.stride >= self.size + self.before


def formula_lines(rows: Axis, columns: Axis) -> str:
    """One line where both axes agree, else one for the rows and one for the columns."""
    if rows == columns:
        return rows.formula
    return f"rows: {rows.formula}\ncolumns: {columns.formula}"


def refuse_too_large(rows: Axis, columns: Axis, most_padding: tuple[int, int] | None = None) -> ShapeError:
    """The error of a kernel that is larger than the padded input.

    `most_padding` is what the operator accepts on a side of (rows, columns), None where there is no limit.
    Only a pooling has a limit, and only a pooling has a ceil_mode to propose.
    """
    failing: dict[str, str] = {}
    for place, (name, axis) in enumerate((("rows", rows), ("columns", columns))):
        if axis.out < 1:
            text = _too_large(axis, None if most_padding is None else most_padding[place])
            failing[text] = f"{failing[text]} and {name}" if text in failing else name
    return ShapeError("\n".join(text.format(name=name) for text, name in failing.items()))


def _too_large(axis: Axis, most_padding: int | None) -> str:
    # Rounding up lets the window hang over the edge by so much.
    size = axis.size + (axis.stride - 1 if axis.ceil else 0)
    padded = size + axis.before + axis.after
    works = []
    kernel = (padded - 1) // axis.dilation + 1
    if most_padding is None or max(axis.before, axis.after) <= kernel // 2:
        works.append(f"a kernel of at most {kernel}")
    dilation = (padded - 1) // max(axis.kernel - 1, 1)
    if 1 <= dilation < axis.dilation:
        works.append(f"dilation {dilation}")
    padding = -(-(axis.reach - size) // 2)
    if most_padding is None or padding <= most_padding:
        works.append(f"padding {padding} on each side")
    if most_padding is not None and not axis.ceil and axis._replace(ceil=True).out >= 1:
        works.append("ceil_mode=True")
    works.append(f"an input of at least {axis.size + axis.reach - padded}")
    spread = f", spread over {axis.reach} by dilation {axis.dilation}," if axis.dilation > 1 else ""
    return (
        f"kernel: {axis.kernel} {{name}}{spread} do not fit into the {axis.size + axis.before + axis.after} "
        f"of the padded input: {axis.formula}. What would work: {', or '.join(works)}."
    )
