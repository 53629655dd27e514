"""One door to every kind of data."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hapgop.errors import InputError
from hapgop.predict import Predictor, Preprocessing
from hapgop.train import arrays, mark
from hapgop.train.cache import decoded
from hapgop.train.data import SPLITS, VALIDATION_SHARE, Data, Skipped, Split, assembled, check_learnable, divided
from hapgop.train.folder import listing
from hapgop.train.progress import Progress, silent
from hapgop.train.shaping import Shaping

_WORK = "digits, a folder of class folders, a folder of IDX files, or an .npz file"


def load(
    source: str | os.PathLike[str],
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "stretch",
    seed: int = 0,
    validation: float = VALIDATION_SHARE,
    cut: bool = True,
    retry: bool = True,
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
    will do. retry=False is for a training that goes on: what could not be read when the folder was decoded stays out,
    though another try might read it now.

    >>> data = load("digits")
    >>> data.input_shape, len(data.train), len(data.validation), len(data.test)
    ((1, 8, 8), 1293, 145, 359)
    """
    shaping = Shaping.of(size, channels, resize)
    if not 0 < validation < 1:
        raise InputError(f"validation is a share of the training images, above 0 and below 1, not {validation!r}.")
    data = _found(source, shaping, to_learn=cut, retry=retry, progress=progress)
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
    if told.get("mark") == data.mark or (len(data.train) and _same_place(source, told.get("source"))):
        data = divided(data, how["seed"], how["validation"])
        note = changed_note(data, told)
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
    source: str | os.PathLike[str], shaping: Shaping, *, to_learn: bool, retry: bool, progress: Progress
) -> Data:
    """What there is, with the splits that it has; to_learn: whether a picture folder must be fit for training."""
    notes: list[str] = []
    if source == "digits":
        name, kind, (classes, splits) = "digits", "digits", arrays.digits()
        if os.path.isdir(name):
            notes.append("These are scikit-learn's digits. The folder digits/ here is not used: ./digits names it.")
    else:
        given = _expanded(source)
        try:
            path = _existing(given)
            folder = path.is_dir()
            idx = folder and arrays.is_idx(path)
        except OSError as error:
            raise InputError(f"{given}: cannot be read ({error.strerror or error}).") from error
        name = str(path)
        if folder and not idx:
            return _folder(path, shaping, to_learn, retry, progress)
        if idx:
            kind, (classes, splits) = "idx", arrays.idx(path)
        elif path.suffix.lower() == ".npz":
            kind, (classes, splits) = "npz", arrays.npz(path)
        else:
            hint = " Unpack it first." if path.suffix.lower() in (".zip", ".tar", ".gz", ".xz", ".7z") else ""
            raise InputError(f"{path}: this file is no data set.{hint} What works: {_WORK}.")
    fitted = _refitted(splits, shaping, notes)
    marked = mark.of_arrays(classes, splits)
    return assembled(name, kind, classes, fitted, resize=shaping.resize, notes=notes, mark=marked)


def _folder(root: Path, shaping: Shaping, to_learn: bool, retry: bool, progress: Progress) -> Data:
    found = listing(root, to_learn=to_learn)
    pictures = decoded(found, shaping, progress, retry=retry)
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
        resize=shaping.resize,
        skipped=skipped,
        notes=[*found.doubts, *_size_note(pictures.sizes, pictures.pixels.shape[1:3])],
        passed_over=passed_over,
        modes=pictures.modes,
        mark=mark.of_files(found),
    )


def _same_place(source: str | os.PathLike[str], other: object) -> bool:
    if not isinstance(other, str) or "digits" in (source, other):
        return source == other
    return os.path.realpath(_expanded(source)) == os.path.realpath(other)


def changed_note(data: Data, told: Mapping[str, Any]) -> str:
    """What to know where data in a run's place do not bear the mark that it tells of; "" where they do."""
    if told.get("mark") == data.mark:
        return ""
    seen = f"the net may have been trained on images that are in the {' or '.join(data.drawn)} split now."
    if not told.get("mark"):
        return f"This run was made by an older hapgop, which cut its data otherwise: {seen}" if data.drawn else ""
    counts = [count for count in map(told.get, SPLITS) if isinstance(count, int)]
    now = f"{len(data.split('all')):,} now"
    numbers = f" ({sum(counts):,} images then, {now})" if len(counts) == len(SPLITS) else f" ({now})"
    few = f" That moves few images to another split, but {seen}" if data.drawn else ""
    return f"{data.source} has changed since the training{numbers}.{few}"


def _expanded(source: str | os.PathLike[str]) -> Path:
    path = Path(source)
    try:
        return path.expanduser()
    except RuntimeError:
        # ~name of nobody: the name of a file, as for a shell.
        return path


def _existing(path: Path) -> Path:
    if path.exists():
        return Path(os.path.abspath(path))
    parent = Path(os.path.abspath(path)).parent
    there = parent
    while not there.is_dir():
        there = there.parent
    missing = "" if there == parent else f" {there} exists, but not what comes after it."
    raise InputError(f"{path}: there is no such folder or file.{missing} What works: {_WORK}.")


def _refitted(splits: dict[str, Split], shaping: Shaping, notes: list[str]) -> dict[str, Split]:
    height, width, depth = next(iter(splits.values())).pixels.shape[1:]
    rules = shaping.rules((height, width), depth)
    if (rules.size, rules.channels) == ((height, width), depth):
        return splits
    became = f"{rules.size[0]}x{rules.size[1]}x{rules.channels}"
    notes.append(f"All images were {height}x{width}x{depth} and became {became}.")
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
