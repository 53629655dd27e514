"""Class folders: found, decoded exactly, the unusable named."""

import os
from collections.abc import Callable
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from PIL import Image

from hapgop.errors import InputError
from hapgop.predict import Preprocessing
from hapgop.train import load
from hapgop.train.folder import listing

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


def test_heic_is_a_picture_that_cannot_be_read(pets: Path, paint: Paint) -> None:
    heic = b"\0\0\0\x18ftypheic" + bytes(40)
    (pets / "cat" / "IMG_1.HEIC").write_bytes(heic)
    # A name that says HEIC of what is none.
    paint(pets / "cat" / "other.png", 77).rename(pets / "cat" / "other.heif")
    data = load(pets)
    (skipped,) = data.skipped
    assert skipped.path == "cat/IMG_1.HEIC"
    assert skipped.reason == "not a picture that can be read; HEIC has to be converted to JPEG or PNG first."
    assert values(data.split("all"))["cat/other.heif"] == 77


def test_pictures_without_suffix_are_read(pets: Path) -> None:
    (pets / "cat" / "3.png").rename(pets / "cat" / "three")
    (pets / "cat" / "LICENSE").write_text("x")
    data = load(pets)
    assert values(data.split("all"))["cat/three"] == 3
    assert "Ignored 1 stray files (1 without suffix)." in data.passed_over


def trained(folder: Path, weights: str = "model.safetensors") -> None:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / weights).write_bytes(b"x")
    (folder / "report.html").write_text("x")


def test_the_runs_of_a_training_inside_the_data_are_no_class(pets: Path) -> None:
    trained(pets / "runs" / "pets")
    trained(pets / "runs" / "pets-2", "checkpoint.safetensors")
    (pets / "runs" / "notes.txt").write_text("the second was better")
    trained(pets / "best")
    trained(pets / "cat" / "runs" / "cat")
    data = load(pets)
    assert data.classes == ("cat", "dog")
    assert len(data.split("all")) == 20
    (note,) = [note for note in data.passed_over if "trained nets" in note]
    assert note == "Not read, as trained nets are kept there: best/, cat/runs/cat/, runs/."
    assert not any("html" in note for note in data.passed_over)


def test_a_class_may_be_called_runs(pets: Path, paint: Paint) -> None:
    paint(pets / "runs" / "0.png")
    trained(pets / "runs" / "pets")
    found = listing(pets)
    assert found.classes == ("cat", "dog", "runs")
    assert [file.path for file in found.files if file.label == 2] == ["runs/0.png"]


def test_runs_beside_given_splits_are_no_class_either(tmp_path: Path, paint: Paint) -> None:
    root = tmp_path / "d"
    for split in ("train", "test"):
        for name in ("a", "b"):
            paint(root / split / name / "0.png")
    trained(root / "runs" / "d")
    trained(root / "train" / "runs" / "train")
    trained(root / "test" / "runs" / "test")
    (root / "extra").mkdir()
    found = listing(root)
    assert found.classes == ("a", "b")
    assert found.notes() == [
        "Not read, as trained nets are kept there: runs/, test/runs/, train/runs/.",
        "Not read, as they are no split: extra/.",
    ]
    alone = tmp_path / "alone"
    paint(alone / "test" / "a" / "0.png")
    trained(alone / "runs" / "d")
    refused(alone, "no train/ folder beside test/")
    assert [file.split for file in listing(alone, to_learn=False).files] == ["test"]


def test_where_there_are_only_runs_words_say_so(tmp_path: Path) -> None:
    trained(tmp_path / "d" / "runs" / "d")
    refused(tmp_path / "d", "no folders but runs/, where trained nets are kept. Wanted is one folder of pictures")
    refused(tmp_path / "d" / "runs", "no folders but d/, where")
    (tmp_path / "d" / "runs" / "d" / "tensorboard").mkdir()
    refused(tmp_path / "d" / "runs" / "d", "a run, where a trained net is kept, and no data")


def test_class_names_are_composed_and_files_open_all_the_same(tmp_path: Path, paint: Paint) -> None:
    apart = normalize("NFD", "café")
    assert apart != "café"
    for number in range(3):
        paint(tmp_path / "d" / apart / f"{number}.png", number)
        paint(tmp_path / "d" / "bar" / f"{number}.png", 100)
    data = load(tmp_path / "d")
    assert data.classes == ("bar", "café")
    assert values(data.split("all"))[f"{apart}/2.png"] == 2
    for split in ("train", "test"):
        for name in ("bar", "café" if split == "train" else apart):
            for number in range(3):
                paint(tmp_path / "e" / split / name / f"{number}.png")
    assert load(tmp_path / "e").classes == ("bar", "café")
    paint(tmp_path / "d" / "café" / "0.png")
    if len(list((tmp_path / "d").iterdir())) == 3:
        refused(tmp_path / "d", "two folders are called 'café'; they differ only in how Unicode writes it")


def test_one_class_of_a_name_taken_apart_is_refused_as_others_are(tmp_path: Path, paint: Paint) -> None:
    for name in ("a", "b"):
        paint(tmp_path / "d" / normalize("NFD", "café") / name / "0.png")
    refused(tmp_path / "d", "only one class, 'café'.*Give .* if that holds the class folders")


def test_to_judge_by_any_picture_will_do(tmp_path: Path, paint: Paint) -> None:
    paint(tmp_path / "one" / "dog" / "0.png")
    (tmp_path / "one" / "empty").mkdir()
    found = listing(tmp_path / "one", to_learn=False)
    assert (found.classes, len(found.files)) == (("dog",), 1)
    paint(tmp_path / "two" / "train" / "b" / "0.png")
    paint(tmp_path / "two" / "test" / "a" / "0.png")
    found = listing(tmp_path / "two", to_learn=False)
    assert found.classes == ("a", "b")
    assert [(file.split, file.label) for file in found.files] == [("test", 0), ("train", 1)]
    # A class that is called as a split is.
    paint(tmp_path / "three" / "test" / "0.png")
    assert listing(tmp_path / "three", to_learn=False).classes == ("test",)
    (tmp_path / "four" / "a").mkdir(parents=True)
    with pytest.raises(InputError, match="no pictures in 'a'"):
        listing(tmp_path / "four", to_learn=False)


def test_pages_and_frames_that_are_not_used_are_told(pets: Path, paint: Paint) -> None:
    frames = [Image.new("L", (8, 6), value) for value in (200, 210, 220)]
    for name in ("a.gif", "b.tif", "c.png", "d.webp"):
        frames[0].save(pets / "cat" / name, save_all=True, append_images=frames[1:], lossless=True)
    frames[0].save(pets / "cat" / "preview.jpg", "MPO", save_all=True, append_images=frames[1:])
    frames[0].save(pets / "cat" / "one.tif", save_all=True)
    for data in (load(pets), load(pets)):
        assert data.passed_over == ("4 pictures have several pages or frames: the first is used, the others are not.",)
    assert values(data.split("all"))["cat/b.tif"] == 200
