"""One door to every kind of data."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np

from hapgop.errors import InputError
from hapgop.predict import Predictor, Preprocessing
from hapgop.train import arrays
from hapgop.train.cache import decoded
from hapgop.train.data import SPLITS, VALIDATION_SHARE, Data, Skipped, Split, assembled, check_learnable, divided
from hapgop.train.folder import Listing, listing
from hapgop.train.progress import Progress, silent

_WORK = "digits, a folder of class folders, a folder of IDX files, or an .npz file"
# So many files, and so many bytes of each, or so many images of an array tell it from another with the same names.
_MARKED_FILES = 16
_MARKED_BYTES = 1 << 16
_MARKED_IMAGES = 1000


def load(
    source: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    seed: int = 0,
    validation: float = VALIDATION_SHARE,
    cut: bool = True,
    progress: Progress = silent,
) -> Data:
    """Labelled images in three splits.

    source: "digits" (scikit-learn's, 8x8 grey); a folder with a folder of pictures for each class, or with
    train/ and perhaps val/ and test/ that hold such; a folder of IDX files as MNIST's; an .npz file with x, y or
    x_train, y_train, x_test, y_test. All images become uint8 (h, w, c) of one size.

    size: a side or (height, width); None keeps what the images have, or finds a sensible one. channels: 1 or 3,
    None as the images are. resize: "stretch" or "crop", where the sides' ratio differs. seed: what missing splits
    are drawn with: a fifth of each class for testing where there is nothing but training images, and of what is left
    a share of each class, `validation`, where there is no validation split. An image's name decides by a hash, so
    that the splits stay where images come or go. A picture folder is decoded once, into a cache; unreadable files are
    skipped and named. Raises InputError on whatever else is no usable data.

    cut=False is for images that a net is only judged by (see `load_for`): nothing is drawn, and one class or one image
    will do.

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
    data = _found(source, sides, channels, resize, cut, progress)
    if not cut:
        return data
    check_learnable(data)
    return divided(data, seed, validation)


def load_for(predictor: Predictor, source: str | os.PathLike[str], *, progress: Progress = silent) -> Data:
    """The images that a trained net is to be judged by, as it reads them.

    Those that it was trained on, in the same place or moved, are split as they were then. Others keep the splits that
    they have and are cut into no more, so that all of them can judge. What is to be known about it is in the notes.

    >>> load_for(Predictor("runs/digits"), "digits").unseen  # doctest: +SKIP
    'test'
    """
    how = loaded_as(predictor.config, predictor.preprocessing)
    told = predictor.config.get("data", {})
    data = load(source, **how, cut=False, progress=progress)
    same = told.get("mark") == data.mark
    if same or (len(data.train) and _same_place(source, told.get("source"))):
        data = divided(data, how["seed"], how["validation"])
        note = "" if same else _changed_note(data, told)
    else:
        other = f", which was trained on {told['source']}" if isinstance(told.get("source"), str) else ""
        note = (
            f"{data.source} is taken as new to the net{other}: no part of it is set aside."
            " Images that it was trained on all the same make it look better than it is."
        )
    return replace(data, notes=(*data.notes, note)) if note else data


def loaded_as(config: Mapping[str, Any], rules: Preprocessing) -> dict[str, Any]:
    """The arguments with which `load` makes the images and the splits of a run again, by its config.json.

    What was held back in the training is held back then, and no image that the net has seen comes into a test.
    """
    told = config.get("data", {})
    if not isinstance(told, Mapping):
        raise InputError(f"The run's config.json is damaged: 'data' must be an object, not {told!r}.")
    seed, share = told.get("seed", 0), told.get("validation_share", VALIDATION_SHARE)
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise InputError(f"The run's config.json is damaged: its data's 'seed' is {seed!r}, no whole number.")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 < share < 1:
        raise InputError(f"The run's config.json is damaged: its data's 'validation_share' is {share!r}, no share.")
    return {
        "size": rules.size,
        "channels": rules.channels,
        "resize": rules.resize,
        "seed": seed,
        "validation": share,
    }


def _found(
    source: str | os.PathLike[str],
    sides: tuple[int, int] | None,
    channels: int | None,
    resize: str,
    to_learn: bool,
    progress: Progress,
) -> Data:
    """What there is, with the splits that it has; to_learn: whether a picture folder must be fit for training."""
    if source == "digits":
        name, kind, (classes, splits) = "digits", "digits", arrays.digits()
    else:
        path = _existing(Path(source).expanduser())
        name = str(path)
        if path.is_dir() and not arrays.is_idx(path):
            return _folder(path, sides, channels, resize, to_learn, progress)
        if path.is_dir():
            kind, (classes, splits) = "idx", arrays.idx(path)
        elif path.suffix.lower() == ".npz":
            kind, (classes, splits) = "npz", arrays.npz(path)
        else:
            hint = " Unpack it first." if path.suffix.lower() in (".zip", ".tar", ".gz", ".xz", ".7z") else ""
            raise InputError(f"{path}: this file is no data set.{hint} What works: {_WORK}.")
    mark = _mark_of_arrays(classes, splits)
    notes: list[str] = []
    splits = _refitted(splits, sides, channels, resize, notes)
    return assembled(name, kind, classes, splits, resize=resize, notes=notes, mark=mark)


def _folder(
    root: Path,
    sides: tuple[int, int] | None,
    channels: int | None,
    resize: str,
    to_learn: bool,
    progress: Progress,
) -> Data:
    found = listing(root, to_learn=to_learn)
    pictures = decoded(found, size=sides, channels=channels, resize=resize, progress=progress)
    skipped = [
        Skipped(found.files[number].path, reason, found.files[number].label)
        for number, reason in sorted(pictures.unreadable.items())
    ]
    passed_over = [*found.notes(), *pictures.notes()]
    if skipped:
        words = f"Skipped {len(skipped):,} of {len(found.files):,} files that cannot be read: {_named(skipped)}."
        passed_over.append(words)
    rows: dict[str, list[int]] = {"train": []}
    for number, file in enumerate(found.files):
        if number not in pictures.unreadable:
            rows.setdefault(file.split, []).append(number)
    splits = {}
    for name, numbers in rows.items():
        labels = np.array([found.files[number].label for number in numbers], np.int64)
        names = tuple(found.files[number].path for number in numbers)
        splits[name] = Split(pictures.pixels, np.array(numbers, np.int64), labels, names)
    return assembled(
        str(found.root),
        "folder",
        found.classes,
        splits,
        resize=resize,
        skipped=skipped,
        notes=_size_note(pictures.sizes, pictures.pixels.shape[1:3]),
        passed_over=passed_over,
        modes=pictures.modes,
        mark=_mark_of_files(found),
    )


def _mark_of_files(found: Listing) -> str:
    """A hash of all paths and sizes, and of the beginning of some files: the same for a copy elsewhere."""
    # Not of the times of change, which a copy has its own of; nor of pixels, which each version decodes its way.
    files = sorted((normalize("NFC", file.path), file.size, file.path) for file in found.files)
    digest = hashlib.blake2b(digest_size=8)
    for name, size, _ in files:
        digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogatepass"))
    for _, _, path in files[:: -(-len(files) // _MARKED_FILES) or 1]:
        with suppress(OSError), open(found.root / path, "rb") as file:
            digest.update(file.read(_MARKED_BYTES))
    return digest.hexdigest()


def _mark_of_arrays(classes: Sequence[str], splits: Mapping[str, Split]) -> str:
    """A hash of the classes, all labels, and of some images."""
    digest = hashlib.blake2b(repr(classes).encode(), digest_size=8)
    for name, split in sorted(splits.items()):
        some = split.batch(slice(None, None, -(-len(split) // _MARKED_IMAGES) or 1))
        digest.update(repr((name, split.pixels.shape)).encode())
        digest.update(split.labels.tobytes())
        digest.update(some.tobytes())
    return digest.hexdigest()


def _same_place(source: str | os.PathLike[str], other: object) -> bool:
    if not isinstance(other, str) or "digits" in (source, other):
        return source == other
    return os.path.realpath(Path(source).expanduser()) == os.path.realpath(other)


def _changed_note(data: Data, told: Mapping[str, Any]) -> str:
    """What to know where the data lie in the run's place and do not bear its mark."""
    seen = f"the net may have been trained on images that are in the {' or '.join(data.drawn)} split now."
    if not told.get("mark"):
        return f"This run was made by an older hapgop, which cut its data otherwise: {seen}" if data.drawn else ""
    counts = [count for count in map(told.get, SPLITS) if isinstance(count, int)]
    now = f"{len(data.split('all')):,} now"
    numbers = f" ({sum(counts):,} images then, {now})" if len(counts) == len(SPLITS) else f" ({now})"
    few = f" That moves few images to another split, but {seen}" if data.drawn else ""
    return f"{data.source} has changed since the training{numbers}.{few}"


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
    height, width, depth = next(iter(splits.values())).pixels.shape[1:]
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
    listed = "; ".join(map(str, skipped[:5]))
    return listed + (f"; and {len(skipped) - 5:,} more" if len(skipped) > 5 else "")


def _size_note(sizes: Counter[tuple[int, int]], became: tuple[int, ...]) -> list[str]:
    if set(sizes) <= {tuple(became)}:
        return []
    most = sizes.most_common(3)
    listed = ", ".join(f"{count:,} of {height}x{width}" for (height, width), count in most)
    others = sizes.total() - sum(count for _, count in most)
    more = f", {others:,} of {len(sizes) - len(most):,} other sizes" if others else ""
    return [f"Pictures differ from the size wanted ({listed}{more}): all became {became[0]}x{became[1]}."]
