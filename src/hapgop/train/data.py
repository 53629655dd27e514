"""Labelled images in memory or on disk, in three splits."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.predict import Preprocessing

SPLITS = ("train", "validation", "test")
TEST_SHARE = 0.2
VALIDATION_SHARE = 0.1
# The mean and standard deviation of this many values are those of the whole to three digits and more.
_VALUES_FOR_STATISTICS = 20_000_000
_VALUES_AT_ONCE = 200_000  # stay in the cache
_REASONS = 3


@dataclass(frozen=True)
class Skipped:
    """A file that should have been a picture and was not readable; label: its class's position, where that is known."""

    path: str
    reason: str
    label: int | None = None

    def __str__(self) -> str:
        return f"{self.path} ({self.reason.rstrip('.')})"


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
    what was resized, cut off. drawn: the splits that were cut from the training images, seed: what they were drawn
    with, validation_share: how much of each class for validation. passed_over: sentences on files that are no part of
    the data; modes: how many picture files were grey, coloured and so on, by Pillow's names. mark: the same for the
    same files, wherever they lie, and another for others.

    cut: False where the images are only to judge a net by. Then splits that the source has not are empty, and
    where it has none, all images lie in train.
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
    cut: bool = True
    drawn: tuple[str, ...] = ()
    mark: str = ""

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(c, h, w) of one image, as a net counts."""
        height, width, channels = self.train.pixels.shape[1:]
        return channels, height, width

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of the splits that there are; none where images that were not cut are one whole."""
        found = tuple(name for name in SPLITS if self._part(name) is not None)
        return () if found == ("train",) and not self.cut else found

    @property
    def unseen(self) -> str:
        """The split that judges a trained net: "test"; without one, "validation", or "all" of images not cut."""
        if "test" in self.splits:
            return "test"
        return "validation" if self.cut else "all"

    def split(self, name: str) -> Split:
        """ "train", "validation", "test", or "all" of them in one. Raises InputError on others."""
        if name not in (*SPLITS, "all"):
            raise InputError(f"There is no split {name!r}; there are {', '.join(SPLITS)} and all.")
        if name == "all":
            return joined([part for part in map(self._part, SPLITS) if part is not None])
        part = self._part(name) if name in self.splits else None
        if part is None:
            others = ", ".join(repr(other) for other in (*self.splits, "all"))
            raise InputError(f"{self.source} has no {name} split of its own; there is {others}.")
        return part

    def _part(self, name: str) -> Split | None:
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        part = parts[name]
        return part if part is not None and len(part) else None

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """How these images become inputs: their size, and the mean and deviation of the training split.

        Raises InputError where the images are only to judge by.
        """
        if not self.cut:
            raise InputError(
                f"{self.source} was loaded with cut=False: no part of it is to learn from, so that how images become"
                " inputs has to come from the net's own data. load(source) makes data to train on."
            )
        channels, height, width = self.input_shape
        mean, std = _statistics(self.train)
        return Preprocessing((height, width), channels, mean, std, self.resize)

    @cached_property
    def fingerprint(self) -> str:
        """Changes with the files, the classes, the images' size, their number, order, names and labels."""
        digest = hashlib.sha256(repr((self.mark, self.classes, self.input_shape)).encode())
        for split in (self.train, self.validation):
            digest.update(split.labels.tobytes())
            digest.update("\n".join(split.names).encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:16]


def held_back(split: Split, share: float, seed: int) -> tuple[Split, Split]:
    """(kept, cut off): `share` of each class, rounded, is cut off: the images whose names and `seed` hash lowest.

    So an image that comes or goes moves hardly any other. A class with two images or more gives at least one and
    keeps at least one.

    >>> labels = np.array([0, 0, 0, 0, 1, 1])
    >>> pixels = np.zeros((6, 8, 8, 1), np.uint8)
    >>> kept, off = held_back(Split(pixels, np.arange(6), labels, tuple("abcdef")), 0.25, seed=0)
    >>> len(kept), len(off)
    (4, 2)
    """
    places = _places(split.names, seed)
    off = np.zeros(len(split), bool)
    for label in np.unique(split.labels):
        positions = np.flatnonzero(split.labels == label)
        count = min(max(1, int(share * len(positions) + 0.5)), len(positions) - 1)
        off[positions[np.argsort(places[positions], kind="stable")[:count]]] = True
    return split.select(np.flatnonzero(~off)), split.select(np.flatnonzero(off))


