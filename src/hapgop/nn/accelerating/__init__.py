"""A model of PyTorch's layers, computed by ours: in place, and back."""

from hapgop.nn.accelerating.account import Acceleration, LayerAccount, acceleration
from hapgop.nn.accelerating.swapping import accelerate, restore

__all__ = ["Acceleration", "LayerAccount", "accelerate", "acceleration", "restore"]
