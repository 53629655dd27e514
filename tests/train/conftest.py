"""Tiny data for the tests of training."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hapgop.train import Data, Split

Paint = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own; nothing of the user's is touched."""
    home = tmp_path / "cache"
    monkeypatch.setenv("HAPGOP_CACHE", str(home))
    return home / "images"


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Nets so small gain nothing from threads, and lose much where other tests run beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def paint() -> Paint:
    """Writes a picture of one colour."""

    def paint(path: Path, colour: object = 100, size: tuple[int, int] = (8, 6), mode: str = "L") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, size, colour).save(path)
        return path

    return paint


@pytest.fixture
def pets(tmp_path: Path, paint: Paint) -> Path:
    """cat/ and dog/ with ten pictures each; picture i of cat has the grey value i, of dog 100 + i."""
    root = tmp_path / "pets"
    for number in range(10):
        paint(root / "cat" / f"{number}.png", number)
        paint(root / "dog" / f"{number}.png", 100 + number)
    return root


def stripes(count: int, classes: int = 3, side: int = 8, channels: int = 1, seed: int = 0) -> Split:
    """Noisy images with a bright row whose place is the label: easy to learn."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    pixels = generator.integers(0, 120, (count, side, side, channels), dtype=np.uint8)
    pixels[np.arange(count), 2 * labels + 1] += 100
    return Split(pixels, np.arange(count), labels, tuple(f"stripes[{number}]" for number in range(count)))


@pytest.fixture
def data() -> Data:
    """Sixty training, twelve validation and thirty test images of three classes."""
    return Data(
        source="stripes",
        kind="npz",
        classes=("high", "middle", "low"),
        train=stripes(60, seed=1),
        validation=stripes(12, seed=2),
        test=stripes(30, seed=3),
    )


@pytest.fixture
def net() -> Callable[[], torch.nn.Module]:
    """A small net with everything that has a state of its own: batch norm, dropout."""

    def build(classes: int = 3) -> torch.nn.Module:
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return torch.nn.Sequential(
                torch.nn.Conv2d(1, 4, 3, padding=1),
                torch.nn.BatchNorm2d(4),
                torch.nn.ReLU(),
                torch.nn.MaxPool2d(2),
                torch.nn.Flatten(),
                torch.nn.Dropout(0.2),
                torch.nn.Linear(64, classes),
            )

    return build
