"""One door to every kind of data."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from hapgop.errors import InputError
from hapgop.predict import Preprocessing
from hapgop.train import arrays
from hapgop.train.cache import decoded
from hapgop.train.data import VALIDATION_SHARE, Data, Skipped, Split, assembled
from hapgop.train.folder import listing
from hapgop.train.progress import Progress, silent

_WORK = "digits, a folder of class folders, a folder of IDX files, or an .npz file"


def load(
    source: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    seed: int = 0,
    validation: float = VALIDATION_SHARE,
    progress: Progress = silent,
) -> Data:
    """Labelled images in three splits.

    source: "digits" (scikit-learn's, 8x8 grey); a folder with a folder of pictures for each class, or with
    train/ and perhaps val/ and test/ that hold such; a folder of IDX files as MNIST's; an .npz file with x, y or
    x_train, y_train, x_test, y_test. All images become uint8 (h, w, c) of one size.

    size: a side or (height, width); None keeps what the images have, or finds a sensible one. channels: 1 or 3,
    None as the images are. resize: "stretch" or "crop", where the sides' ratio differs. seed: what missing splits
    are drawn with: a fifth of each class for testing where there is nothing but training images, and of what is left
    a share of each class, `validation`, where there is no validation split. A picture folder is decoded once, into a
    cache; unreadable files are skipped and named. Raises InputError on whatever else is no usable data.

    >>> data = load("digits")
    >>> data.input_shape, len(data.train), len(data.validation), len(data.test)
    ((1, 8, 8), 1293, 145, 359)
    """
    sides = _sides(size)
    if channels not in (None, 1, 3):
        raise InputError(f"channels is 1 (grey) or 3 (RGB), not {channels!r}.")
    if resize not in ("stretch", "crop"):
        raise InputError(f"resize is stretch or crop, not {resize!r}.")
    if not 0 < validation < 1:
        raise InputError(f"validation is a share of the training images, above 0 and below 1, not {validation!r}.")
    if source == "digits":
        kind, (classes, splits) = "digits", arrays.digits()
        name = "digits"
    else:
        path = _existing(Path(source).expanduser())
        name = str(path)
        if path.is_dir() and not arrays.is_idx(path):
            return _folder(path, sides, channels, resize, seed, validation, progress)
        if path.is_dir():
            kind, (classes, splits) = "idx", arrays.idx(path)
        elif path.suffix.lower() == ".npz":
            kind, (classes, splits) = "npz", arrays.npz(path)
        else:
            hint = " Unpack it first." if path.suffix.lower() in (".zip", ".tar", ".gz", ".xz", ".7z") else ""
            raise InputError(f"{path}: this file is no data set.{hint} What works: {_WORK}.")
    notes: list[str] = []
    splits = _refitted(splits, sides, channels, resize, notes)
    return assembled(name, kind, classes, splits, resize=resize, notes=notes, seed=seed, validation=validation)


def loaded_as(config: Mapping[str, Any], rules: Preprocessing) -> dict[str, Any]:
    """The arguments with which `load` makes the images and the splits of a run again, by its config.json.

    What was held back in the training is held back then, and no image that the net has seen comes into a test.
    """
    told = config.get("data")
    told = told if isinstance(told, Mapping) else {}
    return {
        "size": rules.size,
        "channels": rules.channels,
        "resize": rules.resize,
        "seed": told.get("seed", 0),
        "validation": told.get("validation_share", VALIDATION_SHARE),
    }


def _folder(
    root: Path,
    sides: tuple[int, int] | None,
    channels: int | None,
    resize: str,
    seed: int,
    validation: float,
    progress: Progress,
) -> Data:
    found = listing(root)
    pictures = decoded(found, size=sides, channels=channels, resize=resize, progress=progress)
    skipped = [Skipped(found.files[number].path, reason) for number, reason in sorted(pictures.unreadable.items())]
    passed_over = found.notes()
    if skipped:
        words = f"Skipped {len(skipped):,} of {len(found.files):,} files that cannot be read: {_named(skipped)}."
        passed_over.append(words)
    notes = _size_note(pictures.sizes, pictures.pixels.shape[1:3])
    rows: dict[str, list[int]] = {}
    for number, file in enumerate(found.files):
        if number not in pictures.unreadable:
            rows.setdefault(file.split, []).append(number)
    splits = {"train": Split(pictures.pixels, np.zeros(0, np.int64), np.zeros(0, np.int64), ())}
    for name, numbers in rows.items():
        labels = np.array([found.files[number].label for number in numbers])
        names = tuple(found.files[number].path for number in numbers)
        splits[name] = Split(pictures.pixels, np.array(numbers), labels, names)
    return assembled(
        str(found.root),
        "folder",
        found.classes,
        splits,
        resize=resize,
        skipped=skipped,
        notes=notes,
        seed=seed,
        validation=validation,
        passed_over=passed_over,
        modes=pictures.modes,
    )


def _existing(path: Path) -> Path:
    if path.exists():
        return Path(os.path.abspath(path))
    parent = Path(os.path.abspath(path)).parent
    there = parent
    while not there.is_dir():
        there = there.parent
    missing = "" if there == parent else f" {there} exists, but not what comes after it."
    raise InputError(f"{path}: there is no such folder or file.{missing} What works: {_WORK}.")


def _sides(size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if size is None:
        return None
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= 4096 for side in sides):
        raise InputError(f"size is a number of pixels or (height, width), each from 1 to 4096, not {size!r}.")
    return sides[0], sides[1]


def _refitted(
    splits: dict[str, Split],
    sides: tuple[int, int] | None,
    channels: int | None,
    resize: str,
    notes: list[str],
) -> dict[str, Split]:
    height, width, depth = splits["train"].pixels.shape[1:]
    sides, channels = sides or (height, width), channels or depth
    if (sides, channels) == ((height, width), depth):
        return splits
    notes.append(f"All images were {height}x{width}x{depth} and became {sides[0]}x{sides[1]}x{channels}.")
    rules = Preprocessing(sides, channels, (0.5,) * channels, (0.5,) * channels, resize)
    fitted = {}
    for name, split in splits.items():
        pixels = np.stack([rules.pixels(split.image(position)) for position in range(len(split))])
        fitted[name] = Split(pixels, np.arange(len(split)), split.labels, split.names)
    return fitted


def _named(skipped: list[Skipped]) -> str:
    listed = "; ".join(f"{file.path} ({file.reason.rstrip('.')})" for file in skipped[:5])
    return listed + (f"; and {len(skipped) - 5:,} more" if len(skipped) > 5 else "")


def _size_note(sizes: Counter[tuple[int, int]], became: tuple[int, ...]) -> list[str]:
    if set(sizes) <= {tuple(became)}:
        return []
    most = sizes.most_common(3)
    listed = ", ".join(f"{count:,} of {height}x{width}" for (height, width), count in most)
    others = sizes.total() - sum(count for _, count in most)
    more = f", {others:,} of {len(sizes) - len(most):,} other sizes" if others else ""
    return [f"Pictures differ from the size wanted ({listed}{more}): all became {became[0]}x{became[1]}."]
