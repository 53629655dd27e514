"""Putting a kernel and its formula under one operator, at a few microseconds a call.

`torch.library.register_autograd` would do the same; it re-enters the dispatcher below autograd on every call, which
costs as much again as a small convolution. Here plain CPU tensors go to the kernel directly, and only where something
listens in between (fake tensors, tracing, function transforms) the call is dispatched on.
"""

from collections.abc import Callable
from typing import Any, Final

import torch

from hapgop.nn.autograd import Formula

_CPU: Final = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)
_AUTOCAST: Final = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)


def register(
    library: torch.library.Library, name: str, kernel: Callable[..., Any], formula: Formula, casts: bool
) -> None:
    """Give `hapgop::name` its kernel on every device, its derivative, and where it `casts` its autocast."""
    op = getattr(torch.ops.hapgop, name).default
    library.impl(name, kernel, "CompositeExplicitAutograd")
    library.impl(name, _differentiable(op, kernel, formula), "Autograd", with_keyset=True)
    if casts:
        library.impl(name, _autocast(op), "AutocastCPU")


def _differentiable(op: Any, kernel: Callable[..., Any], formula: Formula) -> Callable[..., Any]:
    def compute(keyset: Any, args: tuple[Any, ...]) -> Any:
        if keyset == _CPU:
            return kernel(*args)
        with torch._C._AutoDispatchBelowAutograd():
            return op.redispatch(keyset, *args)

    def forward(ctx: Any, *args: Any) -> Any:
        *inputs, keyset = args
        output = compute(keyset, tuple(inputs))
        formula.save(ctx, inputs, output)
        return output

    def backward(ctx: Any, *gradients: Any) -> Any:
        return *formula.backward(ctx, *gradients), None

    methods = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    apply = type(f"hapgop_{op._opname}", (torch.autograd.Function,), methods).apply

    def autograd(keyset: Any, *args: Any) -> Any:
        keyset = keyset & torch._C._after_autograd_keyset
        if torch._C._any_requires_grad(*args) and torch.is_grad_enabled():
            return apply(*args, keyset)
        return compute(keyset, args)

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
