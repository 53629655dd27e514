"""What `hapgop look` and `hapgop learn` have in common: pictures to begin with, and a net where none is given."""

from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hapgop import train
from hapgop.errors import InputError
from hapgop.predict import Predictor, open_image
from hapgop.predict.walk import Walk, folders_in
from hapgop.studio.look import Sample
from hapgop.train.folder import set_aside
from hapgop.web import check_pixels

_SAMPLES = 48


def samples(predictor: Predictor) -> list[Sample]:
    """Pictures that the run was judged by, a few of each class; none where its data is no longer there.

    Of a folder that has no folder of them, this reads what training has decoded, or decodes all of it again.
    """
    try:
        source, kind = _source(predictor)
        home = set_aside(Path(source)) if kind == "folder" else None
        return _split(predictor, taught=False) if home is None else _from_folder(predictor, home)
    except (InputError, OSError):
        return []


def lessons(predictor: Predictor) -> list[Sample]:
    """Pictures that the run was trained on, a few of each class; none where its data is no longer there.

    Of a folder, this reads what training has decoded, or decodes all of it again.
    """
    try:
        return _split(predictor, taught=True)
    except (InputError, OSError):
        return []


def _source(predictor: Predictor) -> tuple[str, Any]:
    data = predictor.config.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("source"), str):
        raise InputError("The run does not say what it was trained on.")
    return data["source"], data.get("kind")


def _split(predictor: Predictor, *, taught: bool) -> list[Sample]:
    source, _ = _source(predictor)
    data = train.load(source, **train.loaded_as(predictor.config, predictor.preprocessing))
    split = data.split("train" if taught else data.unseen)
    # The files themselves, as they were before they were made to fit; of what was learnt, all are compared at once.
    files = Path(data.source) if data.kind == "folder" and not taught else None
    return [
        Sample(
            split.names[n],
            split.image(n) if files is None else files / split.names[n],
            data.classes[split.labels[n]],
        )
        for n in _spread(split.labels, len(data.classes))
    ]


def _spread(labels: NDArray[np.int64], classes: int) -> list[int]:
    """Positions that go round the classes: the first of each, then the second, ..."""
    each = -(-_SAMPLES // max(1, classes))
    rows = [np.flatnonzero(labels == c)[:each] for c in range(classes)]
    turns = [int(row[k]) for k in range(each) for row in rows if k < len(row)]
    return turns[:_SAMPLES]


def _from_folder(predictor: Predictor, root: Path) -> list[Sample]:
    """A few files of each class that can be read, as training finds them, without decoding the whole folder."""
    # Classes have composed names, whatever way macOS has written their folders'.
    homes = {normalize("NFC", folder.name): folder for folder in folders_in(root)}
    each, found = max(1, _SAMPLES // len(predictor.classes)), []
    for label in predictor.classes[:_SAMPLES]:
        if label in homes:
            paths = sorted(homes[label] / picture.path for picture in Walk().pictures(homes[label]))
            readable = (path for path in paths if _is_readable(path, predictor.preprocessing.size))
            found += [Sample(path.name, path, label) for path in islice(readable, each)]
    return found


def _is_readable(path: Path, size: tuple[int, int]) -> bool:
    try:
        open_image(path, size)
    except InputError:
        return False
    return True


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
