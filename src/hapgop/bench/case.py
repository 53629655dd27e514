"""One layer to measure, and the names by which layers are told apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import prod

from hapgop.shape import ConvShape, PoolShape

_CONV = ("forward", "grad_x", "grad_w")
_OTHER = ("forward", "backward")
OPS = ("forward", "grad_x", "grad_w", "backward")


@dataclass(frozen=True, slots=True)
class Case:
    """One layer; a linear layer is the 1x1 convolution that it is.

    kind: "conv", "transposed", "linear", "max_pool" or "avg_pool". Of a transposed convolution, `shape` is that of the
    convolution whose x-derivative it is. batches: the batch sizes it is measured with, unless others are asked for.
    """

    name: str
    kind: str
    shape: ConvShape | PoolShape
    family: str
    batches: tuple[int, ...]
    activation: str | None = None
    pool: tuple[int, int] | None = None

    @property
    def ops(self) -> tuple[str, ...]:
        return _CONV if self.kind in ("conv", "transposed") and self.pool is None else _OTHER

    @property
    def batch(self) -> int:
        """The batch size of `shape`: of a linear layer, the pixels of its one image."""
        return self.shape.iw if self.kind == "linear" else self.shape.n

    @property
    def groups(self) -> int:
        return self.shape.groups if isinstance(self.shape, ConvShape) else 1

    @property
    def bytes(self) -> int:
        """Memory of input, weights and output in float32."""
        weights = self.shape.w_shape if isinstance(self.shape, ConvShape) else ()
        return 4 * (prod(self.shape.x_shape) + prod(self.shape.y_shape) + prod(weights))

    @property
    def flops(self) -> int:
        """Of the definition: two for each tap and channel; of a pool, one for each tap."""
        s = self.shape
        return s.flops if isinstance(s, ConvShape) else s.n * s.c * s.oh * s.ow * s.kh * s.kw

    def at(self, batch: int) -> Case:
        """The same layer on a batch of that size."""
        s = self.shape
        if isinstance(s, PoolShape):
            pool = PoolShape(batch, s.c, s.ih, s.iw, s.kh, s.kw, s.stride, s.padding, s.dilation, s.ceil_mode)
            return replace(self, shape=pool)
        if self.kind == "linear":
            return replace(self, shape=ConvShape(1, s.ic, 1, batch, s.oc, 1, 1))
        return replace(self, shape=s.with_batch(batch))


def family_of(kind: str, shape: ConvShape | PoolShape, pool: tuple[int, int] | None = None) -> str:
    """The class under which the table sums up a layer.

    >>> family_of("conv", ConvShape(1, 64, 56, 56, 64, 3, 3, padding=1))
    '3x3'
    >>> family_of("conv", ConvShape(1, 32, 56, 56, 32, 3, 3, groups=32))
    'depthwise'
    """
    if isinstance(shape, PoolShape) or kind == "linear":
        return "linear" if kind == "linear" else "pool"
    if pool is not None:
        return "conv+pool"
    if kind == "transposed":
        return "transposed"
    if shape.groups > 1:
        return "depthwise" if shape.groups == shape.ic == shape.oc else "grouped"
    if shape.dilation != (1, 1):
        return "dilated"
    if shape.ic <= 4:
        return "first"
    if shape.stride != (1, 1):
        return f"stride{max(shape.stride)}"
    return f"{shape.kh}x{shape.kw}"
