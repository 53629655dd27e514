"""The operators `hapgop::...`: schemas, fakes, and what answers on which device.

A convolution is a trilinear form T(x, w, g) = <g, x * w>. Its three partial derivatives are three operators, `conv`,
`grad_x` and `grad_w`; the backward of each is made of the other two (`hapgop.nn.autograd`).

Plain Python functions on the dispatcher's keys: a `custom_op` costs several microseconds more on every call.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import torch

from hapgop.nn import flops, kernels, maps
from hapgop.nn.autograd import CALLS, FORMULAS
from hapgop.nn.fakes import FAKES
from hapgop.nn.register import register

_SETTING = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups"
_MAX = "SymInt[] kernel, SymInt[] stride, SymInt[] padding, SymInt[] dilation, bool ceil_mode"
_AVG = "SymInt[] kernel, SymInt[] stride, SymInt[] padding, bool ceil_mode, bool count_include_pad"

# Padding of convolutions is (top, bottom, left, right), of pools (rows, columns). Where `size` is given, it is that of
# the result, (rows, columns), and `channels_last` is the result's memory order.
SCHEMAS: Final = {
    "conv": f"(Tensor x, Tensor w, Tensor? bias, {_SETTING}, str? activation) -> Tensor",
    "conv_pool": f"(Tensor x, Tensor w, Tensor? bias, {_SETTING}, str? activation, SymInt[] pool)"
    " -> (Tensor y, Tensor winners)",
    "grad_x": f"(Tensor g, Tensor w, Tensor? bias, SymInt[] size, {_SETTING}, bool channels_last, str? activation)"
    " -> Tensor",
    "grad_w": f"(Tensor x, Tensor g, SymInt[] size, {_SETTING}, bool channels_last) -> Tensor",
    "grad_b": "(Tensor g) -> Tensor",
    "linear": "(Tensor x, Tensor w, Tensor? bias, str? activation) -> Tensor",
    "max_pool": f"(Tensor x, {_MAX}) -> (Tensor y, Tensor winners)",
    "max_pool_grad": f"(Tensor g, Tensor winners, SymInt[] size, {_MAX}, bool channels_last) -> Tensor",
    "avg_pool": f"(Tensor x, {_AVG}) -> Tensor",
    "avg_pool_grad": f"(Tensor g, SymInt[] size, {_AVG}, bool channels_last) -> Tensor",
    "batch_norm": "(Tensor x, Tensor weight, Tensor bias, Tensor? residual, float eps, str? activation)"
    " -> (Tensor y, Tensor stats)",
    "batch_norm_grad": "(Tensor g, Tensor x, Tensor weight, Tensor bias, Tensor stats, Tensor? y, float eps,"
    " str? activation) -> (Tensor dx, Tensor dr, Tensor dparams)",
    "relu_grad": "(Tensor g, Tensor y) -> (Tensor dx, Tensor db)",
}

KERNELS: Final[Mapping[str, Callable[..., Any]]] = {
    "conv": kernels.conv,
    "conv_pool": kernels.conv_pool,
    "grad_x": kernels.grad_x,
    "grad_w": kernels.grad_w,
    "grad_b": kernels.grad_b,
    "linear": kernels.linear,
    "max_pool": kernels.max_pool,
    "max_pool_grad": kernels.max_pool_grad,
    "avg_pool": kernels.avg_pool,
    "avg_pool_grad": kernels.avg_pool_grad,
    "batch_norm": maps.batch_norm,
    "batch_norm_grad": maps.batch_norm_grad,
    "relu_grad": maps.relu_grad,
}

# The kernels where nobody wants a gradient, if those are others.
_FREE: Final[Mapping[str, Callable[..., Any]]] = {
    "conv": partial(kernels.conv, free=True),
    "conv_pool": partial(kernels.conv_pool, free=True),
}

# The operators that autocast computes in its lower precision; the others take what comes.
_CAST = ("conv", "conv_pool", "grad_x", "linear")

# Kept: a library that is collected takes its operators with it.
_library = torch.library.Library("hapgop", "DEF")


def _registered(name: str) -> Callable[..., Any]:
    _library.define(name + SCHEMAS[name], tags=(torch.Tag.pt2_compliant_tag, torch.Tag.needs_fixed_stride_order))
    call = register(_library, name, KERNELS[name], FORMULAS[name], name in _CAST, _FREE.get(name))
    torch.library.register_fake(f"hapgop::{name}", FAKES[name], lib=_library)
    CALLS[name] = call
    return call


# What our own layers call; `torch.ops.hapgop.conv` and its kin are the operators as PyTorch knows them.
conv = _registered("conv")
conv_pool = _registered("conv_pool")
grad_x = _registered("grad_x")
grad_w = _registered("grad_w")
grad_b = _registered("grad_b")
linear = _registered("linear")
max_pool = _registered("max_pool")
max_pool_grad = _registered("max_pool_grad")
avg_pool = _registered("avg_pool")
avg_pool_grad = _registered("avg_pool_grad")
batch_norm = _registered("batch_norm")
batch_norm_grad = _registered("batch_norm_grad")
relu_grad = _registered("relu_grad")
flops.register()
