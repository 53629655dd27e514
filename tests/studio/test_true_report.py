"""What the report says where a temperature does harm."""

import pytest

from hapgop.studio.trust import calibration
from hapgop.train import Calibration

BINS = ((0.55, 0.4, 10), (0.95, 0.8, 90))


@pytest.mark.parametrize(
    ("found", "words", "never"),
    [
        (
            Calibration(0.49, 0.049, 0.395, BINS),
            "best left as it is: no temperature helps here",
            "less sure than it could",
        ),
        (Calibration(0.49, 0.395, 0.049, BINS), "less sure than it could be", "no temperature"),
        (Calibration(1.7, 0.15, 0.021, BINS), "too sure of itself", "no temperature"),
        (Calibration(1.01, 0.049, 0.05, BINS), "about as sure as it is right", "no temperature"),
    ],
)
def test_the_verdict_follows_the_error(found, words, never):
    said = calibration(found).body
    assert words in said
    assert never not in said
