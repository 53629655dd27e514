"""A time budget: what is chosen follows from the times measured, which are given here."""

from collections.abc import Mapping

import pytest

from hapgop.errors import InputError
from hapgop.train import Data, Recipe, budget, fitting, load


@pytest.fixture
def cost(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Seconds an epoch of each net, in place of measuring."""
    costs: dict[str, float] = {}
    monkeypatch.setattr(budget, "_seconds_per_epoch", lambda data, recipe, name, workers, patience: costs[name])
    monkeypatch.setattr(budget, "candidates", lambda data: list(costs))
    return costs


@pytest.mark.parametrize(
    ("costs", "seconds", "net", "epochs"),
    [
        ({"big": 10.0, "small": 1.0}, 1000, "big", 30),
        ({"big": 10.0, "small": 1.0}, 200, "big", 18),
        ({"big": 10.0, "small": 1.0}, 60, "small", 30),
        ({"big": 10.0, "small": 1.0}, 8, "small", 7),
        ({"big": 10.0, "small": 9.0}, 60, "small", 6),
    ],
)
def test_the_strongest_net_that_has_enough_epochs(
    data: Data, cost: dict[str, float], costs: Mapping[str, float], seconds: float, net: str, epochs: int
) -> None:
    cost.update(costs)
    found = fitting(data, Recipe(epochs=30), seconds)
    assert (found.net, found.recipe.epochs) == (net, epochs)
    assert found.seconds == epochs * costs[net] <= seconds
    assert found.recipe == Recipe(epochs=epochs)
    assert found.reasons[0].startswith("big: 10.0 s an epoch")


def test_too_little_time_says_how_much_would_do(data: Data, cost: dict[str, float]) -> None:
    cost["only"] = 100.0
    with pytest.raises(InputError, match=r"One epoch of only takes 100.0 s.*About 2.2 min"):
        fitting(data, Recipe(epochs=5), 60)
    with pytest.raises(InputError, match="90s, 10m or 2h"):
        fitting(data, Recipe(), 0)


def test_a_real_net_is_timed() -> None:
    told: list[str] = []
    found = fitting(load("digits"), Recipe(epochs=2), 3600, tell=told.append)
    assert (found.net, found.recipe.epochs, told) == ("digits", 2, ["digits"])
    assert 0 < found.seconds < 3600
