"""What is held back: drawn by names, so that it stays where images come and go."""

from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hapgop.errors import InputError
from hapgop.train import Data, Split, load
from hapgop.train.data import held_back

Paint = Callable[..., Path]


def named(names: list[str], labels: list[int]) -> Split:
    return Split(np.zeros((len(names), 1, 1, 1), np.uint8), np.arange(len(names)), np.array(labels), tuple(names))


def parts(data: Data) -> dict[str, str]:
    return {name: part for part in data.splits for name in data.split(part).names}


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.floats(0.01, 0.99), st.integers(0, 9))
def test_each_class_gives_its_share_whatever_the_order(labels: list[int], share: float, seed: int) -> None:
    split = named([f"{number}.png" for number in range(len(labels))], labels)
    kept, off = held_back(split, share, seed)
    assert sorted(kept.names + off.names) == sorted(split.names)
    for label in set(labels):
        had, gave = labels.count(label), int((off.labels == label).sum())
        assert gave == min(max(1, int(share * had + 0.5)), had - 1)
    turned = split.select(np.arange(len(labels))[::-1])
    assert set(held_back(turned, share, seed)[1].names) == set(off.names)


@given(st.integers(4, 40), st.integers(0, 9))
def test_one_image_more_moves_at_most_one_other(count: int, seed: int) -> None:
    names = [f"{number}.png" for number in range(count)]
    before = held_back(named(names, [0] * count), 0.2, seed)[1].names
    after = held_back(named(["new.png", *names], [0] * (count + 1)), 0.2, seed)[1].names
    # Where it comes in, it puts one out; where the share grows, one is added. Never both.
    assert len(set(before) - set(after)) + len(set(after) - set(before) - {"new.png"}) <= 1


def test_seeds_draw_differently_and_evenly() -> None:
    split = named([f"digits[{number}]" for number in range(1000)], [0] * 1000)
    drawn = [set(held_back(split, 0.2, seed)[1].names) for seed in range(20)]
    # Two draws of a fifth share 40 of 200 images, give or take 5 (hypergeometric); 30 is six times that.
    assert all(10 < len(drawn[0] & other) < 70 for other in drawn[1:])
    assert drawn[0] == set(held_back(split, 0.2, 0)[1].names)


def test_a_picture_more_leaves_the_test_split_of_a_folder(pets: Path, paint: Paint) -> None:
    before = parts(load(pets))
    paint(pets / "cat" / "00.png")
    after = parts(load(pets))
    moved = [name for name, part in before.items() if after[name] != part]
    assert len(moved) <= 2
    (pets / "cat" / "00.png").unlink()
    assert parts(load(pets)) == before


def test_names_in_either_spelling_of_unicode_are_cut_alike() -> None:
    names = [f"한글 é {number}.png" for number in range(50)]
    one = held_back(named([normalize("NFC", name) for name in names], [0] * 50), 0.2, 0)[1]
    other = held_back(named([normalize("NFD", name) for name in names], [0] * 50), 0.2, 0)[1]
    assert one.rows.tolist() == other.rows.tolist()


def test_the_note_says_what_was_drawn(tmp_path: Path, paint: Paint) -> None:
    for name in ("a", "b"):
        for number in range(4):
            paint(tmp_path / "d" / name / f"{number}.png", number)
    first, second = load(tmp_path / "d").notes
    assert first == "The test split is 2 of the 8 training images, about 20% of each class, drawn with seed 0."
    assert second == "The validation split is 2 of the 6 training images, about 10% of each class, drawn with seed 0."
    for name in ("a", "b"):
        paint(tmp_path / "d" / name / "4.png", 4)
    assert "2 of the 10 training images, 20% of each class" in load(tmp_path / "d").notes[0]


def test_other_pictures_of_the_same_names_are_other_data(pets: Path, paint: Paint) -> None:
    first = load(pets)
    assert first.mark == load(pets, seed=3, size=4, channels=3).mark
    moved = pets.rename(pets.with_name("moved"))
    assert load(moved).mark == first.mark
    assert load(moved).fingerprint == first.fingerprint
    paint(moved / "dog" / "0.png", 17)
    other = load(moved)
    assert other.mark != first.mark
    assert other.fingerprint != first.fingerprint


def test_other_images_with_the_same_labels_are_other_data(tmp_path: Path) -> None:
    pixels, labels = np.zeros((40, 4, 4), np.uint8), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=pixels, y=labels)
    np.savez(tmp_path / "b.npz", x=pixels, y=labels)
    np.savez(tmp_path / "c.npz", x=pixels + np.uint8(1), y=labels)
    marks = [load(tmp_path / f"{name}.npz").mark for name in "abc"]
    assert marks[0] == marks[1] != marks[2]
    assert marks[0] == load(tmp_path / "a.npz", size=8).mark


def test_a_class_without_a_readable_picture_says_why(pets: Path) -> None:
    (pets / "fish").mkdir()
    for number in range(5):
        (pets / "fish" / f"{number}.png").write_text("Dear diary")
    (pets / "dog" / "empty.png").write_bytes(b"")
    with pytest.raises(InputError, match="no readable training image for class 'fish'") as caught:
        load(pets)
    said = str(caught.value)
    assert "Skipped were fish/0.png (not a picture" in said
    assert "fish/2.png" in said
    assert "and 2 more" in said
    assert "empty" not in said
