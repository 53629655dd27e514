"""What is asked of the engine: one operation on one shape, with its types and memory orders."""

from dataclasses import dataclass, replace
from typing import Literal

from hapgop.errors import InputError
from hapgop.shape import ConvShape, PoolShape

Op = Literal[
    "conv", "grad_x", "grad_w", "grad_b",
    "max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad",
    "batch_norm", "batch_norm_grad", "relu_grad",
    "pooled_grad", "pooled_grad_x", "pooled_grad_w",
]  # fmt: skip
CONV_OPS: tuple[Op, ...] = ("conv", "grad_x", "grad_w", "grad_b")
POOL_OPS: tuple[Op, ...] = ("max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad")
NORM_OPS: tuple[Op, ...] = ("batch_norm", "batch_norm_grad")
MAP_OPS: tuple[Op, ...] = (*NORM_OPS, "relu_grad")
POOLED_OPS: tuple[Op, ...] = ("pooled_grad", "pooled_grad_x", "pooled_grad_w")
DTYPES = ("float32", "float64", "bfloat16")
ACTIVATIONS = ("relu", "relu6", "hardswish")


@dataclass(frozen=True, slots=True)
class Problem:
    """One operation of the engine, as data; the key of every cache above the kernels.

    Tensors are logical (n, c, h, w) and (oc, ic / groups, kh, kw); a layout is the order in which they lie in memory,
    dense, last axis fastest: "nhwc" and "ohwi" are what PyTorch calls channels_last.

    op            the tensors, in the order in which a kernel takes their addresses
    conv          x, w, bias (or 0), y, r, winners   y = pool(activation(x * w + bias + r))
    grad_x        g, w, bias, dx               dx = activation(x-derivative + bias): also a transposed convolution
    grad_w        x, g, dw
    grad_b        g, db
    max_pool      x, y, winners                winners: position kh_index * kw + kw_index in the window, as a float
    max_pool_grad g, winners, dx
    avg_pool      x, y
    avg_pool_grad g, dx
    batch_norm    x, weight, bias, r, y, stats             y = activation((x - mean) * inverse * weight + bias + r)
    batch_norm_grad g, x, weight, bias, stats, y, dx, dr, dparams
    relu_grad     g, y, dx, db                             dx = g where y is above zero, db its sum
    pooled_grad   g, z, winners, dx, db                    dx: g where z is above zero, sent to its winner; db its sum
    pooled_grad_x g, z, winners, w, dx         dx: of the input of a convolution whose gradient is that dx
    pooled_grad_w x, g, z, winners, dw, db                 dw: of a convolution whose gradient is that dx

    Of grad_x, bias is there only with `bias`. Of conv, r is there only with `residual`: shaped and laid out as the
    result is before pooling. With `pooled` y is the largest of each 2 x 2 pixels (what fills no window is dropped), and
    only then winners are there.
    Winners are float64 where the dtype is, else float32, since bfloat16 counts to 256 only. Without `winners` they are
    not stored, and 0 is taken for their address.
    With `packed`, which conv and grad_x know, the weights come as the plan's `Pack` made them of w.

    batch_norm, batch_norm_grad and relu_grad go through the maps of a `PoolShape` of single pixels. stats: mean,
    variance (of all, not of a sample), and `inverse`, 1 / sqrt(variance + eps), of c numbers each; dparams: the
    gradients of weight and bias. 0 is taken for the address of r and dr without `residual`, of y without both
    `residual` and a ReLU (batch_norm_grad takes from y what the ReLU let through), and of dr where nothing is masked.

    The pooled ones are the gradients of a convolution with ReLU and 2x2 max pool, from the pooled map's: z and winners
    are what `conv` made with `pooled`. pooled_grad has the shape of that pool, pooled_grad_w of the convolution.

    Raises InputError for an unknown op, dtype, layout or activation, for `packed` where there are no weights, and for
    `residual` or `pooled` of an op that has no such step.

    >>> Problem("conv", ConvShape(n=1, ic=3, ih=32, iw=32, oc=6, kh=5, kw=5)).shape.y_shape
    (1, 6, 28, 28)
    """

    op: Op
    shape: ConvShape | PoolShape
    dtype: str = "float32"
    x_layout: str = "nhwc"
    y_layout: str = "nhwc"
    w_layout: str = "oihw"
    bias: bool = False
    activation: str | None = None
    count_include_pad: bool = True
    winners: bool = True
    packed: bool = False
    precision: str = "fast"
    residual: bool = False
    pooled: bool = False
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name, allowed in (
            ("op", CONV_OPS + POOL_OPS + MAP_OPS + POOLED_OPS),
            ("dtype", DTYPES),
            ("x_layout", ("nchw", "nhwc")),
            ("y_layout", ("nchw", "nhwc")),
            ("w_layout", ("oihw", "ohwi")),
            ("activation", (None, *ACTIVATIONS)),
            ("precision", ("fast", "exact")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} is {value!r}; it has to be one of {', '.join(map(repr, allowed))}")
        if self.packed and self.op not in ("conv", "grad_x"):
            raise InputError(f"packed is True, but {self.op} takes no weights; conv and grad_x do")
        for name, able in (("residual", ("conv", *NORM_OPS)), ("pooled", ("conv",))):
            if getattr(self, name) and self.op not in able:
                raise InputError(f"{name} is True, but {self.op} has no such step; of {', '.join(able)} it may be")
        wanted = ConvShape if self.op in (*CONV_OPS, "pooled_grad_x", "pooled_grad_w") else PoolShape
        if not isinstance(self.shape, wanted):
            raise InputError(f"{self.op} wants a {wanted.__name__}, not {type(self.shape).__name__}")
        if isinstance(self.shape, ConvShape):
            object.__setattr__(self, "shape", _within(self.shape))
        if self.pooled:
            _ = self.pool

    @property
    def conv(self) -> ConvShape:
        """The shape of an operation of a convolution."""
        assert isinstance(self.shape, ConvShape)
        return self.shape

    @property
    def maps(self) -> PoolShape:
        """The shape of any other operation."""
        assert isinstance(self.shape, PoolShape)
        return self.shape

    @property
    def pool(self) -> PoolShape:
        """The pool that follows a convolution with `pooled`. Raises ShapeError where its result has no 2 x 2 pixels."""
        return PoolShape(*self.conv.y_shape, 2, 2)

    @property
    def tensors(self) -> int:
        """How many addresses a kernel takes for the tensors."""
        more = {"conv": self.residual + self.pooled, "grad_x": int(self.bias)}
        return _TENSORS[self.op] + more.get(self.op, 0)

    @property
    def biases(self) -> int:
        """Elements of the bias among the tensors; 0 where there is no such tensor."""
        s = self.conv
        return s.oc if self.op == "conv" else s.ic * (self.op == "grad_x" and self.bias)

    @property
    def itemsize(self) -> int:
        """Bytes of one element of a tensor."""
        return {"bfloat16": 2, "float32": 4, "float64": 8}[self.dtype]

    @property
    def inside(self) -> str:
        """The dtype in which kernels compute: of scratch, of tables, and of packed weights."""
        return "float32" if self.dtype == "bfloat16" else self.dtype

    @property
    def lane_bytes(self) -> int:
        """Bytes of one number of the `inside` dtype."""
        return 8 if self.dtype == "float64" else 4


_STRIDE = 4096  # that nobody means


def _within(s: ConvShape) -> ConvShape:
    """The same, though sizes of memory are made of strides: one beyond the input reaches no further than its end."""
    if max(s.stride) <= _STRIDE:
        return s
    ends = (s.ih + sum(s.padding[:2]), s.iw + sum(s.padding[2:]))
    rows, columns = (min(stride, max(end, _STRIDE)) for stride, end in zip(s.stride, ends, strict=True))
    return replace(s, stride=(rows, columns))


_TENSORS = {
    "conv": 4,
    "grad_x": 3,
    "grad_w": 3,
    "grad_b": 2,
    "max_pool": 3,
    "max_pool_grad": 3,
    "avg_pool": 2,
    "avg_pool_grad": 2,
    "batch_norm": 6,
    "batch_norm_grad": 9,
    "relu_grad": 4,
    "pooled_grad": 5,
    "pooled_grad_x": 5,
    "pooled_grad_w": 6,
}
