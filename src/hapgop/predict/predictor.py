"""A run folder becomes a function from pictures to labels."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hapgop.engine import unmeasured
from hapgop.errors import InputError
from hapgop.predict.folder import Run, described, read_run
from hapgop.predict.onnx_file import read_onnx
from hapgop.predict.preprocessing import Picture, Preprocessing
from hapgop.program import Graph, Program
from hapgop.program.sizes import result_sizes

_BATCH = 32
_NAMED = 5


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the net says of one picture: label, its probability, and all probabilities, float32 (k,).

    `path` is the file, or None for a picture that came from memory.
    """

    path: Path | None
    label: str
    confidence: float
    probabilities: NDArray[np.float32]


class Predictor:
    """A trained net from its run folder, or from an ONNX file, at work without PyTorch.

    An ONNX file that others wrote does not say how pictures are made into its input, so `preprocessing` has to;
    `classes` are the labels' names, numbers where they are not given. mirror: whether an answer is the mean of those
    for a picture and for its mirror image. Calling it takes paths, PIL images or uint8 arrays (h, w[, c]) and gives
    one `Prediction` each, in order. The net is planned for a batch size when it first comes, and runs in one native
    call; `program` is what runs, and prints what it does. With `tune`, algorithms that are predicted to be about
    as fast as one another are measured then, which takes some seconds once for each machine; else the first label comes
    soon, by what was measured before and by prediction. Raises InputError naming the file where the folder or a picture
    cannot be used.

    >>> Predictor("runs/demo")(["seven.png"])[0].label  # doctest: +SKIP
    '7'
    """

    classes: tuple[str, ...]
    graph: Graph
    preprocessing: Preprocessing
    tensors: Mapping[str, NDArray[Any]]
    config: Mapping[str, Any]
    program: Program
    mirror: bool

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        preprocessing: Preprocessing | None = None,
        classes: Sequence[str] | None = None,
        tune: bool = False,
    ) -> None:
        path = Path(source)
        if path.suffix.lower() == ".onnx":
            loaded = _of_onnx(path, preprocessing, classes)
        elif preprocessing is not None or classes is not None:
            raise InputError(f"{path}: a run folder has its own preprocessing and classes; they are not to be given.")
        else:
            loaded = read_run(path)
        # Softmax is taken here, of the scores: nets that end with their own would have it twice.
        self.classes, self.graph, self.config = loaded.classes, loaded.graph.scores(), loaded.config
        self.preprocessing, self.tensors = loaded.preprocessing, loaded.tensors
        self.program = Program(self.graph, self.tensors)
        told = self.config.get("prediction")
        self._planning: Callable[[], AbstractContextManager[None]] = nullcontext if tune else unmeasured
        self.mirror = bool(told.get("mirror")) if isinstance(told, Mapping) else False

    def __call__(self, images: Picture | Iterable[Picture]) -> list[Prediction]:
        pictures = iter(_many(images))
        predictions: list[Prediction] = []
        while batch := list(islice(pictures, _BATCH)):
            predictions += self._label(batch)
        return predictions

    def prepare(self, image: Picture) -> NDArray[np.float32]:
        """One picture as the net reads it, float32 (c, h, w)."""
        return self.preprocessing(image)

    def logits(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """The net's outputs, float32 (n, classes), for prepared pictures (n, c, h, w).

        Where the run was trained so, they are the mean of those for the pictures and for their mirror images.
        """
        with self._planning():
            outputs = self.program(batch)
            if self.mirror:
                outputs = np.float32(0.5) * (outputs + self.program(mirrored(batch)))
        return outputs

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Softmax of the logits, float32 (n, classes); each row sums to 1.

        Raises InputError where the net's answer is no number, as labels would then mean nothing.
        """
        scores = self.logits(batch).astype(np.float64)
        if not np.isfinite(scores).all():
            raise InputError("The net's answer is no number (NaN or infinite); its weights cannot be right.")
        scores = np.exp(scores - scores.max(axis=1, keepdims=True))
        result: NDArray[np.float32] = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
        return result

    def _label(self, images: Sequence[Picture]) -> list[Prediction]:
        pixels = np.stack([self.preprocessing.pixels(image) for image in images])
        rows = self.probabilities(self.preprocessing.batch(pixels))
        return [self._prediction(image, row) for image, row in zip(images, rows, strict=True)]

    def _prediction(self, image: Picture, row: NDArray[np.float32]) -> Prediction:
        best = int(row.argmax())
        path = Path(image) if isinstance(image, str | os.PathLike) else None
        return Prediction(path, self.classes[best], float(row[best]), row)


def mirrored(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy with left and right exchanged, laid out in memory as the batch itself is."""
    copy = np.empty_like(batch)
    copy[...] = batch[..., ::-1]
    return copy


def _of_onnx(path: Path, preprocessing: Preprocessing | None, classes: Sequence[str] | None) -> Run:
    graph, tensors, config = read_onnx(path)
    if config is not None:
        if preprocessing is not None or classes is not None:
            raise InputError(f"{path}: this file has its own preprocessing and classes; they are not to be given.")
        return Run(path, config, *described(config, path), tensors)
    if preprocessing is None:
        raise InputError(
            f"{path}: this ONNX file does not say how pictures are prepared: give Predictor a preprocessing."
        )
    made = (preprocessing.channels, *preprocessing.size)
    if graph.input_shape != made:
        raise InputError(f"{path}: the net reads images of {graph.input_shape}, but the preprocessing makes {made}.")
    outputs = result_sizes(graph)[graph.output]
    if outputs == (1,):  # of which the softmax is 1, whatever it is
        raise InputError(f"{path}: the net gives one number; a classifier gives one for each of two labels or more.")
    names = tuple(map(str, range(outputs[0]))) if classes is None else tuple(classes)
    if outputs != (len(names),):
        raise InputError(f"{path}: the net gives {outputs} numbers for {len(names)} classes.")
    # By their names probabilities are told in JSON, where the second would take the first one's place.
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        more = f" and {len(twice) - _NAMED:,} more" if len(twice) > _NAMED else ""
        raise InputError(
            f"{path}: classes has {', '.join(map(repr, twice[:_NAMED]))}{more} more than once. Each class needs a name"
            " of its own, such as 'crane (bird)'."
        )
    return Run(path, {}, graph, names, preprocessing, tensors)


def _many(images: Picture | Iterable[Picture]) -> Iterable[Picture]:
    if isinstance(images, str | os.PathLike | Image.Image):
        return [images]
    if isinstance(images, np.ndarray) and images.ndim in (2, 3):
        return [images]
    if not isinstance(images, Iterable):
        raise InputError(f"Pictures are paths, PIL images or uint8 arrays, not {type(images).__name__}.")
    return images
