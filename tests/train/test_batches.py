"""Batches and augmentation: repeatable, complete, and exactly what they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hapgop.train import Recipe
from hapgop.train.augment import changed as changed_as_drawn
from hapgop.train.augment import drawn
from hapgop.train.batches import Order, step_seed


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
    return changed_as_drawn(images, drawn(recipe, Order(len(images), len(images), recipe.seed), step), recipe)


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
