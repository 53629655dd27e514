"""Fast convolution (Winograd, Toom-Cook): one triple of matrices gives all three operations."""

from hapgop.algorithms.winograd.conv import Winograd

__all__ = ["Winograd"]
