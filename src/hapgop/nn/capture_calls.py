"""The calls that a graph knows: functions and tensor methods, each with the arguments of the original."""

import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from torch import fx
from torch.nn import functional as F

from hapgop.nn import functional as ours


class Call(NamedTuple):
    """What a call is in a graph's words."""

    op: str
    inputs: Sequence[Any]
    attrs: dict[str, Any]
    features: int | None = None
    """The features that the result must have for the call to be this operation, where only the sizes can tell."""
    params: Mapping[str, Any] = MappingProxyType({})
    """What is given for each role of a parameter; None is left out."""
    pool: Any = None
    """The windows of a max pool that the call does in one with the operation."""
    inplace: bool = False
    """Whether the first input becomes the result."""


Translate = Callable[..., Call | None]


def _unary(op: str) -> Translate:
    return lambda input, inplace=False: Call(op, [input], {}, inplace=inplace)


def _binary(op: str, inplace: bool = False) -> Translate:
    return lambda input, other: _with_number(op, input, other, inplace) or Call(op, [input, other], {}, inplace=inplace)


def _with_number(op: str, input: Any, other: Any, inplace: bool) -> Call | None:
    """A sum or a product of which one side is a number, as one operation on the other side."""
    image, value = (input, other) if isinstance(input, fx.Node) else (other, input)
    if type(value) not in (int, float):
        return None
    return Call("number", [image], {"factor" if op == "mul" else "term": float(value)}, inplace=inplace)


def _flatten(input: Any, start_dim: int = 0, end_dim: int = -1) -> Call:
    return Call("flatten", [input], {"start_dim": start_dim, "end_dim": end_dim})


def _reshape(input: Any, *sizes: Any) -> Call:
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
    # Only `x.view(x.size(0), -1)`, `x.view(-1, 400)` and their like: the batch stays, the rest becomes one axis.
    if len(sizes) == 2 and ((_is_batch(sizes[0]) and sizes[1] == -1) or (sizes[0] == -1 and type(sizes[1]) is int)):
        features = sizes[1] if sizes[0] == -1 else None
        return Call("flatten", [input], {"start_dim": 1, "end_dim": -1}, features)
    raise TypeError(f"{sizes} is neither (batch, -1) nor (-1, features)")


def _is_batch(value: Any) -> bool:
    """Is it `x.size(0)`, `x.shape[0]` or `x.size()[0]`?"""
    if not isinstance(value, fx.Node):
        return False
    if value.target is operator.getitem:
        of, index = value.args
        sizes = isinstance(of, fx.Node) and (of.target == "size" or (of.target is getattr and of.args[1] == "shape"))
        return bool(sizes and index == 0)
    return value.target == "size" and value.args[1:] == (0,)


def _concat(tensors: Sequence[Any], dim: int = 0) -> Call:
    return Call("concat", list(tensors), {"dim": dim})


def _mean(input: Any, dim: Any, keepdim: bool = False) -> Call:
    return Call("mean", [input], {"dim": dim, "keepdim": keepdim})


def _softmax(op: str) -> Translate:
    return lambda input, dim: Call(op, [input], {"dim": dim})


