"""What is measured of a picture is what becomes of it, and costs no look at its pixels."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from hapgop.predict import open_image
from hapgop.train import worker

ORIENTATION = 0x0112


def turned(path: Path, orientation: int) -> Path:
    """A picture of 8 by 6 pixels that is to be turned so; 1 is upright, and not said."""
    picture = Image.new("L", (8, 6), 100)
    exif = picture.getexif()
    exif[ORIENTATION] = orientation
    picture.save(path, **({} if orientation == 1 else {"exif": exif}))
    return path


def measured(path: Path) -> Any:
    ((answer,),) = worker.answers({"kind": "measure", "items": [(0, str(path))]})
    return answer[1]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["tif", "png", "jpg"])
def test_pictures_are_measured_upright(tmp_path: Path, suffix: str, orientation: int) -> None:
    path = turned(tmp_path / f"a.{suffix}", orientation)
    upright = open_image(path)
    assert upright.size == ((8, 6) if orientation < 5 else (6, 8))
    assert measured(path) == [upright.height, upright.width, "L", False]


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_png_is_measured_by_what_stands_before_its_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    path = turned(tmp_path / "a.png", orientation)

    def load(image: Image.Image) -> None:
        raise AssertionError("the pixels were decoded")

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", load)
    assert measured(path)[:2] == ([6, 8] if orientation == 1 else [8, 6])
