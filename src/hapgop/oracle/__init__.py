"""The definition of convolution and pooling, in NumPy: what everything else is tested against."""

from hapgop.oracle.convolution import bound, conv, grad_w, grad_x
from hapgop.oracle.pooling import avg_pool, avg_pool_grad, max_pool, max_pool_grad

__all__ = ["avg_pool", "avg_pool_grad", "bound", "conv", "grad_w", "grad_x", "max_pool", "max_pool_grad"]