def _dropout(input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Call:
    if training:
        raise TypeError("it drops in eval mode too; training=self.training makes it stop")
    return Call("dropout", [input], {"p": p})


def _max_pool(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Call:
    if return_indices:
        raise TypeError("return_indices")
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "ceil_mode": ceil_mode}
    return Call("max_pool2d", [input], {"kernel_size": kernel_size, **attrs})


def _avg_pool(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Call:
    if divisor_override is not None:
        raise TypeError("divisor_override")
    attrs = {"stride": stride, "padding": padding, "ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    return Call("avg_pool2d", [input], {"kernel_size": kernel_size, **attrs})


def _adaptive(input: Any, output_size: Any) -> Call:
    return Call("adaptive_avg_pool2d", [input], {"output_size": output_size})


def _adaptive_max(input: Any, output_size: Any, return_indices: bool = False) -> Call:
    if return_indices:
        raise TypeError("return_indices")
    return Call("adaptive_max_pool2d", [input], {"output_size": output_size})


def _conv(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
    activation: str | None = None,
    pool: Any = None,
) -> Call:
    attrs = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups, "activation": activation}
    return Call("conv2d", [input], attrs, params={"weight": weight, "bias": bias}, pool=pool)


def _conv_transpose(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    output_padding: Any = 0,
    groups: int = 1,
    dilation: Any = 1,
    activation: str | None = None,
) -> Call:
    attrs = {"stride": stride, "padding": padding, "output_padding": output_padding, "dilation": dilation}
    attrs |= {"groups": groups, "activation": activation}
    return Call("conv_transpose2d", [input], attrs, params={"weight": weight, "bias": bias})


def _linear(input: Any, weight: Any, bias: Any = None, activation: str | None = None) -> Call:
    return Call("linear", [input], {"activation": activation}, params={"weight": weight, "bias": bias})


def _batch_norm(
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Call:
    if training or running_mean is None:
        raise TypeError("statistics of the batch")
    params = {"weight": weight, "bias": bias, "running_mean": running_mean, "running_var": running_var}
    return Call("batch_norm2d", [input], {"eps": eps}, params=params)


def _layer_norm(
    input: Any, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Call:
    if len(normalized_shape) != 1:
        raise TypeError("a norm over more than the channels")
    return Call("layer_norm", [input], {"eps": eps}, params={"weight": weight, "bias": bias})


def _gelu(input: Any, approximate: str = "none") -> Call:
    return Call("gelu", [input], {"approximate": approximate})


def _leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Call:
    return Call("leaky_relu", [input], {"negative_slope": negative_slope}, inplace=inplace)


def _elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Call:
    return Call("elu", [input], {"alpha": alpha}, inplace=inplace)


def _hardtanh(input: Any, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Call:
    if (min_val, max_val) != (0, 6):
        raise TypeError(f"{min_val} to {max_val}, where a graph knows 0 to 6")
    return Call("relu6", [input], {}, inplace=inplace)


def _permute(input: Any, *dims: Any) -> Call:
    """A view; the translation knows which two of them it can follow."""
    dims = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], tuple | list) else dims
    return Call("permute", [input], {"dims": tuple(dim % 4 for dim in dims)})


def _size_of(*_: Any) -> None:
    """Sizes are no tensors: they may only be used by `_reshape`, which looks at what they are."""


_UNARY = {
    "relu": (torch.relu, F.relu),
    "relu6": (F.relu6,),
    "silu": (F.silu,),
    "hardswish": (F.hardswish,),
    "hardsigmoid": (F.hardsigmoid,),
    "sigmoid": (torch.sigmoid, F.sigmoid),
    "tanh": (torch.tanh, F.tanh),
}

FUNCTIONS: Final[dict[Any, Translate]] = {
    **{function: _unary(op) for op, functions in _UNARY.items() for function in functions},
    operator.add: _binary("add"),
    operator.iadd: _binary("add", True),
    torch.add: _binary("add"),
    operator.mul: _binary("mul"),
    operator.imul: _binary("mul", True),
    torch.mul: _binary("mul"),
    torch.flatten: _flatten,
    torch.cat: _concat,
    torch.concat: _concat,
    torch.mean: _mean,
    torch.softmax: _softmax("softmax"),
    torch.log_softmax: _softmax("log_softmax"),
    F.softmax: _softmax("softmax"),
    F.log_softmax: _softmax("log_softmax"),
    F.dropout: _dropout,
    F.max_pool2d: _max_pool,
    ours.max_pool2d: _max_pool,
    F.avg_pool2d: _avg_pool,
    ours.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive,
    ours.adaptive_avg_pool2d: _adaptive,
    F.adaptive_max_pool2d: _adaptive_max,
    F.conv2d: _conv,
    ours.conv2d: _conv,
    F.conv_transpose2d: _conv_transpose,
    ours.conv_transpose2d: _conv_transpose,
    F.linear: _linear,
    ours.linear: _linear,
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.gelu: _gelu,
    F.leaky_relu: _leaky_relu,
    F.elu: _elu,
    F.hardtanh: _hardtanh,
    torch.permute: _permute,
    # Our operators, as compiled graphs call them.
    torch.ops.hapgop.conv.default: _conv,
    torch.ops.hapgop.conv_pool.default: _conv,
    torch.ops.hapgop.linear.default: _linear,
    torch.ops.hapgop.max_pool.default: _max_pool,
    torch.ops.hapgop.avg_pool.default: _avg_pool,
    operator.getitem: _size_of,
    getattr: _size_of,
}

# Those with two results, of which a graph knows the first.
WITH_WINNERS: Final = (torch.ops.hapgop.conv_pool.default, torch.ops.hapgop.max_pool.default)

METHODS: Final[dict[str, Translate]] = {
    **{name: _unary(name) for name in ("relu", "sigmoid", "tanh")},
    **{f"{name}_": lambda input, op=name: Call(op, [input], {}, inplace=True) for name in ("relu", "sigmoid", "tanh")},
    "add": _binary("add"),
    "add_": _binary("add", True),
    "mul": _binary("mul"),
    "mul_": _binary("mul", True),
    "flatten": _flatten,
    "view": _reshape,
    "reshape": _reshape,
    "mean": _mean,
    "softmax": _softmax("softmax"),
    "log_softmax": _softmax("log_softmax"),
    "contiguous": lambda input, memory_format=None: Call("identity", [input], {}),
    "permute": _permute,
    "size": _size_of,
}
