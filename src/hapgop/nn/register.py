"""Putting a kernel and its formula under one operator, at a few microseconds a call.

`torch.library.register_autograd` would do the same; it re-enters the dispatcher below autograd on every call, which
costs as much again as a small convolution. The same holds for the dispatcher itself: so plain CPU tensors go to the
kernel directly, and only where something listens in between (fake tensors, tracing, function transforms, autocast) is
a call dispatched.
"""

from collections.abc import Callable
from typing import Any, Final

import torch
from torch._C._autograd import _profiler_enabled

from hapgop.nn.autograd import Formula
from hapgop.nn.plain import plain

_CPU: Final = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_AUTOCAST: Final = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


def register(
    library: torch.library.Library,
    name: str,
    kernel: Callable[..., Any],
    formula: Formula,
    casts: bool,
    free: Callable[..., Any] | None = None,
) -> Callable[..., Any]:
    """Give `hapgop::name` its kernel on every device, its derivative, and where it `casts` its autocast.

    `free`: the kernel for plain tensors of which nobody wants a gradient, where that is another one.

    Returns what to call: the operator, with the short way for plain tensors.
    """
    op = getattr(torch.ops.hapgop, name).default
    function = _function(op, kernel, formula)
    without: Callable[..., Any] = free or kernel
    library.impl(name, _below(kernel, without), "CompositeExplicitAutograd")
    library.impl(name, _differentiable(op, kernel, without, function), "Autograd", with_keyset=True)
    if casts:
        library.impl(name, _autocast(op), "AutocastCPU")

    # Function.apply looks for function transforms first, of which plain() has found none.
    apply: Any = super(torch.autograd.Function, function).apply

    def call(*args: Any) -> Any:
        if plain(*args[:3]) and not torch.is_autocast_enabled("cpu"):
            if torch.is_grad_enabled() and torch._C._any_requires_grad(*args):
                return apply(*args, _CPU)
            return without(*args)
        return op(*args)

    return call


def _function(op: Any, kernel: Callable[..., Any], formula: Formula) -> Any:
    """The autograd function of an operator; its last argument is the key set that is left to dispatch on."""

    def forward(ctx: Any, *args: Any) -> Any:
        *inputs, keyset = args
        output = _compute(op, kernel, keyset, tuple(inputs))
        formula.save(ctx, inputs, output)
        return output

    def backward(ctx: Any, *gradients: Any) -> Any:
        if not torch.is_autocast_enabled("cpu"):
            return *formula.backward(ctx, *gradients), None
        # The forward's precision is the backward's: that of what was saved.
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            return *formula.backward(ctx, *gradients), None

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(f"hapgop_{op._opname}", (torch.autograd.Function,), methods)


def _compute(op: Any, kernel: Callable[..., Any], keyset: Any, args: tuple[Any, ...]) -> Any:
    if keyset == _CPU:
        return kernel(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return op.redispatch(keyset, *args)


def _below(kernel: Callable[..., Any], without: Callable[..., Any]) -> Callable[..., Any]:
    """Below autograd only inference mode says that nobody wants a gradient."""

    def below(*args: Any) -> Any:
        return (without if torch.is_inference_mode_enabled() else kernel)(*args)

    return kernel if without is kernel else below


def _differentiable(
    op: Any, kernel: Callable[..., Any], without: Callable[..., Any], function: Any
) -> Callable[..., Any]:
    def autograd(keyset: Any, *args: Any) -> Any:
        keyset = keyset & torch._C._after_autograd_keyset
        if torch._C._any_requires_grad(*args) and torch.is_grad_enabled():
            return function.apply(*args, keyset)
        # Compiled training comes here without gradients too; what only the profiler sends here is computed as it would
        # be without the profiler.
        return _compute(op, without if _profiler_enabled() else kernel, keyset, args)

    return autograd


def _autocast(op: Any) -> Callable[..., Any]:
    def cast(value: Any, dtype: torch.dtype) -> Any:
        # As PyTorch does, float64 stays.
        lower = isinstance(value, torch.Tensor) and value.is_floating_point() and value.dtype != torch.float64
        return value.to(dtype) if lower else value

    def autocast(*args: Any) -> Any:
        dtype = torch.get_autocast_dtype("cpu")
        with torch._C._ExcludeDispatchKeyGuard(_AUTOCAST):
            return op(*(cast(value, dtype) for value in args))

    return autocast
