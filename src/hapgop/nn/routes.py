"""Which way a call goes: one cached decision for each distinct shape, memory order and setting."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final, TypeVar, cast

import torch
from torch import Tensor

from hapgop import engine
from hapgop.algorithms import Problem
from hapgop.nn import fallback, rivals
from hapgop.nn.layout import Four, Sizes, formats_of, strides_of, suggests_channels_last
from hapgop.nn.plain import plain
from hapgop.nn.report import Answer
from hapgop.shape import ConvShape, PoolShape, ShapeError, warn_if_unread

DTYPES: Final[Mapping[torch.dtype | str, str]] = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.bfloat16: "bfloat16",
}

Ints = tuple[int, ...]
Setting = tuple[Ints, Ints, Ints, int, str | None]
"""Of a convolution: stride, padding, dilation, groups, activation."""
Facts = tuple[torch.dtype | str, Ints, Ints]
"""What a decision needs to know of a tensor: dtype (elsewhere than on the CPU: the device), sizes, strides."""


@dataclass(frozen=True, slots=True)
class Route:
    """The way of one kind of call. `run` takes addresses; without it the call goes to PyTorch's operator.

    `first` and `second` are the formats into which the two inputs are brought (None: they lie as they should);
    `shape` and `strides` are those of the result. `packed`: `run` takes the weights as it has packed them ahead.
    """

    answer: Answer
    run: engine.Prepared | None
    shape: Four
    strides: Four
    first: bool | None = None
    second: bool | None = None
    packed: bool = False

    @property
    def bytes(self) -> int:
        """About how much memory it takes, and what it alone keeps from being given back."""
        return _ROUTE + (0 if self.run is None else self.run.bytes)


def facts(tensor: Tensor) -> Facts:
    return tensor.dtype if tensor.is_cpu else tensor.device.type, tensor.shape, tensor.stride()


_MOST = 32 << 20  # bytes of all routes together: ever new input sizes must not fill the memory
_ROUTE = 2048  # bytes of one, without its kernel

_decided: Final[engine.Kept[Route]] = engine.Kept(_MOST)
remembered: Final[engine.Kept[tuple[Route, Setting]]] = engine.Kept(_MOST)  # what `hapgop.nn.shortcut` learned
Decision = TypeVar("Decision", bound=Callable[..., Route])


def cached(decide: Decision) -> Decision:
    """The same decision for the same arguments, which are given by position, while there is room.

    What is decided while someone listens is not kept: PyTorch's side was not measured then.
    """

    @wraps(decide)
    def decided(*given: Any) -> Route:
        key = decide, given
        route = _decided.get(key)
        if route is None:
            since = _decided.clears
            route = decide(*given)
            if plain():
                _decided.put(key, route, route.bytes, since)
        return route

    return cast(Decision, decided)


@cached
def conv(
    x: Facts, w: Facts, bias: Facts | None, stride: Ints, padding: Ints, dilation: Ints, groups: int,
    activation: str | None, op: str = "conv", packed: bool = False, pooled: bool = False,
) -> Route:  # fmt: skip
    """Of y = activation(x * w + bias); y is channels last where PyTorch's would be.

    `packed`: with weights packed ahead, where they lie dense. `pooled`: of the largest of each 2 x 2 pixels, and of
    the winners, which lie as these do.
    """
    shape = ConvShape.of(x[1], w[1], stride=stride, padding=padding, dilation=dilation, groups=groups)
    warn_if_unread(shape, op)
    last = suggests_channels_last(*x[1:]) or suggests_channels_last(*w[1:])
    if bias is not None:
        want("bias", bias, (shape.oc,))
    reason = refusal(x, w) if bias is None else refusal(x, w, bias)
    second, w_layout = _weight(w)
    packed = packed and second is None
    result = shape.y_shape
    if pooled:
        result = (*result[:2], result[2] // 2, result[3] // 2)
        reason = reason or (None if min(result[2:]) else "less than one window")

    def problem(x_last: bool, y_last: bool) -> Problem:
        layouts, fused = (LAYOUTS[x_last], LAYOUTS[y_last], w_layout), (bias is not None, activation)
        return Problem("conv", shape, DTYPES[x[0]], *layouts, *fused, packed=packed, pooled=pooled)

    route = route_of(op, problem, reason, x, (result, last), second)
    if pooled:  # PyTorch would compute the convolution, then the pool
        return route

    def by_pytorch(x: Tensor, w: Tensor, bias: Tensor | None) -> Tensor:
        return fallback.conv(x, w, bias, stride, padding, dilation, groups, activation)

    return _rivalled(route, (x, w, bias), by_pytorch)


@cached
def grad_x(
    g: Facts, w: Facts, size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int, last: bool,
    bias: Facts | None = None, activation: str | None = None,
) -> Route:  # fmt: skip
    """Of activation(x-derivative + bias), for x of `size` (rows, columns); `last`: is it channels last?"""
    x_shape = (g[1][0], w[1][1] * groups, *size)
    shape = ConvShape.of(x_shape, w[1], stride=stride, padding=padding, dilation=dilation, groups=groups)
    second, w_layout = _weight(w)

    def problem(g_last: bool, x_last: bool) -> Problem:
        layouts, fused = (LAYOUTS[x_last], LAYOUTS[g_last], w_layout), (bias is not None, activation)
        return Problem("grad_x", shape, DTYPES[g[0]], *layouts, *fused)

    want("gradient", g, shape.y_shape)
    if bias is not None:
        want("bias", bias, (shape.ic,))
    reason = refusal(g, w) if bias is None else refusal(g, w, bias)
    route = route_of("grad_x", problem, reason, g, (shape.x_shape, last), second)

    def by_pytorch(g: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
        return fallback.grad_x(g, w, size, stride, padding, dilation, groups, last, bias, activation)

    return _rivalled(route, (g, w) if bias is None else (g, w, bias), by_pytorch)


@cached
def grad_w(
    x: Facts, g: Facts, size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int, last: bool
) -> Route:
    """Of the w-derivative, for w of `size` (rows, columns); `last`: is it channels last?"""
    w_shape = (g[1][1], x[1][1] // groups, *size)
    shape = ConvShape.of(x[1], w_shape, stride=stride, padding=padding, dilation=dilation, groups=groups)

    def problem(g_last: bool, x_last: bool) -> Problem:
        w_layout = "ohwi" if last else "oihw"
        return Problem("grad_w", shape, DTYPES[x[0]], LAYOUTS[x_last], LAYOUTS[g_last], w_layout)

    want("gradient", g, shape.y_shape)
    x_formats = formats_of(*x[1:])
    x_last = x_formats[0] if x_formats else suggests_channels_last(*x[1:])
    # The two inputs must agree: x stays as it lies, g follows where the engine does not take both orders.
    way = route_of("grad_w", problem, refusal(x, g), g, (shape.x_shape, x_last), None)
    strides = strides_of(shape.w_shape, last)
    first = None if x_formats else x_last
    route = Route(way.answer, way.run, shape.w_shape, strides, first, way.first)

    def by_pytorch(x: Tensor, g: Tensor) -> Tensor:
        return fallback.grad_w(x, g, size, stride, padding, dilation, groups, last)

    return _rivalled(route, (x, g), by_pytorch)


@cached
def grad_b(g: Facts) -> Route:
    """Of the sum of g over batch and pixels."""
    # Any convolution with this output has this bias gradient; the one by a 1x1 filter is the plainest.
    n, oc, oh, ow = g[1]
    shape = ConvShape(n, 1, max(oh, 1), max(ow, 1), max(oc, 1), 1, 1)

    def problem(g_last: bool, _: bool) -> Problem:
        return Problem("grad_b", shape, DTYPES[g[0]], "nhwc", LAYOUTS[g_last])

    return route_of("grad_b", problem, refusal(g), g, (g[1], suggests_channels_last(*g[1:])))


@cached
def max_pool(x: Facts, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool) -> Route:
    """Of the largest of each window, and of the winners, which lie as the result does."""
    shape = _pool(x[1], kernel, stride, padding, dilation, ceil_mode)
    warn_if_unread(shape, "max_pool")

    def problem(x_last: bool, y_last: bool) -> Problem:
        return Problem("max_pool", shape, DTYPES[x[0]], LAYOUTS[x_last], LAYOUTS[y_last])

    return route_of("max_pool", problem, refusal(x), x, (shape.y_shape, suggests_channels_last(*x[1:])))


@cached
def max_pool_grad(
    g: Facts, winners: Facts, size: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints,
    ceil_mode: bool, last: bool,
) -> Route:  # fmt: skip
    """Of each g sent to its winner in an input of `size` (rows, columns); `last`: is it channels last?"""
    shape = _pool((*g[1][:2], *size), kernel, stride, padding, dilation, ceil_mode)

    def problem(g_last: bool, x_last: bool) -> Problem:
        return Problem("max_pool_grad", shape, DTYPES[g[0]], LAYOUTS[x_last], LAYOUTS[g_last])

    want("gradient", g, shape.y_shape)
    want("winners", winners, shape.y_shape)
    # In their own dtype winners are as good as of g's.
    alike = (g[0] if winners[0] == fallback.winners_dtype(g[0]) else winners[0], *winners[1:])
    way = route_of("max_pool_grad", problem, refusal(g, alike), winners, (shape.x_shape, last))
    if way.run is None:
        return way
    # The winners stay as they lie where they can; g lies so already, or is copied.
    wanted = formats_of(*winners[1:])[0] if way.first is None else way.first
    g_moves = None if wanted in formats_of(*g[1:]) else wanted
    return Route(way.answer, way.run, way.shape, way.strides, g_moves, way.first)


@cached
def avg_pool(x: Facts, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool) -> Route:
    """Of the mean of each window."""
    shape = _pool(x[1], kernel, stride, padding, (1, 1), ceil_mode)
    warn_if_unread(shape, "avg_pool")

    def problem(x_last: bool, y_last: bool) -> Problem:
        layouts = (LAYOUTS[x_last], LAYOUTS[y_last])
        return Problem("avg_pool", shape, DTYPES[x[0]], *layouts, count_include_pad=count_include_pad)

    return route_of("avg_pool", problem, refusal(x), x, (shape.y_shape, suggests_channels_last(*x[1:])))


@cached
def avg_pool_grad(
    g: Facts, size: Ints, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool,
    last: bool,
) -> Route:  # fmt: skip
    """Of each g spread over its window in an input of `size` (rows, columns); `last`: is it channels last?"""
    shape = _pool((*g[1][:2], *size), kernel, stride, padding, (1, 1), ceil_mode)

    def problem(g_last: bool, x_last: bool) -> Problem:
        layouts = (LAYOUTS[x_last], LAYOUTS[g_last])
        return Problem("avg_pool_grad", shape, DTYPES[g[0]], *layouts, count_include_pad=count_include_pad)

    want("gradient", g, shape.y_shape)
    return route_of("avg_pool_grad", problem, refusal(g), g, (shape.x_shape, last))


@cached
def batch_norm(x: Facts, of: tuple[Facts, ...], residual: bool, eps: float, activation: str | None) -> Route:
    """Of x normalised; `of`: the facts of weight and bias, then of the residual."""
    return _map("batch_norm", x, of, residual=residual, eps=eps, activation=activation)


@cached
def batch_norm_grad(x: Facts, of: tuple[Facts, ...], residual: bool, activation: str | None) -> Route:
    """Of the derivatives; `of`: the facts of weight, bias and statistics, then of what has the shape of x."""
    return _map("batch_norm_grad", x, of, residual=residual, activation=activation)


@cached
def relu_grad(y: Facts, g: Facts) -> Route:
    """Of g where y is above zero."""
    return _map("relu_grad", y, (g,), activation="relu")


def _map(op: str, x: Facts, of: tuple[Facts, ...], **settings: Any) -> Route:
    """What goes pixel by pixel through x and what has its shape; the result lies as x does."""
    n, c, h, w = x[1]
    for given in of:
        if len(given[1]) == 4:
            want("a map beside the input", given, x[1])
        elif given[1][-1:] != (c,):
            raise ShapeError(f"a vector of {op}: got shape {tuple(given[1])}, wanted {c} channels.")

    def problem(x_last: bool, y_last: bool) -> Problem:
        shape = PoolShape(n, c, h, w, 1, 1)
        return Problem(op, shape, DTYPES[x[0]], LAYOUTS[x_last], LAYOUTS[y_last], **settings)  # type: ignore[arg-type]

    reason = refusal(x, *of) or ("bfloat16 tensors" if x[0] == torch.bfloat16 else None)
    return route_of(op, problem, reason, x, (x[1], suggests_channels_last(*x[1:])))


def forget() -> None:
    """Decide anew: what the engine takes has changed."""
    _decided.clear()
    remembered.clear()


engine.on_change(forget)


LAYOUTS: Final = {True: "nhwc", False: "nchw"}


def refusal(*tensors: Facts) -> str | None:
    """Why the engine is not even asked."""
    dtypes = [dtype for dtype, _, _ in tensors]
    if dtypes[0] not in DTYPES:
        return f"{_name(dtypes[0])} tensors"
    if any(dtype != dtypes[0] for dtype in dtypes):
        return "tensors of different dtypes: " + ", ".join(map(_name, dtypes))
    return "an empty tensor" if any(0 in shape for _, shape, _ in tensors) else None


def want(name: str, tensor: Facts, wanted: Ints) -> None:
    # Not only politeness: a kernel that was handed a smaller tensor would read past its end.
    if tensor[1] != wanted:
        raise ShapeError(f"{name}: got shape {tuple(tensor[1])}, wanted {wanted}.")


def _name(dtype: torch.dtype | str) -> str:
    return str(dtype).removeprefix("torch.")


def _pool(x: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool) -> PoolShape:
    n, c, ih, iw = x
    return PoolShape(n, c, ih, iw, kernel[0], kernel[1], stride, padding, dilation, ceil_mode)


def _weight(w: Facts) -> tuple[bool | None, str]:
    """The format into which the weight is brought, if any, and the layout that it has then."""
    formats = formats_of(*w[1:])
    last = suggests_channels_last(*w[1:]) if not formats else False not in formats
    return (None if formats else last), "ohwi" if last else "oihw"


def route_of(
    op: str,
    problem: Callable[[bool, bool], Problem],
    reason: str | None,
    given: Facts,
    result: tuple[Sizes, bool],
    second: bool | None = None,
) -> Route:
    """Ask the engine in each memory order that costs no copy, then with the input in the order of the result."""
    result_shape, last = result
    shape = (result_shape[0], result_shape[1], result_shape[2], result_shape[3])
    strides = strides_of(shape, last)
    if reason is not None:
        return Route(Answer(op, None, reason), None, shape, strides)
    for in_last, out_last, copies in _orders(given, shape, strides):
        try:
            asked = problem(in_last, out_last)
            prepared = engine.prepare(asked)
        except engine.Refused as refused:
            reason = reason or refused.reason
        else:
            answer = Answer(op, prepared.plan.algorithm.name)
            first = in_last if copies else None
            return Route(answer, prepared, shape, strides, first, second, asked.packed)
    return Route(Answer(op, None, reason), None, shape, strides)


def _rivalled(route: Route, given: Sequence[Facts | None], operator: Callable[..., Tensor]) -> Route:
    """The route, or PyTorch's where its operator is clearly faster."""
    if route.run is None:
        return route
    result = (route.shape, route.strides)
    if not rivals.faster(route.run, given, (route.first, route.second), result, operator):
        return route
    return Route(Answer(route.answer.op, None, rivals.FASTER), None, route.shape, route.strides)


def _orders(given: Facts, shape: Sizes, strides: Sizes) -> Iterator[tuple[bool, bool, bool]]:
    """(input channels last, result channels last, is the input copied?), the best first."""
    ins, outs = formats_of(*given[1:]), formats_of(shape, strides)
    for same in (True, False):
        if same in ins and same in outs:
            yield same, same, False
    for in_last in ins:
        for out_last in outs:
            if in_last != out_last:
                yield in_last, out_last, False
    if not set(ins) & set(outs):
        yield outs[0], outs[0], True
