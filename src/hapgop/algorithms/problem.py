"""What is asked of the engine: one operation on one shape, with its types and memory orders."""

from dataclasses import dataclass
from typing import Literal

from hapgop.errors import InputError
from hapgop.shape import ConvShape, PoolShape

Op = Literal[
    "conv", "grad_x", "grad_w", "grad_b",
    "max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad",
    "batch_norm", "batch_norm_grad", "relu_grad",
]  # fmt: skip
CONV_OPS: tuple[Op, ...] = ("conv", "grad_x", "grad_w", "grad_b")
POOL_OPS: tuple[Op, ...] = ("max_pool", "max_pool_grad", "avg_pool", "avg_pool_grad")
NORM_OPS: tuple[Op, ...] = ("batch_norm", "batch_norm_grad")
MAP_OPS: tuple[Op, ...] = (*NORM_OPS, "relu_grad")
DTYPES = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Problem:
    """One operation of the engine, as data; the key of every cache above the kernels.

    Tensors are logical (n, c, h, w) and (oc, ic / groups, kh, kw); a layout is the order in which they lie in memory,
    dense, last axis fastest: "nhwc" and "ohwi" are what PyTorch calls channels_last.

    op            the tensors, in the order in which a kernel takes their addresses
    conv          x, w, bias (or 0), y         y = activation(x * w + bias)
    grad_x        g, w, dx                     also the transposed convolution of g
    grad_w        x, g, dw
    grad_b        g, db
    max_pool      x, y, winners                winners: position kh_index * kw + kw_index in the window, as a float
    max_pool_grad g, winners, dx
    avg_pool      x, y
    avg_pool_grad g, dx
    batch_norm    x, weight, bias, r, y, stats             y = activation((x - mean) * inverse * weight + bias + r)
    batch_norm_grad g, x, weight, bias, stats, y, dx, dr, dparams
    relu_grad     g, y, dx, db                             dx = g where y is above zero, db its sum

    The last three go through the maps of a `PoolShape` of single pixels. `r` and `dr` are there with `residual` only;
    `y`, from which batch_norm_grad takes what the ReLU let through, is read with both `residual` and a ReLU, and is 0
    otherwise, as `dr` is where nothing is masked. stats: mean, variance (of all, not of a sample), and `inverse`, 1 /
    sqrt(variance + eps), of c numbers each; dparams: the gradients of weight and bias.
    Without `winners` a max pool does not store them, and takes 0 for their address.
    With `packed`, which conv and grad_x know, the weights come as the plan's `Pack` made them of w.

    Raises InputError for an unknown op, dtype, layout or activation, and for `packed` where there are no weights.

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
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name, allowed in (
            ("op", CONV_OPS + POOL_OPS + MAP_OPS),
            ("dtype", DTYPES),
            ("x_layout", ("nchw", "nhwc")),
            ("y_layout", ("nchw", "nhwc")),
            ("w_layout", ("oihw", "ohwi")),
            ("activation", (None, "relu")),
            ("precision", ("fast", "exact")),
        ):
            value = getattr(self, name)
            if value not in allowed:
                raise InputError(f"{name} is {value!r}; it has to be one of {', '.join(map(repr, allowed))}")
        if self.packed and self.op not in ("conv", "grad_x"):
            raise InputError(f"packed is True, but {self.op} takes no weights; conv and grad_x do")
        wanted = ConvShape if self.op in CONV_OPS else PoolShape
        if not isinstance(self.shape, wanted):
            raise InputError(f"{self.op} wants a {wanted.__name__}, not {type(self.shape).__name__}")

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return 8 if self.dtype == "float64" else 4
