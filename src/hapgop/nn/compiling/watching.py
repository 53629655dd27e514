"""Whether weights still are what a program was made of.

PyTorch counts changes of a tensor. Those that it does not count, through `.data` or NumPy, are found by comparing:
small tensors whole, of large ones a number of each filter.
"""

from collections.abc import Sequence
from typing import Final

from torch import Tensor

from hapgop.nn.probes import probe

_WHOLE: Final = 256  # numbers that are compared all


class Watch:
    """What some tensors are at this moment."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self._known = [_signature(tensor) for tensor in tensors]
        # They keep the memory too: an address stays taken.
        self._probes = [probe(tensor, _WHOLE) for tensor in tensors]
        self._seen = [probe.tobytes() for probe in self._probes]

    def holds(self, tensors: Sequence[Tensor]) -> bool:
        """Are these the same tensors, unchanged?"""
        return self._known == [_signature(tensor) for tensor in tensors] and self._seen == [
            probe.tobytes() for probe in self._probes
        ]


def _signature(tensor: Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version
