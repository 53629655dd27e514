"""Evaluations: intervals, counts and mistakes against hand-made ones."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hapgop.errors import InputError
from hapgop.predict import Predictor
from hapgop.train import Data, Evaluation, Recipe, evaluate, evaluation, fit, load, wilson
from hapgop.train.batches import looked_through

NetMaker = Callable[[], torch.nn.Module]


@pytest.mark.parametrize(
    ("correct", "total", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_values(correct: int, total: int, low: float, high: float) -> None:
    found = wilson(correct, total)
    assert (round(found[0], 4), round(found[1], 4)) == (low, high)
    other = wilson(total - correct, total)
    assert (round(1 - other[1], 4), round(1 - other[0], 4)) == (low, high)


@given(st.integers(0, 1000).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_solves_its_equation(counts: tuple[int, int]) -> None:
    correct, total = counts
    low, high = wilson(correct, total)
    if total == 0:
        assert (low, high) == (0, 1)
        return
    share = correct / total
    assert 0 <= low <= share <= high <= 1
    for bound in (low, high):
        # The bounds are where the score test is just met: |share - p| = z sqrt(p (1 - p) / n).
        assert (share - bound) ** 2 == pytest.approx(1.959963984540054**2 * bound * (1 - bound) / total, abs=1e-12)


def hand_made() -> Evaluation:
    probabilities = np.array(
        [[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.5, 0.5, 0.0]], np.float32
    )
    return Evaluation(
        classes=("a", "b", "c"),
        labels=np.array([0, 0, 1, 1, 2]),
        probabilities=probabilities,
        names=tuple("vwxyz"),
        images=lambda position: np.full((2, 2, 1), position, np.uint8),
    )


def test_counts_by_hand() -> None:
    found = hand_made()
    assert found.predictions.tolist() == [0, 1, 1, 0, 0]
    assert found.accuracy == 2 / 5
    assert found.interval == wilson(2, 5)
    assert found.confusion.tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert found.per_class.correct.tolist() == [1, 1, 0]
    assert found.per_class.total.tolist() == [2, 2, 1]
    assert (found.per_class.low[2], found.per_class.high[2]) == wilson(0, 1)


def test_the_surest_mistakes_come_first() -> None:
    assert hand_made().mistakes(2).tolist() == [1, 3]
    assert hand_made().mistakes().tolist() == [1, 3, 4]


def test_a_run_answers_as_its_module_does(tmp_path: Path, data: Data, net: NetMaker) -> None:
    result = fit(data, tmp_path / "run", Recipe(epochs=3, batch_size=10), net=net())
    as_module = evaluate(result.net, data)
    as_run = evaluate(tmp_path / "run", data)
    assert as_module.accuracy == as_run.accuracy
    assert as_run.labels.tolist() == data.split("test").labels.tolist()
    assert (as_run.images(4) == data.split("test").image(4)).all()
    assert as_run.names[4] == "stripes[4]"
    assert as_run.split == "test"
    # Two implementations of one net in float32, a hundred products deep.
    assert np.abs(as_module.probabilities - as_run.probabilities).max() < 1e-4
    assert (evaluate(Predictor(tmp_path / "run"), data).probabilities == as_run.probabilities).all()
    assert len(evaluate(result.net, data, "all").labels) == 102
    assert evaluate(result.net, dataclasses.replace(data, test=None)).split == "validation"


def test_data_that_do_not_fit_the_net_are_refused(tmp_path: Path, data: Data, net: NetMaker) -> None:
    fit(data, tmp_path / "run", Recipe(epochs=1, batch_size=10), net=net())
    with pytest.raises(InputError, match="'0'"):
        evaluate(tmp_path / "run", "digits")
    smaller = dataclasses.replace(data, train=dataclasses.replace(data.train, pixels=data.train.pixels[:, 1:]))
    with pytest.raises(InputError, match=r"size=\(8, 8\)"):
        evaluate(tmp_path / "run", smaller)
    with pytest.raises(InputError, match="no split 'tests'"):
        evaluate(tmp_path / "run", data, "tests")
    with pytest.raises(InputError, match="10 classes"):
        evaluate(net(), load("digits"))


def test_classes_are_matched_by_name(tmp_path: Path, data: Data, net: NetMaker) -> None:
    fit(data, tmp_path / "run", Recipe(epochs=3, batch_size=10), net=net())
    turned = {0: 2, 1: 0, 2: 1}
    relabelled = dataclasses.replace(
        data,
        classes=("middle", "low", "high"),
        test=dataclasses.replace(data.split("test"), labels=np.array([turned[i] for i in data.split("test").labels])),
    )
    found = evaluate(tmp_path / "run", relabelled)
    assert found.classes == data.classes
    assert (found.labels == data.split("test").labels).all()


def test_two_classes_of_one_name_stay_two(tmp_path: Path, data: Data, net: NetMaker) -> None:
    data = dataclasses.replace(data, classes=("crane", "crane", "owl"))
    fit(data, tmp_path / "run", Recipe(epochs=1, batch_size=10), net=net())
    assert (evaluate(tmp_path / "run", data).labels == data.split("test").labels).all()


def test_evaluating_a_module_leaves_its_modes(data: Data, net: NetMaker) -> None:
    module = net().train()
    module[1].eval()
    evaluate(module, data)
    assert module.training
    assert module[5].training
    assert not module[1].training


@given(st.integers(0, 5), st.integers(0, 40), st.integers(1, 12))
def test_all_are_looked_through_once_in_batches_of_one_size(start: int, many: int, count: int) -> None:
    found = list(looked_through(start, start + many, count))
    seen = [position for chosen, before in found for position in chosen[before:].tolist()]
    assert seen == list(range(start, start + many))
    assert {len(chosen) for chosen, _ in found} <= {min(count, many)}


def test_one_kind_of_batch_is_planned_and_answers_stay_with_their_images(monkeypatch: pytest.MonkeyPatch) -> None:
    data = load("digits")
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    whole = evaluate(net, data, "validation").probabilities
    monkeypatch.setattr(evaluation, "_MOST_IMAGES", 32)
    sizes: set[int] = set()
    net.register_forward_pre_hook(lambda _, given: sizes.add(len(given[0])))
    found = evaluate(net, data, "validation").probabilities
    assert sizes == {32}
    assert found.shape == whole.shape
    assert np.abs(found - whole).max() < 1e-6
