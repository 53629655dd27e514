"""`hapgop predict RUN|FILE.onnx IMAGES...`"""

import csv
import glob
import io
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from hapgop.cli import console
from hapgop.cli.computing import briefly, use_precision
from hapgop.cli.opening import opened_net
from hapgop.cli.options import ClassesOption, MeanOption, NetArgument, PrecisionOption, StdOption, ThreadsOption
from hapgop.engine import set_threads
from hapgop.errors import InputError
from hapgop.predict import SUFFIXES, read_pictures
from hapgop.predict.walk import Walk

_BATCH = 32
_STDOUT = "-"


@dataclass(frozen=True, eq=False)
class _Labelled:
    """What is to be shown of one picture: its labels with their probabilities, best first."""

    path: str
    labels: tuple[tuple[str, float], ...]


def command(
    run: NetArgument,
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGES", help="Pictures, folders of pictures, or patterns (*.png).")
    ],
    top: Annotated[int, typer.Option(min=1, help="Show the K likeliest labels.", metavar="K")] = 1,
    mean: MeanOption = None,
    std: StdOption = None,
    classes: ClassesOption = None,
    threads: ThreadsOption = None,
    precision: PrecisionOption = None,
    json: Annotated[bool, typer.Option("--json", help="JSON on standard output, with all probabilities.")] = False,
    csv_file: Annotated[
        str | None, typer.Option("--csv", metavar="FILE", help="Write CSV to FILE; - is standard output.")
    ] = None,
) -> None:
    """Label pictures with a trained net.

    A picture that cannot be read is named and skipped, as is a folder without pictures. Exit code 2 where nothing was
    labelled. Folders are searched as in training: hidden files, and folders of trained nets, are passed over.
    """
    if json and csv_file == _STDOUT:
        raise InputError("--json and --csv - would both write to standard output; give --csv a file name.")
    if csv_file not in (None, _STDOUT):
        console.check_place("--csv", Path(csv_file))
    if threads is not None:
        set_threads(threads)
    use_precision(precision)
    briefly()
    predictor = opened_net(run, mean, std, classes)
    walk = Walk()
    skipped: list[dict[str, str]] = []
    paths = list(dict.fromkeys(_expand(images, walk, skipped)))
    for note in walk.notes():
        console.say(f"note: {note}")
    if not paths:
        raise InputError("there was no picture to label.")
    labelled: list[_Labelled] = []
    resized = 0
    kept = None if json else top  # all labels of each of a million pictures would fill the memory
    readings = read_pictures(paths, predictor.preprocessing)
    while batch := list(islice(readings, _BATCH)):
        rows: list[tuple[str, NDArray[np.uint8]]] = []
        for reading in batch:
            if reading.pixels is None:
                _skip(skipped, reading.path, str(reading.error))
            else:
                rows.append((reading.path, reading.pixels))
                resized += reading.resized
        if rows:
            prepared = predictor.preprocessing.batch(np.stack([pixels for _, pixels in rows]))
            probabilities = predictor.probabilities(prepared)
            labelled += [
                _Labelled(path, _best(predictor.classes, row, kept))
                for (path, _), row in zip(rows, probabilities, strict=True)
            ]
    if not labelled:
        raise InputError(f"none of the {len(paths)} files could be read; nothing was labelled.")
    if resized:
        height, width = predictor.preprocessing.size
        console.say(f"{resized} of {len(labelled)} pictures were resized to {height}×{width}, as the net wants.")
    if csv_file is not None:
        _write_csv(csv_file, labelled, min(top, len(predictor.classes)))
    if json:
        console.write_json(_as_json(run, predictor.classes, labelled, skipped))
    elif csv_file is None:
        _show(labelled, top)
    if len(labelled) < len(paths):
        unread = len(paths) - len(labelled)
        console.say(f"Labelled {len(labelled)} of {len(paths)} files; {unread} could not be read.")


def _expand(images: Sequence[str], walk: Walk, skipped: list[dict[str, str]]) -> Iterator[str]:
    """Folders and patterns as the files in them, in order; a name that is nothing stays, to be complained of.

    Those that hold no picture are named and skipped.
    """
    for given in images:
        if os.path.isdir(given):
            try:
                found = sorted(os.path.join(given, picture.path) for picture in walk.pictures(given))
                if not found:
                    _skip(skipped, given, f"{given}: no pictures in this folder ({', '.join(sorted(SUFFIXES))}).")
                yield from found
            except InputError as error:
                _skip(skipped, given, str(error))
        elif not os.path.exists(given) and glob.has_magic(given):
            matches = sorted(path for path in glob.glob(given, recursive=True) if not os.path.isdir(path))
            if not matches:
                _skip(skipped, given, f"{given}: no file has such a name.")
            yield from matches
        else:
            yield given


def _skip(skipped: list[dict[str, str]], path: str, error: str) -> None:
    skipped.append({"path": path, "error": error})
    console.say(f"skipped: {error}")


def _best(classes: Sequence[str], row: NDArray[np.float32], most: int | None) -> tuple[tuple[str, float], ...]:
    order = np.argsort(-row, kind="stable")[:most]
    return tuple((classes[i], float(row[i])) for i in order)


def _show(labelled: Sequence[_Labelled], top: int) -> None:
    columns = ["file", "label", "confidence"] + (["then"] if top > 1 else [])
    rows = []
    for picture in labelled:
        (label, confidence), *others = picture.labels[:top]
        then = ", ".join(f"{name} {probability:.1%}" for name, probability in others)
        rows.append([picture.path, label, f"{confidence:.1%}"] + ([then] if top > 1 else []))
    console.show(console.table(columns, rows, right=["confidence"], folds=["file", "then"]))


def _write_csv(where: str, labelled: Sequence[_Labelled], top: int) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    later = [f"{name}_{place}" for place in range(2, top + 1) for name in ("label", "confidence")]
    writer.writerow(["path", "label", "confidence", *later])
    for picture in labelled:
        pairs = [(label, f"{probability:.6f}") for label, probability in picture.labels[:top]]
        writer.writerow([picture.path, *(cell for pair in pairs for cell in pair)])
    if where == _STDOUT:
        console.write(text.getvalue().rstrip("\n"))
    else:
        console.write_file(Path(where), text.getvalue())
        console.say(f"Wrote {len(labelled)} rows to {where}.")


def _as_json(
    run: Path, classes: Sequence[str], labelled: Sequence[_Labelled], skipped: Sequence[dict[str, str]]
) -> dict[str, Any]:
    predictions = [
        {
            "path": picture.path,
            "label": picture.labels[0][0],
            "confidence": picture.labels[0][1],
            "probabilities": dict(picture.labels),
        }
        for picture in labelled
    ]
    return {"run": str(run), "classes": list(classes), "predictions": predictions, "skipped": list(skipped)}
