"""What is found wrong in data: planted faults are named, and nothing else is."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hapgop.train import Data, Finding, load, scan
from hapgop.train.duplicates import duplicates


def photograph(seed: int, side: int = 48) -> np.ndarray:
    """Smooth coloured blobs, as far apart as photographs are."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Two splits of two classes with thirty different photographs each."""
    number = 0
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for position in range(30):
                Image.fromarray(photograph(number)).save(folder / f"{position:02}.png")
                number += 1
    return tmp_path / "photographs"


def found(root: Path) -> dict[str, Finding]:
    return {finding.what: finding for finding in scan(load(root))}


def test_sound_data_have_no_findings(photographs: Path, data: Data) -> None:
    assert found(photographs) == {}
    assert scan(dataclasses.replace(data, train=data.split("all"), validation=data.validation, test=None)) != []


def test_every_planted_fault_is_named(photographs: Path) -> None:
    train, test = photographs / "train", photographs / "test"
    Image.open(train / "cat" / "03.png").save(test / "cat" / "copied.png")
    # As a website keeps it: another size and another format.
    Image.open(train / "dog" / "04.png").resize((60, 60)).save(test / "dog" / "resized.jpg", quality=85)
    Image.open(train / "cat" / "05.png").save(train / "dog" / "mislabelled.png")
    Image.open(train / "dog" / "06.png").save(train / "dog" / "twice.png")
    Image.open(train / "dog" / "07.png").convert("L").save(train / "dog" / "07.png")
    Image.open(train / "cat" / "08.png").convert("L").convert("RGB").save(test / "cat" / "grey.png")
    (train / "cat" / "text.png").write_text("no picture")
    (train / "cat" / "notes.txt").write_text("stray")
    few = train / "few"
    few.mkdir()
    for position in range(2):
        Image.fromarray(photograph(1000 + position)).save(few / f"{position}.png")
    rows = found(photographs)
    assert "train/cat/03.png = test/cat/copied.png" in rows["the same image in two splits"].examples
    near = rows.pop("nearly the same image in two splits")
    assert near.count == 2
    assert "train/dog/04.png = test/dog/resized.jpg" in near.examples
    assert "train/cat/08.png = test/cat/grey.png" in near.examples
    assert "train/cat/05.png (cat) = train/dog/mislabelled.png (dog)" in rows["the same image in two classes"].examples
    assert "train/dog/06.png = train/dog/twice.png" in rows["the same image twice in a split"].examples
    assert rows["other channels"].examples == "1 grey"
    assert "train/cat/text.png" in rows["unreadable files"].examples
    assert "1 .txt" in rows["passed over"].examples
    assert "few (" in rows["classes with fewer than 20 images"].examples
    assert "few" in rows["unbalanced classes"].examples
    assert all(rows[what].count == 1 for what in rows), rows
    assert len(rows) == 8


@pytest.mark.parametrize(
    ("copy", "what", "done"),
    [
        ("cat/copy.jpg", "nearly the same image in two classes", "look whether one label is wrong"),
        ("dog/copy.jpg", "nearly the same image twice in a split", "counts nearly twice"),
    ],
)
def test_an_image_that_is_nearly_another_is_not_called_the_same(
    photographs: Path, copy: str, what: str, done: str
) -> None:
    # Splits of their own all: none is drawn, so that the two stay in one.
    for number, name in enumerate(("cat", "dog")):
        (photographs / "val" / name).mkdir(parents=True)
        Image.fromarray(photograph(2000 + number)).save(photographs / "val" / name / "0.png")
    train = photographs / "train"
    Image.open(train / "dog" / "04.png").resize((60, 60)).save(train / copy, quality=85)
    rows = found(photographs)
    assert list(rows) == [what]
    assert (rows[what].count, rows[what].done) == (1, done)
    assert "train/dog/04.png" in rows[what].examples


def test_blank_pictures_are_alike_only_where_they_are_the_same(pets: Path, paint: Callable[..., Path]) -> None:
    assert duplicates(load(pets)) == []
    paint(pets / "cat" / "again.png", 3)
    (pair,) = duplicates(load(pets))
    assert set(pair.names) == {"cat/3.png", "cat/again.png"}
    assert pair.exact


def deep(root: Path, brightest: int) -> Path:
    """Two classes of 16-bit grey whose values end at `brightest`."""
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for position in range(30):
            pixels = generator.integers(0, brightest + 1, (8, 8), dtype=np.uint16)
            pixels[0, 0] = brightest
            Image.fromarray(pixels).save(root / name / f"{position:02}.png")
    return root


def test_deep_grey_that_leaves_most_of_its_range_is_told(tmp_path: Path) -> None:
    rows = found(deep(tmp_path / "d", 4095))
    row = rows["deep grey using only 12 of 16 bits"]
    assert row.count == 60
    assert row.examples == "hardly a value is above 4,095, and white is 65,535: times 16, all is used"
    assert rows["other channels"].examples == "60 deep grey"
    # One picture that goes further says that white is as the others have it.
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(tmp_path / "d" / "cat" / "bright.png")
    assert not any("bits" in what for what in found(tmp_path / "d"))


def test_deep_grey_among_other_pictures_is_told_too(tmp_path: Path) -> None:
    root = deep(tmp_path / "d", 1023)
    for name in ("cat", "dog"):
        Image.new("L", (8, 8), 200).save(root / name / "8.png")
    assert found(root)["deep grey using only 10 of 16 bits"].count == 60
    assert not any("bits" in what for what in found(deep(tmp_path / "e", 2**15 - 1)))


def test_what_a_tiff_says_of_its_white_is_followed(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        (tmp_path / "d" / name).mkdir(parents=True)
        for position in range(30):
            pixels = np.full((8, 8), 64 * position, np.uint16)
            Image.fromarray(pixels).save(tmp_path / "d" / name / f"{position:02}.tif", tiffinfo={281: 4095})
    data = load(tmp_path / "d")
    together = data.split("all")
    assert together.image(together.names.index("cat/20.tif"))[0, 0, 0] == round(1280 * 255 / 4095)
    assert not any("bits" in what for what in found(tmp_path / "d"))
