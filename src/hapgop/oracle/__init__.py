"""The definition of convolution, pooling and batch norm, in NumPy: what everything else is tested against."""

from hapgop.oracle.convolution import bound, conv, grad_w, grad_x
from hapgop.oracle.normalise import batch_norm, batch_norm_grad
from hapgop.oracle.pooling import avg_pool, avg_pool_grad, counted, max_pool, max_pool_grad

__all__ = [
    "avg_pool",
    "avg_pool_grad",
    "batch_norm",
    "batch_norm_grad",
    "bound",
    "conv",
    "counted",
    "grad_w",
    "grad_x",
    "max_pool",
    "max_pool_grad",
]
