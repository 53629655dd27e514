"""The algorithms, one file each; `ALL` is the list that dispatch, tests and benchmark read."""

from hapgop.algorithms.bias import Bias
from hapgop.algorithms.direct import Direct
from hapgop.algorithms.direct_grad_w import DirectGradW
from hapgop.algorithms.pool import Pool
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe

__all__ = ["ALL", "Algorithm", "Pack", "Problem", "Recipe"]

# Most special first, most general last; of those that accept a problem the one predicted fastest is taken.
ALL: tuple[Algorithm, ...] = (Pool(), Bias(), DirectGradW(), Direct())
