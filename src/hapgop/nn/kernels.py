"""What the operators do: take the route, hand addresses to the engine, or call PyTorch.

Results are new and complete; they lie in the order that the route promised, whoever computed them.
"""

from collections.abc import Callable, Sequence
from typing import Final, TypeVarTuple

import torch
from torch import Tensor

from hapgop import engine
from hapgop.nn import fallback, routes
from hapgop.nn.layout import brought
from hapgop.nn.outputs import empty_strided
from hapgop.nn.packed import can_be, packed
from hapgop.nn.report import count
from hapgop.nn.routes import Facts, Route, Setting, facts

Ints = Sequence[int]
_Given = TypeVarTuple("_Given")


def conv(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    activation: str | None, free: bool = False,
) -> Tensor:  # fmt: skip
    """`free`: nobody wants a gradient, so that packed weights may be those of an earlier call."""
    setting = (tuple(stride), tuple(padding), tuple(dilation), groups, activation)
    bias_facts = None if bias is None else facts(bias)
    route = routes.conv(facts(x), facts(w), bias_facts, *setting, "conv", free and can_be(w))
    return conv_by(route, setting, x, w, bias)


def conv_by(route: Route, setting: Setting, x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
    """The convolution by its route, decided before."""
    count(route.answer)
    if route.run is None:
        return _by_pytorch(route, fallback.conv, x, w, bias, *setting)
    x = brought(x, route.first)
    w_at, _kept = packed(route.run, w) if route.packed else _address(brought(w, route.second))
    bias_at, _also_kept = (0, None) if bias is None else _address(bias.contiguous())
    y = empty_strided(route.shape, route.strides, x.dtype)
    route.run(x.data_ptr(), w_at, bias_at, y.data_ptr(), threads=torch.get_num_threads())
    return y


def _address(tensor: Tensor) -> tuple[int, Tensor]:
    """Where a tensor lies, and the tensor, which has to be kept meanwhile."""
    return tensor.data_ptr(), tensor


def conv_pool(
    x: Tensor, w: Tensor, bias: Tensor | None, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    activation: str | None, pool: Ints, free: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The largest of each window of a convolution, windows side by side, and the winners."""
    if tuple(pool) == (2, 2):
        setting = (tuple(stride), tuple(padding), tuple(dilation), groups, activation)
        bias_facts = None if bias is None else facts(bias)
        route = routes.conv(facts(x), facts(w), bias_facts, *setting, "conv_pool", free and can_be(w), True)
        if route.run is not None:
            return _pooled_by(route, route.run, x, w, bias)
    y = conv(x, w, bias, stride, padding, dilation, groups, activation, free)
    return max_pool(y, pool, pool, (0, 0), (1, 1), False)


def _pooled_by(route: Route, run: engine.Prepared, x: Tensor, w: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    count(route.answer)
    x = brought(x, route.first)
    w_at, _kept = packed(run, w) if route.packed else _address(brought(w, route.second))
    bias_at, _also_kept = (0, None) if bias is None else _address(bias.contiguous())
    z = empty_strided(route.shape, route.strides, x.dtype)
    winners = empty_strided(route.shape, route.strides, fallback.winners_dtype(x.dtype))
    run(x.data_ptr(), w_at, bias_at, z.data_ptr(), winners.data_ptr(), threads=torch.get_num_threads())
    return z, winners


def linear(x: Tensor, w: Tensor, bias: Tensor | None, activation: str | None) -> Tensor:
    """A row of pixels, one for each row of x, under a 1x1 filter."""
    bias_facts = None if bias is None else facts(bias)
    route = routes.conv(_row_facts(x), _filter_facts(w), bias_facts, *ONE_BY_ONE, activation, "linear")
    count(route.answer)
    if route.run is None:
        y = torch.nn.functional.linear(x, w, bias)
        return torch.relu_(y) if activation == "relu" else y
    x, w = x.contiguous(), w.contiguous()
    bias = None if bias is None else bias.contiguous()
    y = torch.empty((x.shape[0], w.shape[0]), dtype=x.dtype)
    bias_at = 0 if bias is None else bias.data_ptr()
    route.run(x.data_ptr(), w.data_ptr(), bias_at, y.data_ptr(), threads=torch.get_num_threads())
    return y


def linear_grad_x(g: Tensor, w: Tensor) -> Tensor:
    """Of x, (rows, in)."""
    route = routes.grad_x(_row_facts(g), _filter_facts(w), (1, g.shape[0]), *ONE_BY_ONE, True)
    count(route.answer)
    if route.run is None:
        return g @ w
    g, w = g.contiguous(), w.contiguous()
    dx = torch.empty((g.shape[0], w.shape[1]), dtype=g.dtype)
    route.run(g.data_ptr(), w.data_ptr(), dx.data_ptr(), threads=torch.get_num_threads())
    return dx


def linear_grad_w(x: Tensor, g: Tensor) -> Tensor:
    """Of w, (out, in)."""
    route = routes.grad_w(_row_facts(x), _row_facts(g), (1, 1), *ONE_BY_ONE, False)
    count(route.answer)
    if route.run is None:
        return g.T @ x
    x, g = x.contiguous(), g.contiguous()
    dw = torch.empty((g.shape[1], x.shape[1]), dtype=x.dtype)
    route.run(x.data_ptr(), g.data_ptr(), dw.data_ptr(), threads=torch.get_num_threads())
    return dw


def linear_grad_b(g: Tensor) -> Tensor:
    """Of the bias, (out,)."""
    route = routes.grad_b(_row_facts(g))
    count(route.answer)
    if route.run is None:
        return g.sum(0)
    g = g.contiguous()
    db = torch.empty(g.shape[1], dtype=g.dtype)
    route.run(g.data_ptr(), db.data_ptr(), threads=torch.get_num_threads())
    return db


ONE_BY_ONE: Final = ((1, 1), (0, 0, 0, 0), (1, 1), 1)


def _row_facts(matrix: Tensor) -> Facts:
    """Of a contiguous (rows, features), as one row of pixels, channels last."""
    rows, features = matrix.shape
    return facts(matrix)[0], (1, features, 1, rows), (rows * features, 1, rows * features, features)


def _filter_facts(w: Tensor) -> Facts:
    """Of a contiguous (out, in), as 1x1 filters."""
    return facts(w)[0], (*w.shape, 1, 1), (w.shape[1], 1, 1, 1)


def grad_x(
    g: Tensor, w: Tensor, bias: Tensor | None, size: Ints, stride: Ints, padding: Ints, dilation: Ints,
    groups: int, channels_last: bool, activation: str | None,
) -> Tensor:  # fmt: skip
    """activation(x-derivative + bias)."""
    setting = (tuple(size), tuple(stride), tuple(padding), tuple(dilation), groups)
    bias_facts = None if bias is None else facts(bias)
    route = routes.grad_x(facts(g), facts(w), *setting, channels_last, bias_facts, activation)
    count(route.answer)
    if route.run is None:
        return _by_pytorch(route, fallback.grad_x, g, w, *setting, channels_last, bias, activation)
    g, w = brought(g, route.first), brought(w, route.second)
    bias = None if bias is None else bias.contiguous()
    dx = empty_strided(route.shape, route.strides, g.dtype)
    more = () if bias is None else (bias.data_ptr(),)
    route.run(g.data_ptr(), w.data_ptr(), *more, dx.data_ptr(), threads=torch.get_num_threads())
    return dx


def grad_w(
    x: Tensor, g: Tensor, size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    channels_last: bool,
) -> Tensor:  # fmt: skip
    setting = (tuple(size), tuple(stride), tuple(padding), tuple(dilation), groups)
    route = routes.grad_w(facts(x), facts(g), *setting, channels_last)
    count(route.answer)
    if route.run is None:
        return _by_pytorch(route, fallback.grad_w, x, g, *setting, channels_last)
    x, g = brought(x, route.first), brought(g, route.second)
    dw = empty_strided(route.shape, route.strides, x.dtype)
    route.run(x.data_ptr(), g.data_ptr(), dw.data_ptr(), threads=torch.get_num_threads())
    return dw


def grad_b(g: Tensor) -> Tensor:
    route = routes.grad_b(facts(g))
    count(route.answer)
    if route.run is None:
        return g.sum((0, 2, 3))
    g = brought(g, route.first)
    db = torch.empty(g.shape[1], dtype=g.dtype)
    route.run(g.data_ptr(), db.data_ptr(), threads=torch.get_num_threads())
    return db


def max_pool(
    x: Tensor, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[Tensor, Tensor]:
    setting = (tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), ceil_mode)
    route = routes.max_pool(facts(x), *setting)
    count(route.answer)
    if route.run is None:
        with torch._C._AutoDispatchBelowAutograd():
            y, winners = fallback.max_pool(x, *setting)
            return fallback.laid(y, route.strides), fallback.laid(winners, route.strides)
    x = brought(x, route.first)
    y = empty_strided(route.shape, route.strides, x.dtype)
    winners = empty_strided(route.shape, route.strides, fallback.winners_dtype(x.dtype))
    route.run(x.data_ptr(), y.data_ptr(), winners.data_ptr(), threads=torch.get_num_threads())
    return y, winners


def max_pool_grad(
    g: Tensor, winners: Tensor, size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints,
    ceil_mode: bool, channels_last: bool,
) -> Tensor:  # fmt: skip
    setting = (tuple(size), tuple(kernel), tuple(stride), tuple(padding), tuple(dilation))
    route = routes.max_pool_grad(facts(g), facts(winners), *setting, ceil_mode, channels_last)
    count(route.answer)
    if route.run is None:
        return _by_pytorch(route, fallback.max_pool_grad, g, winners, *setting)
    g, winners = brought(g, route.first), brought(winners, route.second)
    dx = empty_strided(route.shape, route.strides, g.dtype)
    route.run(g.data_ptr(), winners.data_ptr(), dx.data_ptr(), threads=torch.get_num_threads())
    return dx


def avg_pool(x: Tensor, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool) -> Tensor:
    setting = (tuple(kernel), tuple(stride), tuple(padding), ceil_mode, count_include_pad)
    route = routes.avg_pool(facts(x), *setting)
    count(route.answer)
    if route.run is None:
        return _by_pytorch(route, fallback.avg_pool, x, *setting)
    x = brought(x, route.first)
    y = empty_strided(route.shape, route.strides, x.dtype)
    route.run(x.data_ptr(), y.data_ptr(), threads=torch.get_num_threads())
    return y


def avg_pool_grad(
    g: Tensor, size: Ints, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool,
    channels_last: bool,
) -> Tensor:  # fmt: skip
    setting = (tuple(size), tuple(kernel), tuple(stride), tuple(padding), ceil_mode, count_include_pad)
    route = routes.avg_pool_grad(facts(g), *setting, channels_last)
    count(route.answer)
    if route.run is None:
        return _by_pytorch(route, fallback.avg_pool_grad, g, *setting)
    g = brought(g, route.first)
    dx = empty_strided(route.shape, route.strides, g.dtype)
    route.run(g.data_ptr(), dx.data_ptr(), threads=torch.get_num_threads())
    return dx


def _by_pytorch(route: Route, operator: Callable[[*_Given], Tensor], *given: *_Given) -> Tensor:
    # Below autograd, so that views and copies made on the way are not recorded.
    with torch._C._AutoDispatchBelowAutograd():
        return fallback.laid(operator(*given), route.strides)
