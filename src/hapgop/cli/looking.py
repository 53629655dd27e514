"""What `hapgop look` and `hapgop learn` have in common: pictures to begin with, and a net where none is given."""

from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hapgop import train
from hapgop.errors import InputError
from hapgop.predict import SUFFIXES, Predictor
from hapgop.studio.look import Sample, check_pixels

_SAMPLES = 48


def samples(predictor: Predictor) -> list[Sample]:
    """Pictures that the run was judged by, a few of each class; none where its data is no longer there."""
    data = predictor.config.get("data")
    source, kind = (data.get("source"), data.get("kind")) if isinstance(data, dict) else (None, None)
    if not isinstance(source, str):
        return []
    try:
        return _from_folder(predictor, Path(source)) if kind == "folder" else _from_arrays(predictor, source)
    except (InputError, OSError):
        return []


def _from_arrays(predictor: Predictor, source: str) -> list[Sample]:
    data = train.load(source)
    split = data.split(data.unseen)
    return [
        Sample(f"{split.names[n]}", split.image(n), data.classes[split.labels[n]])
        for n in _spread(split.labels, len(data.classes))
    ]


def _spread(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Positions that go round the classes: the first of each, then the second, ..."""
    each = -(-_SAMPLES // max(1, classes))
    rows = [np.flatnonzero(labels == c)[:each] for c in range(classes)]
    turns = [int(row[k]) for k in range(each) for row in rows if k < len(row)]
    return turns[:_SAMPLES]


def _from_folder(predictor: Predictor, root: Path) -> list[Sample]:
    """A few files of each class, without reading the whole folder."""
    for name in ("test", "val", "valid", "validation"):
        if (root / name).is_dir():
            root = root / name
            break
    each, found = max(1, _SAMPLES // len(predictor.classes)), []
    for label in predictor.classes[:_SAMPLES]:
        files = sorted(p for p in (root / label).iterdir() if p.suffix.lower() in SUFFIXES)[:each]
        found += [Sample(p.name, p, label) for p in files]
    return found


def checked(path: Path) -> Path:
    """The path of a picture that is not too large to be decoded. Raises InputError where it is."""
    size = (0, 0)
    # What is no picture at all is told in words when it is read.
    with suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError), Image.open(path) as header:
        size = header.size
    try:
        check_pixels(*size)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return path
