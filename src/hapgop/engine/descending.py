"""Steps of gradient descent made ready to run."""

from __future__ import annotations

from hapgop.algorithms.descent import TENSORS, Descent, recipe, seconds
from hapgop.engine.runnable import Runnable
from hapgop.machine import host


def prepare_descent(update: Descent) -> Runnable:
    """An update ready to run; call it with the addresses of its tensors, in the order that `Descent` documents."""
    machine = host()
    return Runnable(recipe(update, machine), TENSORS, 4, seconds(update, machine), machine)