def _places(names: Sequence[str], seed: int) -> NDArray[np.uint64]:
    """A number for each name that is as good as drawn, and does not depend on the others."""
    # macOS and others write the same letters in two ways; a copy of a folder is to be cut as the folder was.
    texts = (f"{seed}/{normalize('NFC', name)}".encode("utf-8", "surrogatepass") for name in names)
    digests = b"".join(hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


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
    splits: Mapping[str, Split],
    *,
    resize: str = "stretch",
    skipped: Iterable[Skipped] = (),
    notes: Iterable[str] = (),
    passed_over: Iterable[str] = (),
    modes: Mapping[str, int] | None = None,
    mark: str = "",
) -> Data:
    """`Data` of the splits that a source has, not cut. Raises InputError where they hold no image."""
    skipped = tuple(skipped)
    if not any(map(len, splits.values())):
        raise InputError(f"{source}: there is no readable image.{_reasons(skipped)}")
    none = next(iter(splits.values())).select(np.zeros(0, np.int64))
    return Data(
        source=source,
        kind=kind,
        classes=classes,
        train=splits.get("train", none),
        validation=splits.get("validation", none),
        test=splits.get("test"),
        resize=resize,
        skipped=skipped,
        notes=tuple(notes),
        passed_over=tuple(passed_over),
        modes=modes or {},
        cut=False,
        mark=mark,
    )


def check_learnable(data: Data) -> None:
    """Raises InputError where a class has no training image, or there is but one class."""
    if not len(data.train):
        raise InputError(f"{data.source}: there are no training images; what is there can only judge a trained net.")
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    empty = np.flatnonzero(counts == 0).tolist()
    if empty:
        reasons = _reasons([file for file in data.skipped if file.label in empty])
        raise InputError(
            f"{data.source}: no readable training image for class {', '.join(repr(data.classes[n]) for n in empty)}."
            f"{reasons} Put images there, or take the class away."
        )
    if len(data.classes) < 2:
        raise InputError(
            f"{data.source}: only one class, {data.classes[0]!r}. A classifier tells classes apart and needs two or"
            " more."
        )


def divided(data: Data, seed: int, validation: float) -> Data:
    """The same images with the splits that are missing, cut from the training images.

    Where nothing but training images is given, a fifth of each class becomes the test split; `validation` of each
    class of what is left becomes the validation split where that is missing. Given splits are kept as they are.
    Raises InputError where nothing can be cut off.
    """
    splits = {name: data.split(name) for name in data.splits} or {"train": data.train}
    shares = {} if "validation" in splits else {"validation": validation}
    if set(splits) == {"train"}:
        shares = {"test": TEST_SHARE, **shares}
    notes = []
    for name, share in shares.items():
        whole = splits["train"]
        splits["train"], splits[name] = held_back(whole, share, seed)
        if not len(splits[name]):
            raise InputError(
                f"{data.source}: no image is left for the {name} split. Some class needs at least"
                " three images, so that one can be kept for testing and one for validation."
            )
        notes.append(_cut_note(name, share, whole, splits[name], seed))
    if not shares and validation != VALIDATION_SHARE:
        notes.append("The data have a validation split of their own, so no share of the training images is held back.")
    return replace(
        data,
        train=splits["train"],
        validation=splits["validation"],
        test=splits.get("test"),
        notes=(*data.notes, *notes),
        seed=seed,
        validation_share=validation,
        cut=True,
        drawn=tuple(shares),
    )


def _reasons(skipped: Sequence[Skipped]) -> str:
    if not skipped:
        return ""
    more = f"; and {len(skipped) - _REASONS:,} more" if len(skipped) > _REASONS else ""
    return f" Skipped were {'; '.join(map(str, skipped[:_REASONS]))}{more}."


def _cut_note(name: str, share: float, whole: Split, off: Split, seed: int) -> str:
    had, gave = np.bincount(whole.labels), np.bincount(off.labels, minlength=int(whole.labels.max()) + 1)
    about = "" if np.allclose(share * had, gave) else "about "
    part = f"{len(off):,} of the {len(whole):,} training images, {about}{100 * share:g}% of each class"
    return f"The {name} split is {part}, drawn with seed {seed}."


def _statistics(split: Split) -> tuple[tuple[float, ...], tuple[float, ...]]:
    height, width, channels = split.pixels.shape[1:]
    every = max(1, len(split) * height * width * channels // _VALUES_FOR_STATISTICS)
    rows = split.rows[::every]
    some = max(1, _VALUES_AT_ONCE // (height * width * channels))
    # Sums of whole numbers, which float64 holds exactly.
    sums, squares = np.zeros(channels), np.zeros(channels)
    for start in range(0, len(rows), some):
        values = np.moveaxis(split.pixels[rows[start : start + some]], -1, 0).reshape(channels, -1).astype(np.float32)
        sums += values.sum(axis=1, dtype=np.float64)
        squares += np.einsum("cn,cn->c", values, values, dtype=np.float64)
    count = len(rows) * height * width
    means, deviations = [], []
    for total, square in zip(map(int, sums), map(int, squares), strict=True):
        means.append(round(total / count / 255, 4))
        variance = (count * square - total**2) / count**2
        # A channel without any contrast is left as it is rather than blown up.
        deviations.append(max(round(variance**0.5 / 255, 4), 1 / 255))
    return tuple(means), tuple(deviations)
