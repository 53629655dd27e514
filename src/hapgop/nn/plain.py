"""Who listens to a call: without anyone it can go past the dispatcher, which costs as much as a small convolution."""

from typing import Any

import torch
from torch._C._autograd import _profiler_enabled

# Of the transform under `is_grads_batched`, which no stack tells of.
_batched = torch._C._functorch.is_legacy_batchedtensor


def plain(*values: Any) -> bool:
    """Only plain CPU tensors (or no tensors), and nothing that wants to hear of the call.

    What listens: whatever writes calls down, modes (fake tensors), function transforms, the profiler.
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
    if written_down() or torch._C._len_torch_dispatch_stack():
        return False
    if torch._C._functorch.peek_interpreter_stack() is not None:
        return False
    return not any(isinstance(value, torch.Tensor) and _batched(value) for value in values)


def written_down() -> bool:
    """Whether calls are recorded, to be computed later: by torch.compile, torch.export, torch.jit.trace, torch.onnx."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def for_others() -> bool:
    """The same, where what is written down shall be computed without us: all but torch.compile."""
    return torch.compiler.is_exporting() or torch._C._get_tracing_state() is not None
