"""What the report says of little: few images, few epochs, classes without images, one of a kind."""

import re

import numpy as np
import pytest

from hapgop.explain import FilterHealth
from hapgop.studio import results
from hapgop.studio.curves import COLD, Curve, plot
from hapgop.studio.report import report
from hapgop.studio.trust import calibration
from hapgop.train import Calibration, Evaluation

BINS = ((0.55, 0.4, 30), (0.95, 0.8, 90))
LEAST, MOST = 0.02000001, 49.9999


def said(html):
    return " ".join(re.sub("<[^>]*>", " ", html).split())


@pytest.mark.parametrize(
    ("temperature", "fitted", "why"),
    [
        (0.8, 20, "20 validation images would be too few to fit it on"),
        (0.8, 1, "1 validation image would be too few"),
        (LEAST, 500, "the surer it were, the better"),
        (MOST, 500, "no better than chance"),
    ],
)
def test_a_temperature_without_meaning_is_not_told(temperature, fitted, why):
    words = said(calibration(Calibration(temperature, 0.05, 0.04, BINS), fitted).body)
    assert why in words
    assert "No temperature is given" in words
    assert "Dividing" not in words
    assert f"{temperature:.2f}" not in words


@pytest.mark.parametrize("fitted", [100, None])
def test_one_with_a_meaning_is_told(fitted):
    words = said(calibration(Calibration(1.7, 0.15, 0.021, BINS), fitted).body)
    assert "too sure of itself" in words
    assert "temperature of 1.70" in words
    assert "chance" not in words


def test_an_error_of_few_images_is_called_rough():
    words = said(calibration(Calibration(1.7, 0.15, 0.021, ((0.9, 0.8, 12),)), 300).body)
    assert "It rests on 12 images only: so few that chance has a large part in it." in words


def test_the_report_knows_on_how_many_a_temperature_was_fitted(content):
    given = content(calibration=Calibration(1.7, 0.15, 0.021, BINS))
    assert "temperature of" in said(report(**given))
    given["config"]["data"]["validation"] = 12
    assert "12 validation images would be too few" in said(report(**given))


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 40])
def test_epochs_are_counted_in_whole_numbers(epochs):
    lines = [{"epoch": epoch, "loss": 1 / epoch} for epoch in range(1, epochs + 1)]
    drawn = plot("Loss", lines, [Curve("loss", "training", COLD)])
    texts = re.findall(r"<text[^>]*>([^<]*)</text>", drawn)
    ticks = texts[: texts.index("epoch")]
    assert ticks
    assert all(re.fullmatch(r"\d+", tick) for tick in ticks), ticks


def test_a_class_without_images_has_no_place_on_the_line():
    labels = np.array([0, 0, 2, 2])
    answers = np.eye(3, dtype=np.float32)[[0, 0, 2, 0]]
    names = tuple("abcd")
    judged = Evaluation(("cat", "dog", "owl"), labels, answers, names, lambda _: np.zeros((4, 4, 3), np.uint8))
    body = results.classes(judged).body
    rows = re.findall(r'<li><span class="label" title="(\w+)">.*?</li>', body, re.DOTALL)
    assert rows == ["owl", "cat", "dog"], "the lowest first, and at the end what nothing is known of"
    dog = body[body.index('title="dog"') :]
    assert "no image" in dog
    assert "point" not in dog
    assert "range" not in dog
    assert "50 %" in body


def test_one_is_not_called_many(evaluation, content):
    assert "of 1 test image:" in said(results.answer(evaluation(1, n=1)).body)
    page = content(health=[FilterHealth("features.0", "features.1", (), (), (), 1)])
    assert "any of 1 image," in said(report(**page))
    assert not re.search(r"\b1 (?:filters|images|classes|channels|values|parameters)\b", said(report(**page)))


@pytest.mark.parametrize(("classes", "words"), [(41, "the 1 other class"), (42, "the 2 other classes")])
def test_classes_that_unfold_are_counted(evaluation, classes, words):
    assert words in said(results.classes(evaluation(classes, n=300)).body)
