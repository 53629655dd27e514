"""Kernels that are no layer's, made ready to run."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from hapgop.algorithms import cross_entropy, descent, octets
from hapgop.algorithms.cross_entropy import CrossEntropy
from hapgop.algorithms.descent import Descent
from hapgop.algorithms.octets import Octets
from hapgop.engine.runnable import Runnable
from hapgop.machine import host


def prepare_descent(update: Descent) -> Runnable:
    """A step of gradient descent; call it with the addresses of its tensors, in the order that `Descent` documents."""
    return _ready(descent, update)


def prepare_cross_entropy(loss: CrossEntropy) -> Runnable:
    """A classifier's loss and its derivative; tensors as `CrossEntropy` documents."""
    return _ready(cross_entropy, loss)


def prepare_octets(pixels: Octets) -> Runnable:
    """Pixels to numbers; tensors as `Octets` documents."""
    return _ready(octets, pixels)


def _ready(kind: ModuleType, asked: Any) -> Runnable:
    machine = host()
    return Runnable(kind.recipe(asked, machine), kind.TENSORS, 4, kind.seconds(asked, machine), machine)
