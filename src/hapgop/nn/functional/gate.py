"""Before an operator of ours: who else has a say, and what is not ours to compute."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import handle_torch_function, has_torch_function

from hapgop.nn.plain import for_others, written_down
from hapgop.nn.report import Answer, count
from hapgop.nn.routes import DTYPES
from hapgop.shape import ShapeError

Function = TypeVar("Function", bound=Callable[..., Any])


def overridable(function: Function) -> Function:
    """Let `__torch_function__` have its say, as in torch.nn.functional: subclasses, torch.fx."""

    @wraps(function)
    def listening(input: Tensor, *args: Any, **kwargs: Any) -> Any:
        given = (input, *args, *kwargs.values())
        if has_torch_function(given):
            return handle_torch_function(listening, given, input, *args, **kwargs)
        return function(input, *args, **kwargs)

    return cast(Function, listening)


def not_ours(x: Tensor) -> str | None:
    """The reason why PyTorch computes on this tensor, or None."""
    if x.is_cpu and x.dtype in DTYPES and x.layout is torch.strided:
        if for_others():
            return "written down for others (torch.export, torch.jit)"
        if torch.compiler.is_compiling():
            return None
        # Our operators have no forward derivatives and no rules for vmap; the former would be lost in silence.
        if forward_ad._current_level >= 0:
            return "forward-mode derivatives"
        return None if torch._C._functorch.peek_interpreter_stack() is None else "function transforms"
    if x.device.type != "cpu":
        return f"{x.device.type} tensors"
    kind = x.dtype if x.layout is torch.strided else x.layout
    return f"{str(kind).removeprefix('torch.')} tensors"


def elsewhere(op: str, reason: str) -> None:
    """Count a call that goes to PyTorch; not while calls are written down, when nothing is computed."""
    if not written_down():
        count(Answer(op, None, reason))


def batched(x: Tensor, axes: int) -> bool:
    """Has x a batch axis? Raises ShapeError where it has neither `axes` + 2 dimensions nor one less."""
    if x.dim() == axes + 2:
        return True
    if x.dim() == axes + 1:
        return False
    names = ("d", "h", "w")[3 - axes :] if axes > 1 else ("l",)
    wanted = ", ".join(("c", *names))
    raise ShapeError(
        f"input: shape {tuple(x.shape)} has {x.dim()} dimensions, wanted {axes + 2}, (n, {wanted}), "
        f"or {axes + 1} for one of a batch, ({wanted})."
    )
