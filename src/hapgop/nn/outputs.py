"""Memory for results: large ones lie in memory that the engine uses again."""

from collections.abc import Sequence
from math import prod
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from hapgop import engine

_NUMPY: Final[dict[torch.dtype, np.dtype[Any]]] = {
    torch.float32: np.dtype("float32"),
    torch.float64: np.dtype("float64"),
    torch.bfloat16: np.dtype("int16"),  # NumPy has no such type; the bits fit
}
# Bytes of a huge page. Below, PyTorch's allocator has memory at hand, and its tensors are cheaper to make.
_LARGE: Final = 2 << 20


def empty_strided(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """As torch.empty_strided, for dense strides; the storage of a large one cannot be resized."""
    count = prod(shape)
    if count * dtype.itemsize < _LARGE or dtype not in _NUMPY:
        return torch.empty_strided(shape, strides, dtype=dtype)
    memory = torch.from_numpy(engine.empty((count,), _NUMPY[dtype])).view(dtype)
    # Not a view: one would keep what it is a view of, and PyTorch adds up gradients in place only where nobody else
    # holds their memory. Nor from a storage, as the stubs have it: its Python object counts as well.
    result: Tensor = torch.empty(0, dtype=dtype).set_(memory, 0, shape, strides)  # type: ignore[call-overload]
    return result


def lasting(tensor: Tensor) -> Tensor:
    """The same numbers in the same order, on huge pages if they are many; the tensor itself if they are not, or are so.

    A pass over filters whose pages are small waits for the addresses of pages as long as for the numbers.
    """
    small = tensor.numel() * tensor.element_size() < _LARGE or tensor.dtype not in _NUMPY
    if small or not _dense(tensor) or tensor.data_ptr() % _LARGE == 0:
        return tensor
    return empty_strided(tensor.shape, tensor.stride(), tensor.dtype).copy_(tensor.detach())


def _dense(tensor: Tensor) -> bool:
    """Whether a CPU tensor has all of its memory to itself, in one of PyTorch's orders."""
    if type(tensor) not in (Tensor, torch.nn.Parameter) or not tensor.is_cpu or tensor.layout is not torch.strided:
        return False
    return tensor.is_contiguous() or (tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last))
