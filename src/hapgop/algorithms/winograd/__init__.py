"""Fast convolution (Winograd, Toom-Cook): one triple of matrices gives all three operations."""

from hapgop.algorithms.winograd.conv import Winograd
from hapgop.algorithms.winograd.grad_w import WinogradGradW

__all__ = ["Winograd", "WinogradGradW"]
