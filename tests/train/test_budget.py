"""A time budget: what is chosen follows from the times measured, which are given here."""

from collections.abc import Mapping

import pytest

from hapgop.errors import InputError
from hapgop.train import Data, Recipe, budget, fitting, load


class Bench:
    """Seconds an epoch of each net, and those that its kernels take, in place of measuring; a clock that they turn."""

    def __init__(self) -> None:
        self.now, self.tried = 0.0, list[str]()
        self.epochs: dict[str, float] = {}
        self.kernels: dict[str, float] = {}

    def trial(self, data: Data, recipe: Recipe, name: str, workers: int, patience: float) -> budget.Trial:
        self.tried.append(name)
        self.now += self.kernels.get(name, 0.0)
        return budget.Trial(self.epochs[name], self.kernels.get(name, 0.0))


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    bench = Bench()
    monkeypatch.setattr(budget, "_trial", bench.trial)
    monkeypatch.setattr(budget, "candidates", lambda data: list(bench.epochs))
    monkeypatch.setattr(budget.time, "monotonic", lambda: bench.now)
    return bench


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
    data: Data, bench: Bench, costs: Mapping[str, float], seconds: float, net: str, epochs: int
) -> None:
    bench.epochs.update(costs)
    found = fitting(data, Recipe(epochs=30), seconds)
    assert (found.net, found.recipe.epochs) == (net, epochs)
    assert found.seconds == epochs * costs[net] <= seconds
    assert found.recipe == Recipe(epochs=epochs)
    assert found.reasons[1].startswith("big: 10.0 s an epoch")


def test_kernels_that_take_long_leave_less_time_and_are_told(data: Data, bench: Bench) -> None:
    bench.epochs, bench.kernels = {"big": 10.0, "small": 1.0}, {"big": 20.0}
    found = fitting(data, Recipe(epochs=30), 200)
    # 8 % of 200 seconds are kept for the end.
    assert bench.tried == ["small", "big"]
    assert (found.net, found.recipe.epochs, found.spent) == ("big", 16, 20.0)
    assert found.spent + found.seconds <= 184
    assert found.reasons[1] == "big: 10.0 s an epoch, so 16 would fit (its kernels took 20.0 s to make)"


@pytest.mark.parametrize(
    ("kernels", "net", "reason"),
    [
        # Twice as long for kernels would take more than half of what is left.
        (30.0, "small", "big and middle not tried: too little time is left"),
        (5.0, "big", "big: 2.0 s an epoch, so 41 would fit (its kernels took 5.0 s to make)"),
    ],
)
def test_a_stronger_net_is_tried_only_where_that_leaves_time(
    data: Data, bench: Bench, kernels: float, net: str, reason: str
) -> None:
    bench.epochs = {"big": 2.0, "middle": 1.5, "small": 1.0}
    bench.kernels = dict.fromkeys(bench.epochs, kernels)
    found = fitting(data, Recipe(epochs=30), 100)
    assert (found.net, found.reasons[-1]) == (net, reason)
    assert found.spent + found.seconds <= 92


def test_once_the_time_is_over_nothing_more_is_tried(data: Data, bench: Bench) -> None:
    bench.epochs, bench.kernels = {"big": 4.0, "small": 1.0}, {"big": 83.0, "small": 70.0}
    with pytest.raises(InputError) as caught:
        fitting(data, Recipe(epochs=30), 60)
    assert bench.tried == ["small"]
    assert str(caught.value) == (
        "Not one epoch fits into 60.0 s: one of small takes 1.0 s, and 70.0 s went by until the kernels of small were"
        " made. They are kept: the same command again has this time for training."
    )


def test_too_little_time_says_how_much_would_do(data: Data, bench: Bench) -> None:
    bench.epochs["only"] = 100.0
    with pytest.raises(InputError, match=r"one of only takes 100.0 s\. About 2.2 min"):
        fitting(data, Recipe(epochs=5), 60)
    # What the kernels took is spared the next time.
    bench.kernels["only"] = 30.0
    with pytest.raises(InputError, match=r"takes 100.0 s, and 30.0 s went by .* were made\. About 2.2 min"):
        fitting(data, Recipe(epochs=5), 60)
    with pytest.raises(InputError, match="90s, 10m or 2h"):
        fitting(data, Recipe(), 0)


def test_the_first_time_is_no_step_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now, costs = [0.0], iter([30.0, 1.0, 9.0, 2.0])
    monkeypatch.setattr(budget.time, "perf_counter", lambda: now[0])

    def work() -> None:
        now[0] += next(costs)

    # One step in which the machine did something else is none of its steps either.
    assert budget._timed(work, patience=100.0) == (30.0, 2.0)
    costs = iter([30.0, 4.0, 1.0])
    assert budget._timed(work, patience=3.0) == (30.0, 4.0)


def test_a_real_net_is_timed() -> None:
    told: list[str] = []
    found = fitting(load("digits"), Recipe(epochs=2), 3600, tell=told.append)
    assert (found.net, found.recipe.epochs, told) == ("digits", 2, ["digits"])
    assert 0 < found.seconds < 3600
