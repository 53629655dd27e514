"""hapgop: convolutional networks, fast on the CPU that you have, in training as in prediction, and open to the eye.

NumPy in, NumPy out; PyTorch begins at `hapgop.nn` and is not imported here.

>>> import numpy as np
>>> conv2d(np.ones((1, 3, 32, 32), np.float32), np.ones((6, 3, 5, 5), np.float32), activation="relu").shape
(1, 6, 28, 28)
"""

import importlib
from typing import TYPE_CHECKING, Any

from hapgop._version import __version__
from hapgop.engine import avg_pool2d, conv2d, get_threads, linear, max_pool2d, set_threads
from hapgop.engine import describe as plan
from hapgop.errors import InputError
from hapgop.shape import ConvShape, PoolShape, ReceptiveField, ShapeError

if TYPE_CHECKING:
    from hapgop.predict import Predictor

__all__ = [
    "ConvShape",
    "InputError",
    "PoolShape",
    "Predictor",
    "ReceptiveField",
    "ShapeError",
    "__version__",
    "avg_pool2d",
    "conv2d",
    "get_threads",
    "linear",
    "max_pool2d",
    "plan",
    "set_threads",
]


def __getattr__(name: str) -> Any:
    # `Predictor` reads images and needs Pillow, which someone who only convolves arrays need not have.
    if name == "Predictor":
        return importlib.import_module("hapgop.predict").Predictor
    raise AttributeError(f"module 'hapgop' has no attribute {name!r}")
