"""A net whose training step is two native calls, as PyTorch sees it."""

from hapgop.nn.training.program import Back, TrainingProgram, by_autograd
from hapgop.nn.training.step import CallTime

__all__ = ["Back", "CallTime", "TrainingProgram", "by_autograd"]
