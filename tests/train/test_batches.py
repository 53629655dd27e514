"""Batches and augmentation: repeatable, complete, and exactly what they say."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hapgop.train import Data, Recipe, Workers
from hapgop.train import feeder as feeder_module
from hapgop.train.augment import Draws, Windows, drawn
from hapgop.train.augment import changed as changed_as_drawn
from hapgop.train.batches import TOGETHER, Order, step_seed
from hapgop.train.feeder import Batch, Feeder


@given(images=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 3))
def test_all_batches_have_one_size_and_each_image_its_turn(images: int, batch_size: int, seed: int) -> None:
    order = Order(images, batch_size, seed)
    size = min(batch_size, images)
    batches = [order.batch(step) for step in range(images)]
    assert {len(batch) for batch in batches} == {size}
    # `images` batches are exactly `size` permutations.
    assert np.bincount(np.concatenate(batches), minlength=images).tolist() == [size] * images
    assert abs(order.steps * size - images) <= size / 2 or order.steps == 1


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    first, second = Order(50, 8, seed=1), Order(50, 8, seed=1)
    late = second.batch(40)
    assert (first.batch(0) == second.batch(0)).all()
    assert (late == [first.batch(step) for step in range(41)][-1]).all()
    assert (Order(50, 8, seed=2).batch(0) != first.batch(0)).any()
    assert (first.batch(0) != first.batch(50)).any()


def changed(images: np.ndarray, recipe: Recipe, step: int) -> np.ndarray:
    """All images of a data set, in order, as some step changes them."""
    draws = drawn_for(step, recipe, Order(len(images), len(images), recipe.seed))
    return changed_as_drawn(Windows(images, recipe).at(np.arange(len(images)), draws.shift), draws, recipe)


def drawn_for(step: int, recipe: Recipe, order: Order) -> Draws:
    at = step % TOGETHER * order.batch_size
    return drawn(recipe, order, step // TOGETHER).of(slice(at, at + order.batch_size))


def pictures(count: int = 200, height: int = 5, width: int = 6, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (count, height, width, channels), dtype=np.uint8)


def test_without_augmentation_nothing_changes() -> None:
    images = pictures()
    assert (changed(images.copy(), Recipe(), 0) == images).all()


def test_flip_mirrors_about_half_of_the_images_left_to_right() -> None:
    images = pictures()
    after = changed(images.copy(), Recipe(flip=True), 3)
    same = (after == images).all(axis=(1, 2, 3))
    mirrored = (after == images[:, :, ::-1]).all(axis=(1, 2, 3))
    assert (same ^ mirrored).all()
    assert 70 <= mirrored.sum() <= 130
    assert (changed(images.copy(), Recipe(flip=True), 3) == after).all()
    assert (changed(images.copy(), Recipe(flip=True), 4) != after).any()
    assert (changed(images.copy(), Recipe(flip=True, seed=1), 3) != after).any()


@pytest.mark.parametrize("border", ["black", "edge", "reflect"])
def test_shift_moves_every_image_by_whole_pixels(border: str) -> None:
    images = pictures()
    after = changed(images.copy(), Recipe(shift=2, border=border), 0)
    seen = set()
    for image, moved in zip(images, after, strict=True):
        matches = []
        for down in range(-2, 3):
            for across in range(-2, 3):
                wanted = np.zeros_like(image)
                for row in range(5):
                    for column in range(6):
                        wanted[row, column] = at(image, row + down, column + across, border)
                if (wanted == moved).all():
                    matches.append((down, across))
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 25


def at(image: np.ndarray, row: int, column: int, border: str) -> np.ndarray:
    """The pixel there, also outside, by the definition of each border."""
    height, width, _ = image.shape
    if border == "black" and not (0 <= row < height and 0 <= column < width):
        return np.zeros(3, np.uint8)
    if border == "reflect":
        row, column = abs(row), abs(column)
        row, column = min(row, 2 * (height - 1) - row), min(column, 2 * (width - 1) - column)
    return image[min(max(row, 0), height - 1), min(max(column, 0), width - 1)]


def test_a_shift_wider_than_the_image_still_reflects() -> None:
    assert changed(pictures(3, 2, 2), Recipe(shift=5, border="reflect"), 0).shape == (3, 2, 2, 3)


def test_each_step_has_a_seed_of_its_own() -> None:
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(20)}
    assert len(seeds) == 400
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_each_image_is_mirrored_every_other_time() -> None:
    order = Order(20, 6, seed=3)
    seen: dict[int, list[bool]] = {image: [] for image in range(20)}
    for step in range(20):
        for image, mirrored in zip(order.batch(step).tolist(), order.mirrored(step).tolist(), strict=True):
            seen[image].append(mirrored)
    assert all(a != b for times in seen.values() for a, b in itertools.pairwise(times))
    assert 3 <= sum(times[0] for times in seen.values()) <= 17


def test_cutout_blanks_a_square_and_nothing_else() -> None:
    images = pictures(100, 12, 10)
    recipe = Recipe(cutout=4)
    after = changed_as_drawn(images.copy(), drawn_for(0, recipe, Order(100, 100, 0)), recipe, (0, 0, 0))
    blank = (after == 0).all(axis=3)
    assert (after[~blank] == images[~blank]).all()
    for one in blank:
        rows, columns = np.flatnonzero(one.any(1)), np.flatnonzero(one.any(0))
        assert one.sum() == len(rows) * len(columns) <= 16
        assert min(len(rows), len(columns)) >= 2
    assert max(one.sum() for one in blank) == 16


def test_colour_changes_stay_within_their_share() -> None:
    grey = np.full((50, 6, 6, 3), 100, np.uint8)
    after = changed(grey.copy(), Recipe(colour=0.3), 0)
    # A flat grey has neither contrast nor saturation: only its brightness changes, by one factor for all pixels.
    assert (after == after[:, :1, :1, :1]).all()
    values = after[:, 0, 0, 0].astype(int)
    assert 70 <= values.min() < 85
    assert 115 < values.max() <= 130
    assert (changed(pictures(), Recipe(colour=0.0), 0) == pictures()).all()


@pytest.mark.parametrize("recipe", [Recipe(batch_size=10, mixup=0.4, flip=True, shift=1, cutout=2, colour=0.2)])
def test_the_parts_of_a_batch_are_the_batch(data: Data, recipe: Recipe) -> None:
    order = Order(len(data.train), recipe.batch_size, recipe.seed)
    whole = Feeder(data, recipe, order).batch(7)
    parts = [Feeder(data, recipe, order, Workers(rank, 3).part(10)).batch(7) for rank in range(3)]
    assert torch.equal(torch.cat([part.x for part in parts]), whole.x)
    assert np.array_equal(np.concatenate([part.y for part in parts]), whole.y)
    assert whole.other is not None
    assert np.array_equal(np.concatenate([part.other for part in parts if part.other is not None]), whole.other)


def test_mixup_mixes_pairs_of_the_batch(data: Data) -> None:
    recipe = Recipe(batch_size=10, mixup=0.4)
    order = Order(len(data.train), 10, recipe.seed)
    plain, mixed = Feeder(data, Recipe(batch_size=10), order).batch(3), Feeder(data, recipe, order).batch(3)
    partner = torch.from_numpy(drawn_for(3, recipe, order).partner)
    assert np.array_equal(mixed.y, plain.y)
    assert mixed.other is not None
    assert np.array_equal(mixed.other, plain.y[partner])
    wanted = mixed.share * plain.x + (1 - mixed.share) * plain.x[partner]
    assert torch.allclose(mixed.x, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("beside", [True, False])
def test_batches_are_those_of_their_steps_and_an_error_reaches_the_step(data: Data, beside: bool) -> None:
    recipe = Recipe(batch_size=20, epochs=2, shift=1)
    feeder = Feeder(data, recipe, Order(len(data.train), 20, 0), beside=beside)
    made = list(feeder.batches(2))
    assert len(made) == 4
    for step, batch in enumerate(made, 2):
        assert torch.equal(batch.x, feeder.batch(step).x)

    class Broken(Feeder):
        def batch(self, step: int) -> Batch:
            if step == 5:
                raise ZeroDivisionError
            return super().batch(step)

    broken = Broken(data, recipe, feeder.order, beside=beside).batches(4)
    assert torch.equal(next(broken).x, feeder.batch(4).x)
    with pytest.raises(ZeroDivisionError):
        next(broken)


@pytest.mark.parametrize(
    "recipe", [Recipe(batch_size=10), Recipe(batch_size=10, flip=True, shift=2, cutout=3, mixup=0.3)]
)
def test_batches_made_together_are_those_made_one_by_one(data: Data, recipe: Recipe, monkeypatch: Any) -> None:
    order, part = Order(len(data.train), 10, 0), slice(2, 9)
    together = Feeder(data, recipe, order, part)
    several = [together.batch(step) for step in range(3, 40)]
    monkeypatch.setattr(feeder_module, "_BYTES", 0)
    for step, batch in enumerate(several, 3):
        own = Feeder(data, recipe, order, part).batch(step)
        assert torch.equal(batch.x, own.x)
        assert np.array_equal(batch.y, own.y)
        assert batch.share == own.share


@pytest.mark.parametrize("border", ["black", "edge", "reflect"])
def test_one_border_for_all_images_gives_the_same_batches(data: Data, border: str, monkeypatch: Any) -> None:
    recipe, order = Recipe(shift=2, border=border, flip=True), Order(len(data.train), 16, 0)
    at_once = Feeder(data, recipe, order)
    monkeypatch.setattr(feeder_module, "_BORDERED", 0)
    each_time = Feeder(data, recipe, order)
    for step in (0, 5, 40):
        assert torch.equal(at_once.batch(step).x, each_time.batch(step).x)


def test_batches_are_made_beside_the_steps_only_where_a_core_is_free(data: Data, monkeypatch: Any) -> None:
    monkeypatch.setattr(feeder_module, "_cores", lambda: 4)
    for threads, beside in ((1, True), (3, True), (4, False), (8, False)):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        assert Feeder(data, Recipe(), Order(len(data.train), 20, 0)).beside is beside


def test_what_is_not_drawn_changes_nothing_that_is() -> None:
    order = Order(100, 20, 0)
    every = drawn(Recipe(mixup=0.3, colour=0.1, cutout=2), order, 7)
    for recipe in (Recipe(), Recipe(cutout=2), Recipe(colour=0.1)):
        some = drawn(recipe, order, 7)
        assert (some.shift == every.shift).all()
        assert not recipe.cutout or (some.cut == every.cut).all()
        assert not recipe.colour or (some.colour == every.colour).all()


def test_images_grow_to_their_full_size(data: Data) -> None:
    recipe = Recipe(batch_size=20, epochs=10, start_size=0.5)
    feeder = Feeder(data, recipe, Order(len(data.train), 20, 0))
    sizes = [tuple(feeder.batch(step).x.shape[2:]) for step in range(30)]
    assert sizes[0] == (4, 4)
    assert set(sizes[18:]) == {(8, 8)}
    assert sizes == sorted(sizes)
