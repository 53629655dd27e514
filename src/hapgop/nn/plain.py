"""Whether a call can go to its kernel without the dispatcher, which costs as much as a small convolution."""

from typing import Any

import torch
from torch._C._autograd import _profiler_enabled


def plain(*values: Any) -> bool:
    """Only plain CPU tensors (or no tensors), and nothing that wants to hear of the call.

    What listens: compiling, modes (fake tensors, tracing), function transforms, the profiler.
    """
    return ordinary(*values) and not _profiler_enabled()


def ordinary(*values: Any) -> bool:
    """The same, though the profiler listens: for what is told to it in other ways."""
    for value in values:
        kind = type(value)
        if kind is torch.Tensor or kind is torch.nn.Parameter:
            if not value.is_cpu or value.layout is not torch.strided:
                return False
        elif isinstance(value, torch.Tensor):
            return False
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return False
    return torch._C._functorch.peek_interpreter_stack() is None
