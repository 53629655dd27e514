"""Look inside a net: every number of it, what it sees, why it answers as it does, and what that costs.

Most questions take any `torch.nn.Module`, or a `hapgop.predict.Predictor`, or a net `opened` once for many questions.
`alike`, `costs`, `exciting`, `peaks`, `filter_health`, `health_of_all`, `algorithm` and `taken_apart` take an opened
one, and images as it reads them (`prepared`).
"""

import importlib
from typing import TYPE_CHECKING, Any

from hapgop.explain.algorithm import Algorithm, algorithm
from hapgop.explain.alike import Alike, alike
from hapgop.explain.answer import probabilities
from hapgop.explain.costs import Cost, costs
from hapgop.explain.exciting import Exciting, Peaks, exciting, peaks
from hapgop.explain.features import FeatureMap, feature_maps
from hapgop.explain.field import Field, effective_field, receptive_field
from hapgop.explain.filters import Filters, filters
from hapgop.explain.health import FilterHealth, filter_health, health_of_all
from hapgop.explain.learning import Learning, learn_filter
from hapgop.explain.opened import Opened, opened, prepared
from hapgop.explain.play import Played, convolved
from hapgop.explain.window import Window, taken_apart, window

if TYPE_CHECKING:
    from hapgop.explain.attribution import (
        Change,
        Evidence,
        Mattered,
        channels_that_mattered,
        coverings,
        evidence,
        strongest_place,
        what_changes,
    )

__all__ = [
    "Algorithm",
    "Alike",
    "Change",
    "Cost",
    "Evidence",
    "Exciting",
    "FeatureMap",
    "Field",
    "FilterHealth",
    "Filters",
    "Learning",
    "Mattered",
    "Opened",
    "Peaks",
    "Played",
    "Window",
    "algorithm",
    "alike",
    "channels_that_mattered",
    "convolved",
    "costs",
    "coverings",
    "effective_field",
    "evidence",
    "exciting",
    "feature_maps",
    "filter_health",
    "filters",
    "health_of_all",
    "learn_filter",
    "opened",
    "peaks",
    "prepared",
    "probabilities",
    "receptive_field",
    "strongest_place",
    "taken_apart",
    "what_changes",
    "window",
]

# Captum is not needed for the rest, and takes a second to import.
_BY_CAPTUM = (
    "Change", "Evidence", "Mattered", "channels_that_mattered", "coverings", "evidence", "strongest_place",
    "what_changes",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _BY_CAPTUM:
        raise AttributeError(f"module 'hapgop.explain' has no attribute {name!r}")
    return getattr(importlib.import_module("hapgop.explain.attribution"), name)
