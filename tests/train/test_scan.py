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
    (train / "cat" / "text.png").write_text("no picture")
    (train / "cat" / "notes.txt").write_text("stray")
    few = train / "few"
    few.mkdir()
    for position in range(2):
        Image.fromarray(photograph(1000 + position)).save(few / f"{position}.png")
    rows = found(photographs)
    assert "train/cat/03.png = test/cat/copied.png" in rows["the same image in two splits"].examples
    assert "train/dog/04.png = test/dog/resized.jpg" in rows["nearly the same image in two splits"].examples
    assert "train/cat/05.png (cat) = train/dog/mislabelled.png (dog)" in rows["the same image in two classes"].examples
    assert "train/dog/06.png = train/dog/twice.png" in rows["the same image twice in a split"].examples
    assert rows["other channels"].examples == "1 grey"
    assert "train/cat/text.png" in rows["unreadable files"].examples
    assert "1 .txt" in rows["passed over"].examples
    assert "few (" in rows["classes with fewer than 20 images"].examples
    assert "few" in rows["unbalanced classes"].examples
    assert all(rows[what].count == 1 for what in rows), rows
    assert len(rows) == 9


def test_blank_pictures_are_alike_only_where_they_are_the_same(pets: Path, paint: Callable[..., Path]) -> None:
    assert duplicates(load(pets)) == []
    paint(pets / "cat" / "again.png", 3)
    (pair,) = duplicates(load(pets))
    assert set(pair.names) == {"cat/3.png", "cat/again.png"}
    assert pair.exact
