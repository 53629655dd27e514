"""What a net does between its convolutions: activations, sums, gates, softmax, copies; as tile programs."""

from hapgop.algorithms.maps.functions import FUNCTIONS
from hapgop.algorithms.maps.kernels import recipe, seconds
from hapgop.algorithms.maps.problem import TENSORS, MapProblem

__all__ = ["FUNCTIONS", "TENSORS", "MapProblem", "recipe", "seconds"]
