"""What autograd sees of a step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from hapgop.nn.training.step import Step


class Call(torch.autograd.Function):
    """A step's two calls, as one function."""

    @staticmethod
    def forward(ctx: Any, step: Step, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.step, ctx.drawn_from = step, torch.get_rng_state() if step.plan.dropped else None
        y, arena = step.forward(x)
        ctx.spent = False
        ctx.set_materialize_grads(False)
        # The arena is among them, so that it is free again as soon as autograd has no use for it.
        ctx.save_for_backward(x, y, arena, *parameters)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor | None) -> tuple[Tensor | None, ...]:
        step: Step = ctx.step
        if g is None:
            return (None,) * (2 + len(step.parameters))
        x, y, arena, *_ = ctx.saved_tensors
        if ctx.spent or torch.is_grad_enabled():
            return None, *step.by_layers(x, g, ctx.drawn_from)
        ctx.spent = True
        return None, *step.backward(x, y, arena, step.laid(g))
