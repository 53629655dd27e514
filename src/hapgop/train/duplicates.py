"""Images that are there more than once: the same to the bit, or nearly the same to the eye."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hapgop.train.data import Data, Split

# Each image as so many brightnesses, in rows and columns; a hash compares each with its right neighbour.
_ROWS, _COLUMNS = 8, 9
# Hashes that differ in at most three of their 64 bits agree in one of four parts, whatever the bits are.
_PARTS, _PART_BITS = 4, 16
_MOST_BITS = 3
# Beyond that many images with the same part of a hash, pairs are not looked at: skies and blank pages.
_CROWD = 60
# Nearly the same: brightnesses (0 to 255) that differ by so much at most, by the root of the mean square, in images
# that have some contrast at all.
_NEAR = 3.0
_CONTRAST = 8.0
_CHUNK_VALUES = 30_000_000


@dataclass(frozen=True)
class Pair:
    """Two images of a data set: their names, splits and classes, and whether they are the same to the bit."""

    names: tuple[str, str]
    splits: tuple[str, str]
    labels: tuple[int, int]
    exact: bool

    @property
    def across(self) -> bool:
        """Whether they lie in different splits, so that one is no honest test of what was learnt from the other."""
        return self.splits[0] != self.splits[1]

    @property
    def contrary(self) -> bool:
        """Whether they have different classes, of which one must be wrong."""
        return self.labels[0] != self.labels[1]


def duplicates(data: Data) -> list[Pair]:
    """Pairs of images that are the same or nearly so, exact ones first; of many alike, each with the first of them.

    A perceptual hash (dHash; Krawetz, "Kind of Like That", 2013) finds candidates, a comparison of small versions
    decides. Grey images, as of digits, are compared exactly only: drawn strokes are alike without being the same.
    """
    splits = {name: data.split(name) for name in ("train", "validation", *(("test",) if data.test is not None else ()))}
    where = [(name, position) for name, split in splits.items() for position in range(len(split))]
    exact: dict[bytes, int] = {}
    same: list[tuple[int, int]] = []
    small = np.concatenate([_small(split) for split in splits.values()])
    for number, (name, position) in enumerate(where):
        # Only images whose small versions agree can agree as a whole: no other is read again.
        key = small[number].tobytes()
        if key not in exact:
            exact[key] = number
            continue
        first = exact[key]
        if (_image(splits, where[first]) == splits[name].image(position)).all():
            same.append((first, number))
    later = {number for _, number in same}
    near = [] if data.input_shape[0] == 1 else [pair for pair in _near(small) if not later & set(pair)]

    def pair(numbers: tuple[int, int], exact: bool) -> Pair:
        (one, first), (other, second) = (where[number] for number in numbers)
        a, b = splits[one], splits[other]
        labels = int(a.labels[first]), int(b.labels[second])
        return Pair((a.names[first], b.names[second]), (one, other), labels, exact)

    return [pair(numbers, True) for numbers in same] + [pair(numbers, False) for numbers in near]


def _image(splits: dict[str, Split], place: tuple[str, int]) -> NDArray[np.uint8]:
    return splits[place[0]].image(place[1])


def _small(split: Split) -> NDArray[np.float32]:
    """(n, 8, 9): mean brightnesses of a grid over each image, whose lines fall between pixels."""
    height, width, channels = split.pixels.shape[1:]
    rows = np.linspace(0, height, min(_ROWS, height) + 1).astype(int)[:-1]
    columns = np.linspace(0, width, min(_COLUMNS, width) + 1).astype(int)[:-1]
    step = max(1, _CHUNK_VALUES // (height * width * channels))
    parts = []
    for start in range(0, len(split), step):
        # Whole numbers, so that equal images have equal sums.
        grey = split.batch(slice(start, start + step)).sum(axis=3, dtype=np.int64)
        parts.append(np.add.reduceat(np.add.reduceat(grey, rows, axis=1), columns, axis=2))
    sizes = np.outer(np.diff([*rows, height]), np.diff([*columns, width])) * channels
    return (np.concatenate(parts) / sizes).astype(np.float32)


def _near(small: NDArray[np.float32]) -> Iterator[tuple[int, int]]:
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), -1)
    if bits.shape[1] < _PARTS * _PART_BITS:
        return
    words = np.packbits(bits, axis=1).view(">u2")
    contrast = small.std(axis=(1, 2)) >= _CONTRAST
    found: set[tuple[int, int]] = set()
    for part in range(_PARTS):
        groups: dict[int, list[int]] = defaultdict(list)
        for number in np.flatnonzero(contrast).tolist():
            groups[int(words[number, part])].append(number)
        for group in groups.values():
            if 1 < len(group) <= _CROWD:
                found |= _close(np.array(group), bits, small)
    seen: set[int] = set()
    for first, second in sorted(found):
        if second not in seen:
            seen.add(second)
            yield first, second


def _close(group: NDArray[np.int64], bits: NDArray[np.bool_], small: NDArray[np.float32]) -> set[tuple[int, int]]:
    first, second = np.triu_indices(len(group), 1)
    one, other = group[first], group[second]
    few = (bits[one] != bits[other]).sum(axis=1) <= _MOST_BITS
    one, other = one[few], other[few]
    near = np.sqrt(((small[one] - small[other]) ** 2).mean(axis=(1, 2))) <= _NEAR
    return set(zip(one[near].tolist(), other[near].tolist(), strict=True))
