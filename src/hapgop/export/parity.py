"""Whether a written file answers as the net does that it was written from: asked, picture by picture."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.export.model import TAKES
from hapgop.predict import Picture, Predictor
from hapgop.predict.preprocessing import opened

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# So many pictures are asked about where only the reference computes.
_FEW: Final = 4


@dataclass(frozen=True)
class Parity:
    """runtime: what computed the file; pictures: how many were asked about; same: how many got the same label.

    difference: the largest difference between two probabilities of one label.
    """

    runtime: str
    pictures: int
    same: int
    difference: float


def compared(path: str | os.PathLike[str], predictor: Predictor, pictures: Iterable[Picture]) -> Parity:
    """Asks an exported file, and the net that it was made from, about the same pictures.

    The file is given every pixel of them, as other programs do; the net reads large JPEGs at a fraction. It is computed
    by ONNX Runtime where that is installed. Else the reference in the package onnx, which is slow, is asked about the
    first four. Raises InputError where there is no picture, or one cannot be read.
    """
    slow = importlib.util.find_spec("onnxruntime") is None
    runtime, answer = (_reference if slow else _onnxruntime)(os.fspath(path))
    count = same = 0
    difference = 0.0
    for picture in islice(pictures, _FEW if slow else None):
        ours = predictor([picture])[0].probabilities
        theirs = answer(np.asarray(opened(picture).convert("RGB"))[None])[0]
        count += 1
        same += int(ours.argmax() == theirs.argmax())
        difference = max(difference, float(np.abs(ours - theirs).max()))
    if not count:
        raise InputError(f"{path}: no picture was given to compare it by.")
    return Parity(runtime, count, same, difference)


def _onnxruntime(path: str) -> tuple[str, Answer]:
    library = importlib.import_module("onnxruntime")
    options = library.SessionOptions()
    options.log_severity_level = 3
    session = library.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return f"ONNX Runtime {library.__version__}", _asking(session)


def _reference(path: str) -> tuple[str, Answer]:
    onnx, reference = (importlib.import_module(name) for name in ("onnx", "onnx.reference"))
    return f"onnx {onnx.__version__}'s reference", _asking(reference.ReferenceEvaluator(path))


def _asking(session: Any) -> Answer:
    def answer(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        given: NDArray[np.float32] = session.run(None, {TAKES: pixels})[0]
        return given

    return answer
