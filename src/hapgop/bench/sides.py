"""Our side of a comparison, as calls without arguments. Everything lies channels last."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from hapgop import nn
from hapgop.algorithms import Problem
from hapgop.bench.work import Call, Work, channels_last, gradients
from hapgop.engine import Refused, prepare
from hapgop.nn import functional, ops
from hapgop.shape import PoolShape


def ours(work: Work) -> Call:
    """Our layer or operator as one calls it: the weights are packed in every call."""
    x, w, g, bias = channels_last(work.x), channels_last(work.w), channels_last(work.g), work.bias
    layer = _layer(work)
    if work.op == "forward":
        return lambda: layer(x, w, bias)
    if work.op == "backward":
        return gradients(layer, [x] if isinstance(work.case.shape, PoolShape) else [x, w, bias], g)
    s = work.conv
    setting = (s.stride, s.padding, s.dilation, s.groups)
    transposed = work.case.kind == "transposed"
    if work.op == "grad_w":
        # Where the convolution is transposed, what comes in is what its own convolution gives.
        first, second = (g, x) if transposed else (x, g)
        return lambda: ops.grad_w(first, second, [s.kh, s.kw], *setting, True)
    if transposed:
        return lambda: ops.conv(g, w, None, *setting, None)
    return lambda: ops.grad_x(g, w, None, [s.ih, s.iw], *setting, True, None)


def prepacked(work: Work) -> tuple[Call, str] | None:
    """Our forward with weights laid out ahead of the calls, and its algorithm; None where there is no such thing."""
    if work.op != "forward" or work.case.kind not in ("conv", "transposed"):
        return None
    s, transposed = work.conv, work.case.kind == "transposed"
    fused = Problem("grad_x" if transposed else "conv", s, bias=True, activation=work.case.activation, packed=True)
    try:
        prepared = prepare(fused)
    except Refused:
        return None
    x, w, bias, pool = channels_last(work.x), work.w, work.bias, work.case.pool
    packed = torch.empty(prepared.packed_size)
    prepared.pack(w.data_ptr(), packed.data_ptr())
    shape = s.x_shape if transposed else s.y_shape

    def layer() -> Tensor:
        y = torch.empty(shape, memory_format=torch.channels_last)
        ends = bias.data_ptr(), y.data_ptr()
        prepared(x.data_ptr(), packed.data_ptr(), *ends, threads=torch.get_num_threads())
        return y if pool is None else _values(functional.max_pool2d(y, pool))

    return layer, prepared.plan.algorithm.name + ("" if pool is None else " + pool")


def algorithm(call: Call) -> str:
    """Which algorithms a call of ours uses, in the order of their first use, or why PyTorch computes it."""
    nn.reset_report()
    call()
    report = nn.report()
    names = [name for _, name in report.engine]
    names += [f"PyTorch: {reason}" for _, reason in report.pytorch]
    return " + ".join(dict.fromkeys(names)) or "?"


def _values(pooled: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    return pooled if isinstance(pooled, Tensor) else pooled[0]


def _layer(work: Work) -> Callable[..., Tensor]:
    case, s, pads = work.case, work.case.shape, work.pads
    if isinstance(s, PoolShape):
        pool = functional.max_pool2d if case.kind == "max_pool" else functional.avg_pool2d
        kernel, stride = (s.kh, s.kw), s.stride
        return lambda x, *_: _values(pool(x, kernel, stride, pads))
    if case.kind == "linear":
        return partial(functional.linear, activation=case.activation)
    if case.kind == "transposed":
        setting = (s.stride, pads, 0, s.groups, s.dilation)

        def transposed(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
            return functional.conv_transpose2d(x, w, bias, *setting, activation=case.activation)

        return transposed
    return lambda x, w, bias: functional.conv2d(
        x, w, bias, s.stride, pads, s.dilation, s.groups, activation=case.activation, pool=case.pool
    )
