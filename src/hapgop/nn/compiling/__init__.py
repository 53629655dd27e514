"""`torch.compile(model, backend="hapgop")`."""

from hapgop.nn.compiling.compiler import backend

__all__ = ["backend"]
