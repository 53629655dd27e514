"""Kernels that are no layer's, made ready to run."""

from __future__ import annotations

from hapgop.algorithms import cross_entropy, descent, octets
from hapgop.algorithms.cross_entropy import CrossEntropy
from hapgop.algorithms.descent import Descent
from hapgop.algorithms.octets import Octets
from hapgop.engine.runnable import Runnable
from hapgop.machine import host


def prepare_descent(update: Descent) -> Runnable:
    """A step of gradient descent; call it with the addresses of its tensors, in the order that `Descent` documents."""
    machine = host()
    seconds = descent.seconds(update, machine)
    return Runnable(descent.recipe(update, machine), descent.TENSORS, 4, seconds, machine)


def prepare_cross_entropy(loss: CrossEntropy) -> Runnable:
    """A classifier's loss and its derivative; tensors as `CrossEntropy` documents."""
    machine = host()
    seconds = cross_entropy.seconds(loss, machine)
    return Runnable(cross_entropy.recipe(loss, machine), cross_entropy.TENSORS, 4, seconds, machine)


def prepare_octets(pixels: Octets) -> Runnable:
    """Pixels to numbers; tensors as `Octets` documents."""
    machine = host()
    return Runnable(octets.recipe(pixels, machine), octets.TENSORS, 4, octets.seconds(pixels, machine), machine)
