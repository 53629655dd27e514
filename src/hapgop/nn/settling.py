"""A net's tensors where and as the fast kernels read them."""

from __future__ import annotations

import torch
from torch import nn

from hapgop.nn.outputs import lasting


def settle(net: nn.Module) -> nn.Module:
    """The net itself: its filters channels last, those that are large on huge pages, where every pass is faster.

    As with `net.to(...)`, what looked at a parameter's memory before looks at other memory then; the parameters stay
    the objects that they are, so that an optimizer may be made before.

    >>> settle(nn.Conv2d(3, 8, 3)).weight.is_contiguous(memory_format=torch.channels_last)
    True
    """
    with torch.no_grad():
        for parameter in net.parameters():
            images = parameter.dim() == 4
            laid_out = parameter.contiguous(memory_format=torch.channels_last) if images else parameter
            there = lasting(laid_out)
            if there is not parameter:
                parameter.data = there
    return net
