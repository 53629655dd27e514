"""The net's answer, from its last layer's numbers."""

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError


def probabilities(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax of a vector of scores, float32 (k,). Raises InputError where the net does not give a vector.

    >>> probabilities(np.zeros(4, np.float32)).tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    if scores.ndim != 1:
        raise InputError(f"The net gives {'×'.join(map(str, scores.shape))}, not one score for each label.")
    powers = np.exp(scores.astype(np.float64) - scores.max())
    return (powers / powers.sum()).astype(np.float32)
