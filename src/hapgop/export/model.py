"""A trained net as one ONNX file, from pixels of any size to probabilities, with its labels."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from hapgop._version import __version__
from hapgop.errors import InputError
from hapgop.export.pictures import write_pictures
from hapgop.export.words import write_graph
from hapgop.export.writer import OPSET, Value, Writer
from hapgop.files import write_whole
from hapgop.predict import Predictor
from hapgop.predict.folder import FORMAT
from hapgop.predict.onnx_file import CONFIG_KEY

TAKES: Final = "pictures"
GIVES: Final = "probabilities"
# A hash of them, how they were cut, and how many they were: so `hapgop evaluate` judges by what the net has not seen.
_OF_DATA: Final = ("mark", "seed", "validation_share", "train", "validation", "test")


@dataclass(frozen=True)
class Exported:
    """A file that was written: its size in bytes, the opset, what it takes and what it gives."""

    path: Path
    size: int
    opset: int
    takes: str
    gives: str


def to_onnx(predictor: Predictor, path: str | os.PathLike[str], *, overwrite: bool = False) -> Exported:
    """Writes the net with its preprocessing, its softmax and its labels into an ONNX file.

    The file takes `pictures`, uint8 RGB (n, height, width, 3) of any size, and gives `probabilities`, float32
    (n, classes). Its metadata hold "classes", a JSON list of the labels, and "hapgop", by which `Predictor(path)`
    knows the net again. Needs the package onnx. Raises InputError where the file is there already, or cannot be
    written.

    >>> to_onnx(Predictor("runs/demo"), "demo.onnx").gives  # doctest: +SKIP
    'probabilities: float32 (n, 10)'
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise InputError(f"{path}: there is a file already. overwrite=True (--overwrite) replaces it.")
    writer, graph, rules = Writer(), predictor.graph, predictor.preprocessing
    for name in (graph.input, *(node.name for node in graph.nodes), *graph.tensor_names()):
        if name in (TAKES, GIVES):
            raise InputError(
                f"{path}: the net has a value of its own called {name!r}, as what the file takes or gives is called."
                " Give it another name in the file that it comes from."
            )
    if not predictor.mirror:
        write_pictures(writer, rules, TAKES, graph.input)
        scores = write_graph(writer, graph)
    else:
        write_pictures(writer, rules, TAKES, f"{graph.input}:plain")
        # The mirror images go through the net with the pictures, as its second half of a batch.
        mirrored = writer.sliced(f"{graph.input}:plain", 3, -1, np.iinfo(np.int64).min, -1)
        writer.add("Concat", [f"{graph.input}:plain", mirrored], graph.input, axis=0)
        scores = writer.add("Mul", [_halves_added(writer, write_graph(writer, graph)), writer.constant(0.5)])
    writer.add("Softmax", [scores], GIVES, axis=1)
    takes = Value(TAKES, np.uint8, ("n", "height", "width", 3))
    gives = Value(GIVES, np.float32, ("n", len(predictor.classes)))
    told = {"classes": json.dumps(predictor.classes), CONFIG_KEY: json.dumps(_config(predictor))}
    tensors = {name: predictor.tensors[name] for name in graph.tensor_names()}
    model = writer.model(path.stem, takes, gives, tensors, told)
    writer.onnx.checker.check_model(model)
    content = model.SerializeToString()
    try:
        write_whole(path, content)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
    return Exported(path, len(content), OPSET, _said(takes), _said(gives))


def _halves_added(writer: Writer, both: str) -> str:
    first, second = f"{both}:plain", f"{both}:mirrored"
    writer.nodes.append(writer.onnx.helper.make_node("Split", [both], [first, second], axis=0, num_outputs=2))
    return writer.add("Add", [first, second])


def _config(predictor: Predictor) -> dict[str, object]:
    """The parts of a run's config.json that say what it computes, and by which its data can be known again.

    Where those lie, and by which command the net was made, stays at home.
    """
    data = predictor.config.get("data")
    known = {key: data[key] for key in _OF_DATA if key in data} if isinstance(data, dict) else {}
    return {
        "format": FORMAT,
        "hapgop": __version__,
        "graph": predictor.graph.to_json(),
        "classes": list(predictor.classes),
        "preprocessing": predictor.preprocessing.to_json(),
        "prediction": {"mirror": predictor.mirror},
        "data": known,
    }


def _said(value: Value) -> str:
    return f"{value.name}: {np.dtype(value.dtype).name} ({', '.join(map(str, value.sides))})"
