"""How often a trained net is right, how surely that is known, and where it is wrong."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from unicodedata import normalize

import numpy as np
import torch
from numpy.typing import NDArray

from hapgop.errors import InputError
from hapgop.predict import Predictor, Preprocessing
from hapgop.train.batches import looked_through
from hapgop.train.data import Data, Split
from hapgop.train.load import load, load_for

_Z95 = 1.959963984540054
_MOST_VALUES = 1_500_000
_MOST_IMAGES = 256


class PerClass(NamedTuple):
    """Four columns with a row for each class: right answers, images, and Wilson's interval of the share."""

    correct: NDArray[np.int64]
    total: NDArray[np.int64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A net's answers to n images whose labels are known.

    labels: (n,) int64, positions in classes; probabilities: (n, k) float32; names: n of them; images: position to
    uint8 (h, w, c).
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    names: tuple[str, ...]
    images: Callable[[int], NDArray[np.uint8]]
    split: str = "test"

    @cached_property
    def predictions(self) -> NDArray[np.int64]:
        """(n,): the most probable class of each image, the first of equals."""
        best: NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return best

    @property
    def correct(self) -> int:
        """Right answers."""
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """The share of right answers, 0 to 1."""
        return self.correct / len(self.labels)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the accuracy."""
        return wilson(self.correct, len(self.labels))

    @cached_property
    def confusion(self) -> NDArray[np.int64]:
        """(k, k): how many images of class [row] got the label [column]."""
        k = len(self.classes)
        # scikit-learn's own would take longer to import than many a net to train for an epoch.
        cells = np.ravel_multi_index((self.labels, self.predictions), (k, k))
        return np.bincount(cells, minlength=k * k).reshape(k, k).astype(np.int64)

    @property
    def per_class(self) -> PerClass:
        """Right answers of each class, with their interval."""
        correct, total = self.confusion.diagonal(), self.confusion.sum(axis=1)
        bounds = [wilson(c, t) for c, t in zip(correct.tolist(), total.tolist(), strict=True)]
        low, high = np.array(bounds).T
        return PerClass(correct, total, low, high)

    def mistakes(self, top: int | None = None) -> NDArray[np.int64]:
        """Positions of the wrong answers, the surest first; at most `top`."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        sureness = self.probabilities[wrong, self.predictions[wrong]]
        return wrong[np.argsort(-sureness, kind="stable")][:top]

    @cached_property
    def losses(self) -> NDArray[np.float64]:
        """(n,): the cross-entropy of each answer."""
        own = self.probabilities[np.arange(len(self.labels)), self.labels].astype(np.float64)
        result: NDArray[np.float64] = -np.log(np.maximum(own, 1e-12))
        return result

    def top_losses(self, top: int | None = None) -> NDArray[np.int64]:
        """Positions of the wrong answers, the highest loss first, where likely label errors are; at most `top`."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        # Losses that are equal at their limit are told apart by how sure of the other class it was.
        sureness = self.probabilities[wrong, self.predictions[wrong]]
        return wrong[np.lexsort((-sureness, -self.losses[wrong]))][:top]


def wilson(correct: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a share, after Wilson (1927); of nothing, everything is possible.

    >>> [round(bound, 4) for bound in wilson(98, 100)]
    [0.93, 0.9945]
    """
    if total == 0:
        return 0.0, 1.0
    share, z2 = correct / total, _Z95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    reach = _Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # At the ends the exact bound is 0 or 1; rounding must not leave it beside.
    return (0.0 if correct == 0 else middle - reach), (1.0 if correct == total else middle + reach)


def evaluate(
    run: str | os.PathLike[str] | Predictor | torch.nn.Module,
    data: Data | str | os.PathLike[str],
    split: str | None = None,
    *,
    preprocessing: Preprocessing | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """The answers of a trained net to a split whose labels are known.

    run: a run folder or a predictor, which answers exactly as it will in use, or a module of PyTorch. data: what
    `load` or `load_for` gave, or what they take: a run's own data, of which only those held back judge it, or others,
    of which all do. split: "train", "validation", "test" or "all"; None is the test split, where there is none the
    validation split, or all of images that were not cut. preprocessing: for a module that was trained on other data.
    progress is told (images done, images). Raises InputError where net and data do not fit.

    >>> evaluate("runs/digits", "digits").accuracy  # doctest: +SKIP
    0.99
    """
    predictor = None if isinstance(run, torch.nn.Module) else run if isinstance(run, Predictor) else Predictor(run)
    rules = predictor.preprocessing if predictor is not None else preprocessing
    if not isinstance(data, Data):
        if predictor is not None:
            data = load_for(predictor, data)
        elif rules is not None:
            data = load(data, size=rules.size, channels=rules.channels, resize=rules.resize, cut=False)
        else:
            data = load(data)
    rules = rules or data.preprocessing
    shape = (rules.channels, *rules.size)
    if data.input_shape != shape:
        raise InputError(
            f"The net reads images of shape {shape} (c, h, w); those of {data.source} are {data.input_shape}."
            f" load(source, size={rules.size}, channels={rules.channels}) makes them fit."
        )
    name = split or data.unseen
    chosen = data.split(name)
    if isinstance(run, torch.nn.Module):
        classes, labels = data.classes, chosen.labels
        answer = _module_answer(run, len(classes))
    else:
        assert predictor is not None
        classes = predictor.classes
        labels = _translated(chosen.labels, data, classes)
        answer = predictor.probabilities
    probabilities = _probabilities(answer, chosen, rules, progress)
    return Evaluation(classes, labels, probabilities, chosen.names, chosen.image, name)


Answer = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def _probabilities(
    answer: Answer, split: Split, rules: Preprocessing, progress: Callable[[int, int], None] | None
) -> NDArray[np.float32]:
    height, width, channels = split.pixels.shape[1:]
    count = max(1, min(_MOST_IMAGES, _MOST_VALUES // (height * width * channels)))
    rows = []
    for chosen, before in looked_through(0, len(split), count):
        rows.append(answer(rules.batch(split.batch(chosen)))[before:])
        if progress is not None:
            progress(int(chosen[-1]) + 1, len(split))
    return np.concatenate(rows)


def _module_answer(net: torch.nn.Module, classes: int) -> Answer:
    def answer(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        modes = [(module, module.training) for module in net.modules()]
        net.eval()
        try:
            with torch.no_grad():
                logits = net(torch.from_numpy(batch))
        except RuntimeError as error:
            raise InputError(f"The net does not take images of shape {batch.shape[1:]}: {error}") from error
        finally:
            for module, training in modes:
                module.training = training
        if logits.shape[1:] != (classes,):
            raise InputError(f"The net gives {tuple(logits.shape[1:])} numbers; the data have {classes} classes.")
        # In float64, as a predictor does it.
        result: NDArray[np.float32] = torch.softmax(logits.double(), 1).float().numpy()
        return result

    return answer


def _translated(labels: NDArray[np.int64], data: Data, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Labels that count in the data's classes as labels that count in the net's, which may be more."""
    if data.classes == classes:
        # Even where two of them have one name.
        return labels
    # The same letters can be written in two ways: file systems and older runs have both.
    known = {normalize("NFC", name): position for position, name in enumerate(classes)}
    places = np.array([known.get(normalize("NFC", name), -1) for name in data.classes])
    unknown = [data.classes[label] for label in np.unique(labels).tolist() if places[label] < 0]
    if unknown:
        raise InputError(
            f"{data.source}: class {', '.join(map(repr, unknown[:5]))} is not among those that the net knows"
            f" ({', '.join(map(repr, classes[:10]))}{' and more' if len(classes) > 10 else ''})."
        )
    result: NDArray[np.int64] = places[labels]
    return result
