"""Labelled images in memory or on disk, in three splits."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.predict import Preprocessing

SPLITS = ("train", "validation", "test")
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
# The mean and standard deviation of this many values are those of the whole to three digits and more.
_VALUES_FOR_STATISTICS = 20_000_000


@dataclass(frozen=True)
class Skipped:
    """A file that should have been a picture and was not readable."""

    path: str
    reason: str


@dataclass(frozen=True, eq=False)
class Split:
    """n labelled images: rows of one array, which several splits may share.

    pixels: uint8 (N, h, w, c), perhaps memory-mapped; rows: (n,) positions in it; labels: (n,) positions in
    the data's classes; names: n of them, a file's path or "x_test[17]".
    """

    pixels: NDArray[np.uint8]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: NDArray[np.int64] | slice) -> NDArray[np.uint8]:
        """uint8 (b, h, w, c): a copy of the images at these positions."""
        return np.asarray(self.pixels[self.rows[positions]])

    def image(self, position: int) -> NDArray[np.uint8]:
        """uint8 (h, w, c)."""
        return np.array(self.pixels[self.rows[position]])

    def select(self, positions: NDArray[np.int64]) -> "Split":
        """The images at these positions, in this order; no pixel is copied."""
        names = tuple(self.names[position] for position in positions.tolist())
        return Split(self.pixels, self.rows[positions], self.labels[positions], names)


@dataclass(frozen=True, eq=False)
class Data:
    """A classification task: images of one size with their labels.

    test is None where a source has training and validation images only. notes are sentences for the user:
    what was resized, cut off. seed: what the splits that were cut here were drawn with, validation_share: how much of
    each class for validation. passed_over: sentences on files that are no part of the data; modes: how many picture
    files were grey, coloured and so on, by Pillow's names.
    """

    source: str
    kind: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split | None
    resize: str = "stretch"
    skipped: tuple[Skipped, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0
    validation_share: float = VALIDATION_SHARE
    passed_over: tuple[str, ...] = ()
    modes: Mapping[str, int] = field(default_factory=dict)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one image, as a net counts."""
        height, width, channels = self.train.pixels.shape[1:]
        return channels, height, width

    @property
    def unseen(self) -> str:
        """The split that judges a trained net: "test", or "validation" where there is no test split."""
        return "validation" if self.test is None else "test"

    def split(self, name: str) -> Split:
        """ "train", "validation", "test", or "all" of them in one. Raises InputError on others."""
        if name == "all":
            return joined([self.train, self.validation, *([self.test] if self.test is not None else [])])
        if name == "test" and self.test is None:
            raise InputError(f"{self.source} has no test split; 'validation', 'train' and 'all' work.")
        found: dict[str, Split | None] = {name: getattr(self, name) for name in SPLITS}
        split = found.get(name)
        if split is None:
            raise InputError(f"There is no split {name!r}; there are {', '.join(SPLITS)} and all.")
        return split

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How these images become inputs: their size, and the mean and deviation of the training split."""
        channels, height, width = self.input_shape
        mean, std = _statistics(self.train)
        return Preprocessing((height, width), channels, mean, std, self.resize)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the classes, the images' size, their number, order, names and labels."""
        digest = hashlib.sha256(repr((self.classes, self.input_shape)).encode())
        for split in (self.train, self.validation):
            digest.update(split.labels.tobytes())
            digest.update("\n".join(split.names).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def cut(labels: NDArray[np.int64], share: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions (kept, cut off), both sorted: `share` of each class, rounded, is drawn with `seed`.

    A class with two images or more gives at least one and keeps at least one.

    >>> kept, off = cut(np.array([0, 0, 0, 0, 1, 1]), 0.25, seed=0)
    >>> len(kept), len(off)
    (4, 2)
    """
    generator = np.random.default_rng([seed, len(labels)])
    off = []
    for label in np.unique(labels):
        positions = np.flatnonzero(labels == label)
        count = min(max(1, int(share * len(positions) + 0.5)), len(positions) - 1)
        off.append(generator.permutation(positions)[:count])
    chosen = np.sort(np.concatenate(off)) if off else np.zeros(0, np.int64)
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def joined(splits: Sequence[Split]) -> Split:
    """The splits after each other, as one; their pixels are copied only where they lie in different arrays."""
    first = splits[0]
    labels = np.concatenate([split.labels for split in splits])
    names = tuple(name for split in splits for name in split.names)
    if all(split.pixels is first.pixels for split in splits):
        return Split(first.pixels, np.concatenate([split.rows for split in splits]), labels, names)
    pixels = np.concatenate([split.batch(slice(None)) for split in splits])
    return Split(pixels, np.arange(len(labels)), labels, names)


def assembled(
    source: str,
    kind: str,
    classes: tuple[str, ...],
    splits: dict[str, Split],
    *,
    resize: str = "stretch",
    skipped: Iterable[Skipped] = (),
    notes: Iterable[str] = (),
    seed: int = 0,
    validation: float = VALIDATION_SHARE,
    passed_over: Iterable[str] = (),
    modes: Mapping[str, int] | None = None,
) -> Data:
    """`Data` of the splits that a source has; the missing ones are cut from the training images.

    Where nothing but training images is given, a fifth of each class becomes the test split; `validation` of each
    class of what is left becomes the validation split where that is missing. Given splits are kept as they are.
    Raises InputError where a class has no training image, there is but one class, or nothing can be cut off.
    """
    notes = list(notes)
    train = splits["train"]
    _check_classes(source, classes, train)
    if set(splits) == {"train"}:
        kept, off = cut(train.labels, TEST_SHARE, seed)
        splits = {"train": train.select(kept), "test": train.select(off)}
        notes.append(_cut_note("test", TEST_SHARE, len(off), seed))
    if "validation" not in splits:
        train = splits["train"]
        kept, off = cut(train.labels, validation, seed)
        splits = {**splits, "train": train.select(kept), "validation": train.select(off)}
        notes.append(_cut_note("validation", validation, len(off), seed))
    elif validation != VALIDATION_SHARE:
        notes.append("The data have a validation split of their own, so no share of the training images is held back.")
    for name, split in splits.items():
        if len(split) == 0:
            raise InputError(
                f"{source}: no image is left for the {name} split. Some class needs at least"
                " three images, so that one can be kept for testing and one for validation."
            )
    return Data(
        source=source,
        kind=kind,
        classes=classes,
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test"),
        resize=resize,
        skipped=tuple(skipped),
        notes=tuple(notes),
        seed=seed,
        validation_share=validation,
        passed_over=tuple(passed_over),
        modes=modes or {},
    )


def _check_classes(source: str, classes: tuple[str, ...], train: Split) -> None:
    counts = np.bincount(train.labels, minlength=len(classes))
    empty = [repr(name) for name, count in zip(classes, counts, strict=True) if count == 0]
    if empty:
        raise InputError(
            f"{source}: no readable training image for class {', '.join(empty)}."
            " Put images there, or take the class away."
        )
    if len(classes) < 2:
        raise InputError(
            f"{source}: only one class, {classes[0]!r}. A classifier tells classes apart and needs two or more."
        )


def _cut_note(name: str, share: float, count: int, seed: int) -> str:
    part = f"{count:,} of the training images: {100 * share:g}% of each class"
    return f"The {name} split is {part}, drawn with seed {seed}."


def _statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    height, width, channels = split.pixels.shape[1:]
    every = max(1, len(split) * height * width * channels // _VALUES_FOR_STATISTICS)
    sample = split.batch(slice(None, None, every))
    levels = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(channels):
        counts = np.bincount(sample[..., channel].ravel(), minlength=256)
        mean = float(np.average(levels, weights=counts))
        variance = float(np.average((levels - mean) ** 2, weights=counts))
        means.append(round(mean, 4))
        # A channel without any contrast is left as it is rather than blown up.
        deviations.append(max(round(variance**0.5, 4), 1 / 255))
    return tuple(means), tuple(deviations)
