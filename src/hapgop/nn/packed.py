"""Weights packed once for many calls, as long as they stay what they are.

Only a `Parameter` whose gradient nobody wants is packed so: that is how a net predicts. PyTorch counts changes of a
tensor (`_version`), and a change that it does not count, through `.data` or NumPy, is found by comparing: small weights
whole, of large ones a number of each filter. What that cannot find is a change of few numbers of large weights.
"""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
from torch import Tensor, UntypedStorage
from torch.nn import Parameter

from hapgop import engine
from hapgop.nn.probes import probe

_MOST: Final = 256 << 20  # bytes of packed weights together; Winograd's are four times as large as the weights
_WHOLE: Final = 4096  # weights that are compared all


@dataclass(frozen=True, slots=True)
class _Held:
    """Packed weights, and how to know that they still are those of the tensor."""

    # Not of the tensor: PyTorch does not swap tensors to which there are weak references (torch.utils.swap_tensors).
    memory: weakref.ref[UntypedStorage]
    version: int
    address: int
    probe: np.ndarray[Any, Any]  # does not keep the memory
    seen: bytes
    packed: np.ndarray[Any, Any]
    at: int

    def fits(self, w: Tensor) -> bool:
        return (
            self.memory() is not None
            and self.version == w._version
            and self.address == w.data_ptr()
            and self.seen == self.probe.tobytes()
        )


_kept: Final[engine.Kept[_Held]] = engine.Kept(_MOST)
# Memory is given back anywhere, in the midst of `put` too: that only puts their keys here.
_gone: Final[deque[tuple[int, str]]] = deque()


def can_be(w: Tensor) -> bool:
    """Whether changes of this tensor are counted, and it is likely to come again."""
    return type(w) is Parameter and not w.is_inference()


def packed(run: engine.Prepared, w: Tensor) -> tuple[int, object]:
    """The address of w packed as a prepared problem wants it, and what keeps that memory meanwhile."""
    pack = run.plan.recipe.pack
    if pack is None:
        return w.data_ptr(), w
    key = id(w), pack.key
    held = _kept.get(key)
    if held is None or not held.fits(w):
        held = _pack(run, w, key)
    return held.at, held


def _pack(run: engine.Prepared, w: Tensor, key: tuple[int, str]) -> _Held:
    while _gone:
        _kept.drop(_gone.popleft())
    version, address = w._version, w.data_ptr()
    numbers = _lent(probe(w, _WHOLE))
    seen = numbers.tobytes()
    inside = np.dtype(run.plan.problem.inside)
    memory = engine.empty((run.packed_size + engine.ALIGN // inside.itemsize,), inside)
    first = -memory.ctypes.data % engine.ALIGN // inside.itemsize
    at = memory[first:].ctypes.data
    run.pack(address, at)
    alive = weakref.ref(w.untyped_storage(), lambda _: _gone.append(key))
    held = _Held(alive, version, address, numbers, seen, memory, at)
    _kept.put(key, held, memory.nbytes)
    return held


def _lent(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The same numbers where they lie, without keeping their memory."""
    return np.asarray(SimpleNamespace(__array_interface__=array.__array_interface__))


def forget() -> None:
    """Keeps no packed weights any longer."""
    _kept.clear()
