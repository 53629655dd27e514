"""The two sides of a comparison: the same operation in our layers and in PyTorch's, as calls without arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from hapgop.algorithms import Problem
from hapgop.bench.cases import Case
from hapgop.engine import plan_for
from hapgop.nn import functional, ops
from hapgop.shape import ConvShape, PoolShape

Call = Callable[[], Tensor]
_aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Sides:
    """ours and peers compute the same; `reference` does so in float64. `algorithm`: which of ours."""

    ours: Call
    peers: Mapping[str, Call]
    reference: Call
    algorithm: str
    flops: int


def sides(case: Case, op: str) -> Sides:
    """Both sides of one operation of a case, on the same seeded normal data. Ours is channels last."""
    generator = torch.Generator().manual_seed(1)
    if isinstance(case.shape, PoolShape):
        return _pool(case, case.shape, op, generator)
    if case.kind == "linear":
        return _linear(case, case.shape, op, generator)
    return _conv(case, case.shape, op, generator)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator)


def _formats(*tensors: Tensor) -> dict[str, tuple[Tensor, ...]]:
    return {
        "torch eager, contiguous": tensors,
        "torch eager, channels last": tuple(_channels_last(t) for t in tensors),
    }


def _channels_last(tensor: Tensor) -> Tensor:
    # A single channel lies the same in both orders; only this way do the strides say which is meant.
    return torch.empty_like(tensor, memory_format=torch.channels_last).copy_(tensor)


def _peers(call: Callable[..., Tensor], *tensors: Tensor) -> dict[str, Call]:
    """PyTorch's operator on the tensors as they lie in each format."""
    return {name: partial(call, *formatted) for name, formatted in _formats(*tensors).items()}


def _all_gradients(layer: Callable[..., Tensor], x: Tensor, w: Tensor, bias: Tensor, g: Tensor) -> Call:
    """The backward of a layer, by its input, its weight and its bias."""
    leaves = [t.clone().requires_grad_() for t in (x, w, bias)]
    y = layer(*leaves)

    def backward() -> Tensor:
        return torch.cat([t.reshape(-1) for t in torch.autograd.grad(y, leaves, g, retain_graph=True)])

    return backward


