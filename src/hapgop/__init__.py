"""hapgop: convolutional networks, fast on the CPU that you have, in training as in prediction, and open to the eye.

NumPy in, NumPy out; PyTorch begins at `hapgop.nn` and is not imported here.

>>> import hapgop, numpy as np
>>> x, w = np.ones((1, 3, 32, 32), np.float32), np.ones((6, 3, 5, 5), np.float32)
>>> hapgop.conv2d(x, w, activation="relu").shape
(1, 6, 28, 28)
"""

import importlib
from typing import TYPE_CHECKING, Any

from hapgop._version import __version__
from hapgop.errors import InputError

if TYPE_CHECKING:
    from hapgop.engine import (
        avg_pool2d,
        conv2d,
        get_precision,
        get_threads,
        get_tuning,
        linear,
        max_pool2d,
        release_memory,
        set_precision,
        set_threads,
        set_tuning,
        tune_allocator,
    )
    from hapgop.engine import describe as plan
    from hapgop.predict import Predictor
    from hapgop.shape import ConvShape, PoolShape, ReceptiveField, ShapeError

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
    "get_precision",
    "get_threads",
    "get_tuning",
    "linear",
    "max_pool2d",
    "plan",
    "release_memory",
    "set_precision",
    "set_threads",
    "set_tuning",
    "tune_allocator",
]

# Each name is fetched when it is first used: the command line's help need not wait for LLVM, and who only convolves
# arrays need not have what `Predictor` reads pictures with.
_HOMES = {
    "ConvShape": ("hapgop.shape", "ConvShape"),
    "PoolShape": ("hapgop.shape", "PoolShape"),
    "Predictor": ("hapgop.predict", "Predictor"),
    "ReceptiveField": ("hapgop.shape", "ReceptiveField"),
    "ShapeError": ("hapgop.shape", "ShapeError"),
    "avg_pool2d": ("hapgop.engine", "avg_pool2d"),
    "conv2d": ("hapgop.engine", "conv2d"),
    "get_precision": ("hapgop.engine", "get_precision"),
    "get_threads": ("hapgop.engine", "get_threads"),
    "get_tuning": ("hapgop.engine", "get_tuning"),
    "linear": ("hapgop.engine", "linear"),
    "max_pool2d": ("hapgop.engine", "max_pool2d"),
    "plan": ("hapgop.engine", "describe"),
    "release_memory": ("hapgop.engine", "release_memory"),
    "set_precision": ("hapgop.engine", "set_precision"),
    "set_threads": ("hapgop.engine", "set_threads"),
    "set_tuning": ("hapgop.engine", "set_tuning"),
    "tune_allocator": ("hapgop.engine", "tune_allocator"),
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hapgop' has no attribute {name!r}")
    room, inside = _HOMES[name]
    value = getattr(importlib.import_module(room), inside)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
