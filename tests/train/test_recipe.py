"""Recipes and their schedules."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hapgop.errors import InputError
from hapgop.train import Data, Recipe, Split, load, suggested_recipe
from hapgop.train.schedule import learning_rate
from hapgop.train.suggestion import suggested_net


def test_a_recipe_survives_json() -> None:
    recipe = Recipe(epochs=3, optimizer="adamw", flip=True, seed=9)
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json()))) == recipe
    assert Recipe.from_json({}) == Recipe()


def test_whole_numbers_do_for_real_ones_and_keep_their_type() -> None:
    recipe = Recipe(learning_rate=1, epochs=3.0)  # type: ignore[arg-type]
    assert (recipe.learning_rate, type(recipe.learning_rate)) == (1.0, float)
    assert (recipe.epochs, type(recipe.epochs)) == (3, int)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"epochs": 0}, "epochs must be at least 1, not 0"),
        ({"epochs": 1.5}, "epochs is a whole number"),
        ({"epochs": True}, "epochs is a whole number"),
        ({"epochs": "3"}, "epochs is a whole number"),
        ({"epochs": float("inf")}, "epochs is a whole number"),
        ({"batch_size": -1}, "batch_size"),
        ({"learning_rate": 0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate is a number"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"momentum": 0.0}, "nesterov=False"),
        ({"optimizer": "adam"}, "optimizer is one of sgd, adamw, muon"),
        ({"schedule": None}, "schedule is one of"),
        ({"warmup": 1.1}, "warmup"),
        ({"label_smoothing": 1}, "label_smoothing"),
        ({"flip": 1}, "flip is true or false"),
        ({"shift": -1}, "shift"),
        ({"border": "white"}, "border"),
        ({"keep": "all"}, "keep"),
        ({"optimizer": "muon", "momentum": 0}, "nesterov=False"),
        ({"rest": "muon"}, "rest is one of adamw, sgd, not 'muon'"),
        ({"rest_rate": 0}, "rest_rate must be above 0"),
        ({"balance": 2}, "balance"),
        ({"average": 1}, "average must be at least 0 and below 1"),
        ({"cutout": -1}, "cutout"),
        ({"mixup": -0.1}, "mixup"),
        ({"colour": 1.5}, "colour"),
        ({"start_size": 0.1}, "start_size must be at least 0.25"),
        ({"target_accuracy": 99}, "target_accuracy must be at least 0 and at most 1"),
        ({"seed": -1}, "seed"),
        ({"lerning_rate": 1}, "did you mean 'learning_rate'"),
    ],
)
def test_nonsense_is_refused_by_name(settings: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Recipe.from_json(settings)


def test_digits_and_letters_are_never_mirrored_and_photographs_are(data: Data) -> None:
    assert not suggested_recipe(load("digits")).flip
    assert not suggested_recipe(data).flip
    pixels = data.train.pixels.repeat(3, axis=3)
    colour = dataclasses.replace(data, train=dataclasses.replace(data.train, pixels=pixels))
    assert suggested_recipe(colour).flip
    assert suggested_recipe(colour, flip=False, epochs=2) == dataclasses.replace(
        suggested_recipe(colour), flip=False, epochs=2
    )


def test_many_small_colour_images_have_a_recipe_and_a_net_of_their_own(data: Data) -> None:
    def colour(images: int) -> Data:
        pixels = np.broadcast_to(np.uint8(0), (images, 32, 32, 3))
        rows = np.arange(images)
        return dataclasses.replace(data, train=Split(pixels, rows, rows % len(data.classes), ("",) * images))

    few, many = colour(19_999), colour(20_000)
    assert (suggested_recipe(few).optimizer, suggested_net(few)) == ("sgd", "cifar")
    assert (suggested_recipe(many).optimizer, suggested_net(many)) == ("muon", "airbench")


def test_an_optimiser_that_is_named_has_rates_of_its_own(data: Data) -> None:
    pixels, rows = np.broadcast_to(np.uint8(0), (20_000, 32, 32, 3)), np.arange(20_000)
    many = dataclasses.replace(data, train=Split(pixels, rows, rows % len(data.classes), ("",) * 20_000))
    sgd, adamw = suggested_recipe(many, optimizer="sgd"), suggested_recipe(many, optimizer="adamw")
    usual = Recipe()
    assert (sgd.learning_rate, sgd.weight_decay, sgd.momentum) == (
        usual.learning_rate, usual.weight_decay, usual.momentum,
    )  # fmt: skip
    assert (adamw.learning_rate, adamw.weight_decay) == (0.002, 0.01)
    assert suggested_recipe(grey(data, 54_000), optimizer="adamw", learning_rate=0.01).learning_rate == 0.01
    assert suggested_recipe(grey(data, 54_000), optimizer="adamw").learning_rate == 0.002
    assert suggested_recipe(many, optimizer="muon") == suggested_recipe(many)


def grey(data: Data, images: int) -> Data:
    """So many grey images, of as many classes as the data have."""
    pixels = np.broadcast_to(np.uint8(0), (images, 28, 28, 1))
    rows = np.arange(images)
    return dataclasses.replace(data, train=Split(pixels, rows, rows % len(data.classes), ("",) * images))


def test_very_few_images_have_small_batches_and_grey_ones_the_larger_net(data: Data) -> None:
    assert (suggested_recipe(grey(data, 499)).batch_size, suggested_net(grey(data, 499))) == (16, "cifar")
    assert (suggested_recipe(grey(data, 500)).batch_size, suggested_net(grey(data, 500))) == (64, "lenet5")


def test_many_grey_images_are_seen_less_often_at_a_higher_rate(data: Data) -> None:
    few, many = suggested_recipe(grey(data, 2_000)), suggested_recipe(grey(data, 54_000))
    assert (few.epochs, few.learning_rate) == (40, 0.05)
    assert (many.epochs, many.learning_rate, many.batch_size) == (2, 0.1, 64)


@given(
    schedule=st.sampled_from(["onecycle", "cosine", "steps", "constant"]),
    warmup=st.floats(0, 1),
    steps=st.integers(1, 50),
)
def test_every_schedule_rises_to_its_peak_and_never_above(schedule: str, warmup: float, steps: int) -> None:
    recipe = Recipe(learning_rate=0.5, schedule=schedule, warmup=warmup)
    rates = [learning_rate(recipe, step, steps) for step in range(steps)]
    assert all(0 < rate <= 0.5 for rate in rates)
    assert max(rates) == 0.5
    peak = rates.index(0.5)
    assert rates[: peak + 1] == sorted(rates[: peak + 1])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    if schedule == "constant":
        assert set(rates[peak:]) == {0.5}


def test_schedules_by_hand() -> None:
    def rates(schedule: str) -> list[float]:
        recipe = Recipe(learning_rate=1.0, schedule=schedule, warmup=0.4)
        return [round(learning_rate(recipe, step, 5), 6) for step in range(5)]

    assert rates("onecycle") == [0.5, 1.0, 0.75, 0.5, 0.25]
    assert rates("cosine") == [0.5, 1.0, 0.853553, 0.5, 0.146447]
    assert rates("steps") == [0.5, 1.0, 1.0, 0.1, 0.01]
    assert rates("constant") == [0.5, 1.0, 1.0, 1.0, 1.0]
