"""An operation that takes each number, or each pixel's channels, by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hapgop.algorithms.maps.functions import FUNCTIONS
from hapgop.errors import InputError

MapOp = Literal["apply", "add", "mul", "blend", "norm", "layer_norm", "softmax", "copy", "first"]
Over = Literal["all", "image", "pixel"]

# How many addresses a call takes.
TENSORS: dict[MapOp, int] = {
    "apply": 2, "add": 3, "mul": 3, "blend": 3, "norm": 4, "layer_norm": 4, "softmax": 2, "copy": 2, "first": 2,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MapProblem:
    """One such operation on float32 (images, pixels, channels), dense, as data.

    op        the tensors, in the order in which a kernel takes their addresses
    apply     x, y                  y = f(x)
    add, mul  a, b, y               y = f(a + b), f(a * b); b has, by `over`, every number, a row of channels for each
                                    image, or one number for each pixel
    blend     a, b, y               y = f(a * alpha + b * beta)
    norm      x, scale, shift, y    y = f(x * scale + shift), one of each a channel
    layer_norm x, scale, shift, y   the same of x less its mean over the channels, over sqrt(variance + eps)
    softmax   x, y                  over the channels
    copy      x, y                  each pixel's channels to y, `pitch` numbers from one pixel to the next
    first     x, y                  channels first: y (images, channels, pixels)

    f is `function`, with the number `alpha` where it has one. Of add, mul and blend, y may be a. Raises InputError for
    an op or function that is unknown.

    >>> MapProblem("apply", 1, 64, 3, "silu").elements
    192
    """

    op: MapOp
    images: int
    pixels: int
    channels: int
    function: str | None = None
    alpha: float = 0.0
    over: Over = "all"
    pitch: int = 0
    eps: float = 0.0
    beta: float = 0.0

    def __post_init__(self) -> None:
        for name, allowed in (
            ("op", (*TENSORS,)),
            ("function", (None, *FUNCTIONS)),
            ("over", ("all", "image", "pixel")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} is {value!r}; it has to be one of {', '.join(map(repr, allowed))}")

    @property
    def elements(self) -> int:
        """Numbers of the first tensor."""
        return self.images * self.pixels * self.channels
