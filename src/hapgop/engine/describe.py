"""The plan of a convolution, for people."""

from hapgop.algorithms import Problem
from hapgop.algorithms.problem import Op
from hapgop.engine.precision import at_precision
from hapgop.engine.ready import plan_for
from hapgop.planning import Plan
from hapgop.shape import ConvShape, PoolShape


def describe(shape: ConvShape | PoolShape, op: Op | None = None, dtype: str = "float32") -> Plan:
    """What the engine would do for a shape on this machine; `print` it.

    op: "conv" (for a ConvShape, the default), "grad_x", "grad_w", "grad_b", "max_pool" (for a PoolShape), ...
    dtype: "float32", "float64" or "bfloat16". Raises InputError where no algorithm takes it.

    >>> print(describe(ConvShape(n=1, ic=3, ih=32, iw=32, oc=6, kh=5, kw=5)))  # doctest: +ELLIPSIS
    conv 1 x 3 x 32 x 32 -> 1 x 6 x 28 x 28, filter 5 x 5, float32
    ...
    """
    problem = Problem(op or ("conv" if isinstance(shape, ConvShape) else "max_pool"), shape, dtype)
    return plan_for(at_precision(problem))
