"""Whether a net is right as often as it is sure, and the one number that makes it so."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hapgop.train.evaluation import Evaluation

BINS = 15
_ROUNDS = 60
_WIDEST = 50.0
# For what is zero in float32, whose least number is a little larger.
_LEAST = 1e-45


@dataclass(frozen=True, eq=False)
class Calibration:
    """How sure against how right, on images that were not used to find the temperature.

    temperature: what logits are to be divided by, fitted on the validation split; above 1 the net is too sure. error:
    the expected calibration error, 0 to 1, as the net answers and with the temperature. bins: for each of 15 equal
    ranges of sureness that has images: (mean sureness, share right, images), as the net answers.
    """

    temperature: float
    error: float
    error_with_temperature: float
    bins: tuple[tuple[float, float, int], ...]


def calibration(validation: Evaluation, unseen: Evaluation) -> Calibration:
    """The calibration on `unseen` images, its temperature fitted on `validation`.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks", arXiv 1706.04599.
    """
    temperature = fitted_temperature(validation.probabilities, validation.labels)
    with_it = tempered(unseen.probabilities, temperature)
    return Calibration(
        temperature,
        expected_error(reliability(unseen.probabilities, unseen.labels)),
        expected_error(reliability(with_it, unseen.labels)),
        tuple(reliability(unseen.probabilities, unseen.labels)),
    )


def tempered(probabilities: NDArray[np.floating], temperature: float) -> NDArray[np.float64]:
    """The probabilities (n, k) that the same logits give when they are divided by the temperature.

    >>> tempered(np.array([[0.9, 0.1]]), 1.0).round(6).tolist(), tempered(np.array([[0.9, 0.1]]), 2.0).round(3).tolist()
    ([[0.9, 0.1]], [[0.75, 0.25]])
    """
    scores = np.log(np.maximum(probabilities.astype(np.float64), _LEAST)) / temperature
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: NDArray[np.float64] = scores / scores.sum(axis=1, keepdims=True)
    return result


def fitted_temperature(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> float:
    """The temperature, from 1/50 to 50, with the least cross-entropy, which has one valley only."""

    def loss(log: float) -> float:
        chosen = tempered(probabilities, math.exp(log))[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chosen, 1e-300)).mean())

    low, high = -math.log(_WIDEST), math.log(_WIDEST)
    for _ in range(_ROUNDS):
        third = (high - low) / 3
        if loss(low + third) <= loss(high - third):
            high -= third
        else:
            low += third
    return math.exp((low + high) / 2)


def reliability(probabilities: NDArray[np.floating], labels: NDArray[np.int64]) -> list[tuple[float, float, int]]:
    """(mean sureness, share right, images) for each of `BINS` equal ranges of sureness that has images."""
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    which = np.minimum((sure * BINS).astype(int), BINS - 1)
    rows = []
    for number in range(BINS):
        inside = which == number
        if inside.any():
            rows.append((float(sure[inside].mean()), float(right[inside].mean()), int(inside.sum())))
    return rows


def expected_error(rows: list[tuple[float, float, int]]) -> float:
    """The mean difference between sureness and share right, weighted by images.

    >>> expected_error([(0.9, 0.8, 10), (0.5, 0.5, 30)])
    0.025
    """
    images = sum(count for _, _, count in rows)
    return round(sum(count * abs(sure - right) for sure, right, count in rows) / images, 12) if images else 0.0
