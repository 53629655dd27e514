"""Class folders: found, decoded exactly, the unusable named."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hapgop.errors import InputError
from hapgop.predict import Preprocessing
from hapgop.train import load

Paint = Callable[..., Path]


def values(split: object) -> dict[str, int]:
    """The first pixel of each picture by name."""
    return {name: int(split.image(i)[0, 0, 0]) for i, name in enumerate(split.names)}  # type: ignore[attr-defined]


def test_class_folders_are_read_exactly_and_cut_in_three(pets: Path) -> None:
    data = load(pets)
    assert data.classes == ("cat", "dog")
    assert data.input_shape == (1, 6, 8)
    assert data.test is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (14, 2, 4)
    together = data.split("all")
    wanted = {f"cat/{i}.png": i for i in range(10)} | {f"dog/{i}.png": 100 + i for i in range(10)}
    assert values(together) == wanted
    for name, label in zip(together.names, together.labels, strict=True):
        assert name.startswith(data.classes[label])


def test_given_splits_are_kept(tmp_path: Path, paint: Paint) -> None:
    for split, count in (("Train", 5), ("val", 2), ("test", 3)):
        for name in ("b", "a"):
            for number in range(count):
                paint(tmp_path / "d" / split / name / f"{number}.png")
    paint(tmp_path / "d" / "extra" / "a" / "x.png")
    data = load(tmp_path / "d")
    assert data.classes == ("a", "b")
    assert data.test is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 4, 6)
    assert all(name.startswith("test/") for name in data.test.names)
    assert any("extra/" in note for note in data.passed_over)


def test_without_a_test_split_but_with_validation_there_is_none(tmp_path: Path, paint: Paint) -> None:
    for split in ("train", "valid"):
        for name in ("a", "b"):
            paint(tmp_path / "d" / split / name / "0.png")
    data = load(tmp_path / "d")
    assert data.test is None
    assert data.unseen == "validation"
    with pytest.raises(InputError, match="no test split"):
        data.split("test")


def test_a_class_may_be_called_train(tmp_path: Path, paint: Paint) -> None:
    for name in ("bus", "train"):
        for number in range(3):
            paint(tmp_path / "d" / name / f"{number}.png")
    assert load(tmp_path / "d").classes == ("bus", "train")


def test_hidden_and_stray_files_are_ignored_and_counted(pets: Path, paint: Paint) -> None:
    (pets / ".DS_Store").write_bytes(b"x")
    (pets / "cat" / ".hidden.png").write_bytes(b"x")
    (pets / "cat" / "notes.txt").write_text("x")
    (pets / "README").write_text("x")
    paint(pets / "cat" / "more" / "deep.png", 77)
    data = load(pets)
    assert data.skipped == ()
    assert values(data.split("all"))["cat/more/deep.png"] == 77
    assert "Ignored 2 hidden files and folders." in data.passed_over
    assert any(note.startswith("Ignored 2 stray files") and "1 .txt" in note for note in data.passed_over)


def test_unreadable_pictures_are_skipped_named_and_counted(pets: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(pets / "cat" / "cut.jpg")
    whole = (pets / "cat" / "cut.jpg").read_bytes()
    (pets / "cat" / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (pets / "dog" / "text.png").write_text("not a picture at all")
    (pets / "dog" / "empty.png").write_bytes(b"")
    os.symlink(pets / "nowhere.png", pets / "dog" / "link.png")
    data = load(pets, size=(6, 8))
    assert [file.path for file in data.skipped] == ["cat/cut.jpg", "dog/empty.png", "dog/link.png", "dog/text.png"]
    reasons = {file.path: file.reason for file in data.skipped}
    assert "text" in reasons["dog/text.png"]
    assert "empty" in reasons["dog/empty.png"]
    assert len(data.split("all")) == 20
    assert "cat/cut.jpg" not in data.split("all").names
    (note,) = [note for note in data.passed_over if note.startswith("Skipped 4 of 24")]
    assert "cat/cut.jpg" in note


def test_the_second_start_tells_of_unreadable_pictures_too(pets: Path) -> None:
    (pets / "dog" / "text.png").write_text("not a picture at all")
    first, second = load(pets), load(pets)
    assert first.skipped == second.skipped != ()
    assert (first.notes, first.passed_over) == (second.notes, second.passed_over)


def test_deep_grey_cmyk_palette_and_rotated_pictures_work(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        Image.fromarray(np.full((6, 8), 257 * 50, np.uint16)).save(root / name / "deep.png")
        Image.new("CMYK", (8, 6), (0, 0, 0, 255 - 50)).save(root / name / "cmyk.jpg", quality=100)
        Image.new("RGB", (8, 6), (50, 50, 50)).quantize().save(root / name / "palette.png")
        turned = Image.new("RGB", (6, 8), (50, 50, 50))
        exif = turned.getexif()
        exif[0x0112] = 6
        turned.save(root / name / "turned.jpg", exif=exif, quality=100)
    data = load(root)
    assert data.skipped == ()
    assert data.input_shape == (3, 6, 8)
    assert not any("differ" in note for note in data.notes)
    together = data.split("all")
    assert abs(together.batch(slice(None)).astype(int) - 50).max() <= 2


def test_pictures_of_many_sizes_become_one_as_prediction_makes_them(tmp_path: Path) -> None:
    root = tmp_path / "d"
    generator = np.random.default_rng(0)
    for name in ("a", "b"):
        (root / name).mkdir(parents=True)
        for number, (h, w) in enumerate([(40, 60), (40, 60), (33, 50), (80, 37)]):
            pixels = generator.integers(0, 256, (h, w, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    data = load(root)
    assert data.input_shape == (3, 40, 40)
    (note,) = [note for note in data.notes if "differ" in note]
    assert "4 of 40x60" in note
    assert "40x40" in note
    together = data.split("all")
    for position, name in enumerate(together.names):
        assert (together.image(position) == data.preprocessing.pixels(root / name)).all()
    chosen = load(root, size=16, resize="crop")
    rules = Preprocessing((16, 16), resize="crop")
    assert chosen.preprocessing.resize == "crop"
    assert (chosen.train.image(0) == rules.pixels(root / chosen.train.names[0])).all()


def refused(root: Path, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load(root)


def test_folders_that_hold_no_task_are_refused_with_words(tmp_path: Path, pets: Path, paint: Paint) -> None:
    refused(tmp_path / "a" / "b", "no such folder")
    (tmp_path / "bare").mkdir()
    refused(tmp_path / "bare", "bare: no folders")
    (pets / "fish").mkdir()
    refused(pets, "class 'fish' has no pictures")
    (pets / "fish" / "text.png").write_text("x" * 99)
    refused(pets, "no readable training image for class 'fish'")
    refused(paint(tmp_path / "one" / "0.png").parent, "1 pictures, but no folders")
    paint(tmp_path / "single" / "cat" / "0.png")
    refused(tmp_path / "single", "only one class, 'cat'")
    refused(paint(tmp_path / "x.png"), "no data set")
    (tmp_path / "x.zip").write_bytes(b"")
    refused(tmp_path / "x.zip", "Unpack it")


def test_a_folder_one_level_too_high_is_recognised(tmp_path: Path, pets: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    pets.rename(home / "pets")
    refused(home, "Give .*home/pets if that holds the class folders")


def test_splits_that_do_not_fit_each_other_are_refused(tmp_path: Path, paint: Paint) -> None:
    root = tmp_path / "d"
    for name in ("a", "b"):
        paint(root / "train" / name / "0.png")
    paint(root / "test" / "c" / "0.png")
    refused(root, "class 'c' has no folder in")
    paint(tmp_path / "e" / "train" / "0.png")
    paint(tmp_path / "e" / "test" / "0.png")
    refused(tmp_path / "e", "no class folders")
    paint(tmp_path / "f" / "val" / "a" / "0.png")
    paint(tmp_path / "f" / "test" / "a" / "0.png")
    refused(tmp_path / "f", "no train/ folder")


def test_too_few_images_to_validate_are_refused(tmp_path: Path, paint: Paint) -> None:
    for name in ("a", "b"):
        paint(tmp_path / "d" / name / "0.png")
    refused(tmp_path / "d", "at least three")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs links and pipes")
def test_links_to_themselves_and_pipes_hold_nobody_up(pets: Path) -> None:
    (pets / "loop").symlink_to("loop")
    (pets / "cat" / "loop.png").symlink_to("loop.png")
    os.mkfifo(pets / "cat" / "pipe.png")
    data = load(pets)
    assert data.classes == ("cat", "dog")
    assert len(data.split("all")) == 20
    assert any("2 stray files" in note for note in data.passed_over)
    assert any("cat/loop.png" in str(one) for one in data.skipped)
