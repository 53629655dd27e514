"""A net whose training step is two native calls, as PyTorch sees it."""

from hapgop.nn.training.program import TrainingProgram
from hapgop.nn.training.step import CallTime

__all__ = ["CallTime", "TrainingProgram"]
