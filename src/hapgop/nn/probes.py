"""Changes of a tensor that PyTorch does not count: those through `.data`, or through NumPy."""

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

_FEWEST: Final = 61  # numbers, of a large tensor with few filters
_BITS: Final = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def probe(tensor: Tensor, whole: int) -> np.ndarray[Any, Any]:
    """Numbers of a tensor, as whole numbers in its own memory, in which a change is likely to be seen.

    Tensors of at most `whole` numbers are looked at all. Of larger ones it is at least one number of each filter (what
    lies along the first axis), at another place in each: filters that are cleared or scaled are seen, and mostly so
    their channels; a change of few numbers may not be.

    >>> filters = torch.zeros(64, 3, 5, 5)
    >>> seen = probe(filters, 256)
    >>> filters.data[17] = 1
    >>> len(seen), int((seen != 0).sum())
    (65, 1)
    """
    tensor = tensor.detach()
    # NumPy has no bfloat16.
    bits = tensor.view(_BITS[tensor.element_size()]) if tensor.dim() else tensor.reshape(1)
    order = np.argsort([-stride for stride in bits.stride()], kind="stable").tolist()
    laid_out = bits.permute(order)
    if not laid_out.is_contiguous():
        every: np.ndarray[Any, Any] = bits.numpy()
        return every
    flat: np.ndarray[Any, Any] = laid_out.view(-1).numpy()
    if flat.size <= whole:
        return flat
    # One less than a filter has: so none is left out, and the place within moves on.
    step = min(flat.size // len(tensor) - 1, flat.size // _FEWEST | 1)
    return flat[:: max(step, 1)]
