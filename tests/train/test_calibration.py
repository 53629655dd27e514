"""Calibration: by hand where it can be, and by nets whose temperature is known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hapgop.train import Evaluation, calibration
from hapgop.train.calibration import expected_error, fitted_temperature, reliability, tempered


def drawn(temperature: float, images: int = 4000, classes: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of a net whose logits are `temperature` times too large, and labels that follow the true ones."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(0, 1.5, (images, classes))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (true.cumsum(1) > generator.random((images, 1))).argmax(1)
    said = np.exp(temperature * logits)
    return (said / said.sum(1, keepdims=True)).astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_was_planted_is_found(temperature: float) -> None:
    probabilities, labels = drawn(temperature)
    # Of 4000 images with 4 classes, the standard error of 1/temperature is about 2 %.
    assert fitted_temperature(probabilities, labels) == pytest.approx(temperature, rel=0.08)


def test_the_error_falls_where_the_temperature_is_applied() -> None:
    def evaluation(seed: int, split: str) -> Evaluation:
        probabilities, labels = drawn(3.0, seed=seed)
        names = tuple(map(str, labels))
        return Evaluation(("a", "b", "c", "d"), labels, probabilities, names, lambda position: None, split)

    found = calibration(evaluation(1, "validation"), evaluation(2, "test"))
    assert found.error > 0.1
    assert found.error_with_temperature < 0.03
    assert sum(images for _, _, images in found.bins) == 4000


def test_reliability_by_hand() -> None:
    probabilities = np.array([[0.9, 0.1], [0.92, 0.08], [0.4, 0.6]])
    rows = reliability(probabilities, np.array([0, 1, 1]))
    assert rows == [pytest.approx((0.6, 1.0, 1)), pytest.approx((0.91, 0.5, 2))]
    assert expected_error(rows) == pytest.approx((0.4 + 2 * 0.41) / 3)


@given(temperature=st.floats(0.05, 20), seed=st.integers(0, 50))
def test_a_temperature_changes_no_answer(temperature: float, seed: int) -> None:
    probabilities, _ = drawn(1.0, images=20, seed=seed)
    after = tempered(probabilities, temperature)
    assert np.allclose(after.sum(1), 1)
    assert (after.argmax(1) == probabilities.argmax(1)).all()


def test_the_smallest_probabilities_have_a_temperature_too() -> None:
    probabilities = np.exp([[0.0, -80.0]]).astype(np.float32)
    assert tempered(probabilities, 2.0)[0, 1] == pytest.approx(np.exp(-40.0), rel=1e-5)


def test_certain_answers_have_a_temperature_too() -> None:
    probabilities = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    assert np.isfinite(fitted_temperature(probabilities, np.array([0, 1, 2, 1])))
