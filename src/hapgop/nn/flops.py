"""What PyTorch's counter of operations (`torch.utils.flop_counter`) is told of ours: the definition's.

All three operators of a convolution are the same sum of products, whatever is given and whatever is asked for. As in
PyTorch, a multiply-add counts as two, and only products are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, Final

import torch
from torch.utils.flop_counter import register_flop_formula

from hapgop.shape import ConvShape

Sizes = Sequence[int]


def _sums(w: Sizes, y: Sizes) -> int:
    return 2 * prod(w) * y[0] * prod(y[2:])


def _conv(x: Sizes, w: Sizes, *_: Any, out_shape: Sizes, **__: Any) -> int:
    return _sums(w, out_shape)


def _conv_pool(x: Sizes, w: Sizes, _bias: Any, *setting: Any, **__: Any) -> int:
    stride, padding, dilation, groups, *_ = setting
    shape = ConvShape.of(x, w, stride=stride, padding=padding, dilation=dilation, groups=groups)
    return _sums(w, shape.y_shape)


def _grad_x(g: Sizes, w: Sizes, *_: Any, **__: Any) -> int:
    return _sums(w, g)


def _grad_w(x: Sizes, g: Sizes, *_: Any, out_shape: Sizes, **__: Any) -> int:
    return _sums(out_shape, g)


def _linear(x: Sizes, w: Sizes, *_: Any, **__: Any) -> int:
    return 2 * x[0] * prod(w)


_FORMULAS: Final[dict[str, Callable[..., int]]] = {
    "conv": _conv,
    "conv_pool": _conv_pool,
    "grad_x": _grad_x,
    "grad_w": _grad_w,
    "linear": _linear,
}


def register() -> None:
    """Tells the counter, once our operators are known."""
    for name, formula in _FORMULAS.items():
        register_flop_formula(getattr(torch.ops.hapgop, name))(formula)
