"""What one unit of a layer sees of the input."""

from dataclasses import dataclass
from typing import Self

from hapgop.shape.error import ShapeError
from hapgop.shape.padding import Pair, Two, pair


@dataclass(frozen=True)
class ReceptiveField:
    """The input pixels that a unit depends on, each number as (rows, columns).

    Unit u sees from pixel start + u * jump on, `size` pixels, counted from the first to the last (dilation
    may leave gaps between them). `jump` is the distance between the fields of neighbouring units; `start` is
    that of unit 0, negative where its field begins in the padding. Exact with stride, dilation, padding and
    skips wherever the field lies inside the input; at the border a unit sees no more than the part inside.

    Source: Araujo, Norris, Sim, "Computing receptive fields of convolutional neural networks", Distill 2019.

    >>> field = ReceptiveField.identity().then(kernel=5).then(kernel=2, stride=2).then(kernel=5)
    >>> field.size, field.jump, field.start
    ((14, 14), (2, 2), (0, 0))
    """

    size: Two
    jump: Two
    start: Two

    @classmethod
    def identity(cls) -> Self:
        """The field of an input pixel: itself."""
        return cls((1, 1), (1, 1), (0, 0))

    def then(self, kernel: Pair, stride: Pair = 1, pad_before: Pair = 0, dilation: Pair = 1) -> Self:
        """The field after a window operator on top; each argument an int or (rows, columns).

        `pad_before` is the padding at the top and at the left: `(shape.padding[0], shape.padding[2])`.
        """
        kernel, stride, dilation = pair("kernel", kernel), pair("stride", stride), pair("dilation", dilation)
        before = pair("pad_before", pad_before, 0)
        return type(self)(
            (
                self.size[0] + (kernel[0] - 1) * dilation[0] * self.jump[0],
                self.size[1] + (kernel[1] - 1) * dilation[1] * self.jump[1],
            ),
            (self.jump[0] * stride[0], self.jump[1] * stride[1]),
            (self.start[0] - before[0] * self.jump[0], self.start[1] - before[1] * self.jump[1]),
        )

    def join(self, other: "ReceptiveField") -> Self:
        """The field where two paths meet (add, mul, concat): from the first start to the last end.

        Raises ShapeError where the paths took different strides, because then their units do not correspond.
        """
        if self.jump != other.jump:
            raise ShapeError(
                f"join: the units of one path are {self.jump} input pixels apart, those of the other "
                f"{other.jump}. What would work: strides with the same product along both paths."
            )
        rows, columns = ((min(self.start[a], other.start[a]), max(self._end(a), other._end(a))) for a in (0, 1))
        return type(self)((rows[1] - rows[0], columns[1] - columns[0]), self.jump, (rows[0], columns[0]))

    def _end(self, axis: int) -> int:
        return self.start[axis] + self.size[axis]
