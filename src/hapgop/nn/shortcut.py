"""A convolution like one before, without gradients, past everything that was found out then.

A small convolution takes as long as bringing its arguments into one form and deciding where it goes.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.autograd import forward_ad

from hapgop.nn import kernels, routes
from hapgop.nn.packed import can_be
from hapgop.nn.plain import plain
from hapgop.nn.routes import Setting, facts, remembered

_ENTRY: Final = 1024  # bytes beside the route


def again(x: Tensor, w: Tensor, bias: Tensor | None, given: tuple[Any, ...]) -> Tensor | None:
    """The convolution, if the same kind of call was learned; None: take the long way."""
    if not free(x, w, bias):
        return None
    known = remembered.get(_key(x, w, bias, given))
    return None if known is None else kernels.conv_by(*known, x, w, bias)


def learn(x: Tensor, w: Tensor, bias: Tensor | None, given: tuple[Any, ...], setting: Setting) -> None:
    """Remembers what a call came to: `given` are its settings as they were written, `setting` in their one form."""
    if not free(x, w, bias):
        return
    since = remembered.clears
    route = routes.conv(facts(x), facts(w), None if bias is None else facts(bias), *setting, "conv", can_be(w))
    remembered.put(_key(x, w, bias, given), (route, setting), route.bytes + _ENTRY, since)


def free(x: Tensor, w: Tensor, bias: Tensor | None) -> bool:
    """Plain tensors, nobody who listens, and no gradient wanted."""
    if not plain(x, w, bias) or torch.is_autocast_enabled("cpu") or forward_ad._current_level >= 0:
        return False
    return not torch.is_grad_enabled() or not torch._C._any_requires_grad(x, w, bias)


def _key(x: Tensor, w: Tensor, bias: Tensor | None, given: tuple[Any, ...]) -> tuple[Any, ...]:
    if type(given[0]) is list or type(given[1]) is list or type(given[2]) is list:
        given = tuple(tuple(value) if type(value) is list else value for value in given)
    end = None if bias is None else (bias.shape, bias.stride(), bias.dtype)
    return x.shape, x.stride(), x.dtype, w.shape, w.stride(), w.dtype, can_be(w), end, given
