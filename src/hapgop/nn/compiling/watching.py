"""Whether weights still are what a program was made of.

PyTorch counts changes of a tensor. Those that it does not count, through `.data` or NumPy, are found by comparing:
small tensors whole, large ones by numbers spread over them.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from torch import Tensor

_WHOLE: Final = 256  # numbers that are compared all
_SOME: Final = 13  # of more than that


class Watch:
    """What some tensors are at this moment."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._known = [_signature(tensor) for tensor in tensors]
        # They keep the memory too: an address stays taken.
        self._probes = [_probe(tensor) for tensor in tensors]
        self._seen = [probe.tobytes() for probe in self._probes]

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Are these the same tensors, unchanged?"""
        return self._known == [_signature(tensor) for tensor in tensors] and self._seen == [
            probe.tobytes() for probe in self._probes
        ]


def _signature(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


def _probe(tensor: Tensor) -> np.ndarray[Any, Any]:
    tensor = tensor.detach()
    dense = tensor.is_contiguous() or tensor.dim() == 0
    flat = tensor.reshape(-1) if dense else tensor.permute(*np.argsort(tensor.stride())[::-1].tolist()).flatten()
    some: np.ndarray[Any, Any] = flat.numpy()
    return some if some.size <= _WHOLE else some[:: some.size // _SOME | 1]
