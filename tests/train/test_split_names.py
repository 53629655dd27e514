"""Splits are known however their folders are spelt, and classes that are called like them stay classes."""

from collections.abc import Callable
from pathlib import Path

import pytest

from hapgop.errors import InputError
from hapgop.train import load
from hapgop.train.folder import listing

Paint = Callable[..., Path]


@pytest.mark.parametrize(
    ("train", "other", "split"),
    [
        ("training_set", "test_set", "test"),
        ("train_set", "test_data", "test"),
        ("trainset", "testset", "test"),
        ("seg_train", "seg_test", "test"),
        ("train_images", "test-imgs", "test"),
        ("Dataset Train", "Dataset Validation", "validation"),
        ("train2017", "val2017", "validation"),
        ("train", "valid_images", "validation"),
    ],
)
def test_splits_are_known_however_they_are_spelt(
    tmp_path: Path, paint: Paint, train: str, other: str, split: str
) -> None:
    for folder in (train, other):
        for name in ("cats", "dogs"):
            paint(tmp_path / "d" / folder / name / "0.png")
    found = listing(tmp_path / "d")
    assert found.classes == ("cats", "dogs")
    assert {file.path.split("/")[0]: file.split for file in found.files} == {train: "train", other: split}
    assert (found.unread, found.doubts) == ((), ())


@pytest.mark.parametrize(
    "names", [("test1", "test2"), ("bus", "train_set"), ("data", "images"), ("contest", "validity"), ("test_set", "x")]
)
def test_classes_that_are_called_like_splits_stay_classes(tmp_path: Path, paint: Paint, names: tuple[str, ...]) -> None:
    for name in names:
        paint(tmp_path / "d" / name / "0.png")
    assert listing(tmp_path / "d").classes == names


def test_a_split_is_one_folder_and_the_plain_name_wins(tmp_path: Path, paint: Paint) -> None:
    for folder in ("train_set", "train_data"):
        for name in ("a", "b"):
            paint(tmp_path / "d" / folder / name / "0.png")
    with pytest.raises(InputError, match=r"train_data and .*train_set could both be the train split"):
        listing(tmp_path / "d")
    (tmp_path / "d" / "train_set").rename(tmp_path / "d" / "train")
    found = listing(tmp_path / "d")
    assert {file.path.split("/")[0] for file in found.files} == {"train"}
    assert found.unread == ("train_data",)


def test_splits_without_class_folders_are_no_classes(tmp_path: Path, paint: Paint) -> None:
    for folder in ("train_images", "test_images"):
        paint(tmp_path / "d" / folder / "0.png")
    with pytest.raises(InputError, match="train_images holds no class folders"):
        listing(tmp_path / "d")


def test_classes_that_hold_the_same_folders_are_doubted(tmp_path: Path, paint: Paint) -> None:
    root = tmp_path / "d"
    for folder in ("dev", "fold"):
        for name in ("cats", "dogs"):
            for number in range(3):
                paint(root / folder / name / f"{number}.png")
    data = load(root)
    assert data.classes == ("dev", "fold")
    assert data.notes[0] == (
        "dev/ and fold/ hold the same folders (cats, dogs), and each counts as one class. If they are splits, call them"
        " train/ and test/."
    )
    # A class has pictures of its own, or folders of its own.
    beside = paint(root / "fold" / "0.png")
    assert listing(root).doubts == ()
    beside.unlink()
    assert listing(root).doubts
    paint(root / "fold" / "birds" / "0.png")
    assert listing(root).doubts == ()


def test_what_lies_in_splits_is_not_doubted(tmp_path: Path, paint: Paint) -> None:
    for name in ("cat", "dog"):
        for side in ("front", "back"):
            paint(tmp_path / "d" / "train" / name / side / "0.png")
    assert listing(tmp_path / "d").doubts == ()