def _conv(case: Case, s: ConvShape, op: str, generator: torch.Generator) -> Sides:
    x, w, g = _normal(generator, *s.x_shape), _normal(generator, *s.w_shape), _normal(generator, *s.y_shape)
    bias = _normal(generator, s.oc)
    top, bottom, left, right = s.padding
    if (top, left) != (bottom, right):
        raise ValueError(f"{case.name}: PyTorch has no padding {s.padding}")
    stride, padding, dilation = list(s.stride), [top, left], list(s.dilation)

    def forward(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        y = F.conv2d(x, w, bias, stride, padding, dilation, s.groups)
        y = F.relu_(y) if case.activation == "relu" else y
        return y if case.pool is None else F.max_pool2d(y, case.pool)

    def ours_forward(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        setting = (s.stride, (top, left), s.dilation, s.groups)
        return functional.conv2d(x, w, bias, *setting, activation=case.activation, pool=case.pool)

    def backward(x: Tensor, w: Tensor, g: Tensor, which: int) -> Tensor:
        mask = [which == 0, which == 1, False]
        setting = (stride, padding, dilation, False, [0, 0], s.groups)
        result: Tensor = _aten.convolution_backward(g, x, w, None, *setting, mask)[which]
        return result

    lx, lw, lg = _formats(x, w, g)["torch eager, channels last"]
    setting = (stride, list(s.padding), dilation, s.groups)
    if op == "backward":
        pooled = _normal(generator, *forward(x, w, bias).shape)
        gradients = _formats(x, w, pooled)
        last = gradients["torch eager, channels last"]
        return Sides(
            _all_gradients(ours_forward, last[0], last[1], bias, last[2]),
            {n: _all_gradients(forward, t[0], t[1], bias, t[2]) for n, t in gradients.items()},
            _all_gradients(forward, x.double(), w.double(), bias.double(), pooled.double()),
            plan_for(Problem("grad_x", s, w_layout="ohwi")).algorithm.name,
            2 * s.flops,
        )
    if op == "forward":
        return Sides(
            lambda: ours_forward(lx, lw, bias),
            _peers(lambda x, w: forward(x, w, bias), x, w),
            lambda: forward(x.double(), w.double(), bias.double()),
            plan_for(Problem("conv", s, w_layout="ohwi", bias=True, activation=case.activation)).algorithm.name,
            s.flops,
        )
    which = 0 if op == "grad_x" else 1
    ours: Call = (
        (lambda: ops.grad_x(lg, lw, None, [s.ih, s.iw], *setting, True))
        if op == "grad_x"
        else (lambda: ops.grad_w(lx, lg, [s.kh, s.kw], *setting, True))
    )
    return Sides(
        ours,
        _peers(lambda x, w, g: backward(x, w, g, which), x, w, g),
        lambda: backward(x.double(), w.double(), g.double(), which),
        plan_for(Problem("grad_x" if op == "grad_x" else "grad_w", s, w_layout="ohwi")).algorithm.name,
        s.flops,
    )


def _linear(case: Case, s: ConvShape, op: str, generator: torch.Generator) -> Sides:
    x, w, g = _normal(generator, s.iw, s.ic), _normal(generator, s.oc, s.ic), _normal(generator, s.iw, s.oc)
    bias = _normal(generator, s.oc)

    def forward(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        y = F.linear(x, w, bias)
        return F.relu_(y) if case.activation == "relu" else y

    if op == "forward":
        return Sides(
            lambda: functional.linear(x, w, bias, activation=case.activation),
            {"torch eager": lambda: forward(x, w, bias)},
            lambda: forward(x.double(), w.double(), bias.double()),
            plan_for(Problem("conv", s, bias=True, activation=case.activation)).algorithm.name,
            s.flops,
        )

    return Sides(
        _all_gradients(partial(functional.linear, activation=case.activation), x, w, bias, g),
        {"torch eager": _all_gradients(forward, x, w, bias, g)},
        _all_gradients(forward, x.double(), w.double(), bias.double(), g.double()),
        plan_for(Problem("grad_x", s)).algorithm.name,
        2 * s.flops,
    )


def _pool(case: Case, s: PoolShape, op: str, generator: torch.Generator) -> Sides:
    x, g = _normal(generator, *s.x_shape), _normal(generator, *s.y_shape)
    kernel, stride, padding = [s.kh, s.kw], list(s.stride), [s.padding[0], s.padding[2]]
    most = case.kind == "max_pool"

    def forward(x: Tensor) -> Tensor:
        return F.max_pool2d(x, kernel, stride, padding) if most else F.avg_pool2d(x, kernel, stride, padding)

    def ours_forward(x: Tensor) -> Tensor:
        pool = functional.max_pool2d if most else functional.avg_pool2d
        result = pool(x, (s.kh, s.kw), s.stride, (s.padding[0], s.padding[2]))
        return result if isinstance(result, Tensor) else result[0]

    def backward_of(x: Tensor, g: Tensor, pool: Callable[[Tensor], Tensor]) -> Call:
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = pool(leaf)
        return lambda: torch.autograd.grad(y, leaf, g, retain_graph=True)[0]

    lx, lg = _formats(x, g)["torch eager, channels last"]
    name = plan_for(Problem("max_pool" if most else "avg_pool", s)).algorithm.name
    flops = s.n * s.c * s.oh * s.ow * s.kh * s.kw
    if op == "forward":
        peers = _peers(forward, x)
        return Sides(lambda: ours_forward(lx), peers, lambda: forward(x.double()), name, flops)
    peers = {n: backward_of(t[0], t[1], forward) for n, t in _formats(x, g).items()}
    reference = backward_of(x.double(), g.double(), forward)
    return Sides(backward_of(lx, lg, ours_forward), peers, reference, name, flops)
