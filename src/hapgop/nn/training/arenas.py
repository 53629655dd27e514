"""Memory of the steps of a net, used again from one to the next."""

from __future__ import annotations

import torch
from torch import Tensor

from hapgop.nn.outputs import empty_strided


class Arenas:
    """Lends arenas; the largest of those that come back is lent again. Safe to use from several threads."""

    def __init__(self) -> None:
        self._back: list[Tensor] = []

    def take(self, size: int) -> Tensor:
        """Float32 of so many bytes, or more."""
        try:
            arena = self._back.pop()
        except IndexError:
            arena = None
        if arena is None or arena.nbytes < size:
            arena = empty_strided((size // 4,), (1,), torch.float32)
        return arena

    def give(self, arena: Tensor) -> None:
        """What was lent, and is not read any more."""
        kept = self._back[:1]
        self._back[:] = [max([arena, *kept], key=lambda one: one.nbytes)]
