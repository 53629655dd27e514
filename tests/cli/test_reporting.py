"""On which images the report of a training judges the filters."""

from types import SimpleNamespace

import numpy as np
import pytest

from hapgop.cli import reporting


@pytest.mark.parametrize("n", [3, 64, 100, 1000])
def test_the_filters_are_judged_on_images_evenly_from_all(monkeypatch, n):
    monkeypatch.setattr(reporting.explain, "opened", lambda predictor: predictor)
    monkeypatch.setattr(reporting.explain, "health_of_all", lambda net, images, layers: images)
    predictor = SimpleNamespace(graph=SimpleNamespace(nodes=()), prepare=lambda image: image)
    evaluation = SimpleNamespace(labels=np.zeros(n), images=lambda number: number)
    judged = reporting._health(predictor, evaluation)
    assert (len(judged), judged[0], judged[-1]) == (min(n, 64), 0, n - 1)
    assert np.ptp(np.diff(judged)) <= 1
