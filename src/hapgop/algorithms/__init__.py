"""The algorithms, one file each; `ALL` is the list that dispatch, tests and benchmark read."""

from hapgop.algorithms.batch_norm import BatchNorm
from hapgop.algorithms.bfloat16 import Bfloat16
from hapgop.algorithms.bfloat16_pairs import DirectPairs, PointwiseGradWPairs
from hapgop.algorithms.bias import Bias
from hapgop.algorithms.depthwise import Depthwise
from hapgop.algorithms.depthwise_grad_w import DepthwiseGradW
from hapgop.algorithms.direct import Direct
from hapgop.algorithms.direct_grad_w import DirectGradW
from hapgop.algorithms.narrow import Narrow
from hapgop.algorithms.planar import Planar
from hapgop.algorithms.planar_grad_w import PlanarGradW
from hapgop.algorithms.pool import Pool
from hapgop.algorithms.pooled_grad import PooledGrad
from hapgop.algorithms.pooled_grad_w import PooledGradW
from hapgop.algorithms.problem import Problem
from hapgop.algorithms.recipe import Algorithm, Pack, Recipe
from hapgop.algorithms.relu_grad import ReluGrad
from hapgop.algorithms.winners_grad_w import WinnersGradW
from hapgop.algorithms.winners_grad_x import WinnersGradX
from hapgop.algorithms.winograd import Winograd, WinogradGradW

__all__ = ["ALL", "Algorithm", "Pack", "Problem", "Recipe", "algorithms_of"]

# Most special first, most general last; of those that accept a problem the one predicted fastest is taken.
ALL: tuple[Algorithm, ...] = (
    Pool(),
    Bias(),
    BatchNorm(),
    ReluGrad(),
    PooledGrad(),
    PooledGradW(),
    WinnersGradX(),
    WinnersGradW(),
    Depthwise(),
    DepthwiseGradW(),
    Winograd(5, 3),
    Winograd(4, 3),
    Winograd(3, 3),
    Winograd(2, 3),
    Winograd(4, 5),
    Winograd(2, 5),
    Winograd(4, 3, stride=2),
    Winograd(2, 3, stride=2),
    Winograd(4, 4, stride=2),
    WinogradGradW(5, 3),
    WinogradGradW(4, 3),
    WinogradGradW(3, 3),
    WinogradGradW(2, 3),
    WinogradGradW(4, 5),
    WinogradGradW(2, 5),
    WinogradGradW(4, 3, stride=2),
    WinogradGradW(2, 3, stride=2),
    WinogradGradW(4, 4, stride=2),
    WinogradGradW(1, 1),
    WinogradGradW(1, 1, stride=2),
    PlanarGradW(),
    DirectGradW(),
    Narrow(),
    Planar(),
    Direct(),
)

_BFLOAT16 = (DirectPairs(), PointwiseGradWPairs(), *map(Bfloat16, ALL))


def algorithms_of(dtype: str) -> tuple[Algorithm, ...]:
    """The algorithms for tensors of a dtype."""
    return _BFLOAT16 if dtype == "bfloat16" else ALL
