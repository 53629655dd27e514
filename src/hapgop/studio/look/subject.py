"""What is looked at: a net with its labels, and the pictures that are shown to it."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from hapgop import explain
from hapgop.errors import InputError
from hapgop.predict import Picture, Predictor, Preprocessing, open_image
from hapgop.predict.predictor import mirrored

_PICTURES = 512
# Of a drawing or a camera: enough that one can still ask about the last frame, for a few visitors at once.
_FRAMES = 8
_LARGER = 128
_MAPS_BYTES = 256 * 2**20
# So many samples are looked through for what excites a filter, and for which answer to nothing.
_LOOKED_THROUGH = 64


@dataclass(frozen=True, eq=False)
class Sample:
    """A picture to begin with: its name, the picture (it may be a path), and the truth where it is known."""

    name: str
    picture: Picture
    truth: str | None = None


@dataclass(frozen=True, eq=False)
class Shown:
    """A picture as the net takes it: pixels, uint8 (h, w, c), and numbers, float32 (c, h, w).

    `larger`, uint8 (h, w, c): the picture before it was made to fit, at most 128 pixels wide or high.
    """

    id: str
    name: str
    pixels: NDArray[np.uint8]
    x: NDArray[np.float32]
    larger: NDArray[np.uint8]
    truth: str | None = None


@dataclass(frozen=True, eq=False)
class _Made:
    """What the engine makes of a picture: all maps, and the scores that the answer is taken from."""

    maps: dict[str, NDArray[np.float32]]
    scores: NDArray[np.float32]


@dataclass(eq=False)
class Subject:
    """A net and its pictures. Safe for several browsers at once; memory is bounded, old pictures are forgotten."""

    title: str
    net: explain.Opened
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    samples: Sequence[Sample] = ()
    taught: Callable[[], Sequence[Sample]] | None = None
    """Pictures that the net was trained on, if they are known; asked for when they are first wanted."""
    mirror: bool = False
    """Whether an answer is the mean of those for a picture and for its mirror image, as the predictor's."""
    _pictures: "OrderedDict[str, Shown]" = field(default_factory=OrderedDict)
    _frames: "OrderedDict[str, Shown]" = field(default_factory=OrderedDict)
    _given: dict[str, Shown] = field(default_factory=dict)
    """Samples and lessons by their id: as many as there are, so they need not be forgotten."""
    _maps: "OrderedDict[str, _Made]" = field(default_factory=OrderedDict)
    _peaks: dict[str, explain.Peaks] = field(default_factory=dict)
    _sampled: dict[int, Shown] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)
    _looking: Lock = field(default_factory=Lock)

    @classmethod
    def of(
        cls,
        title: str,
        predictor: Predictor,
        samples: Sequence[Sample] = (),
        taught: Callable[[], Sequence[Sample]] | None = None,
    ) -> "Subject":
        """Of a trained run or an ONNX file; without any sample, a grey picture stands in."""
        net, rules = explain.opened(predictor), predictor.preprocessing
        return cls(title, net, predictor.classes, rules, samples, taught, predictor.mirror)

    @classmethod
    def of_module(
        cls,
        title: str,
        module: nn.Module,
        preprocessing: Preprocessing,
        classes: Sequence[str] | None = None,
        samples: Sequence[Sample] = (),
    ) -> "Subject":
        """Of any module of PyTorch's or our layers, as it is now; `classes` are numbers where they are not given.

        Raises InputError where the module does what a graph cannot express, or its answers are not as many.
        """
        net = explain.opened(module, np.zeros((preprocessing.channels, *preprocessing.size), np.float32))
        outputs = net.sizes[net.graph.output]
        if len(outputs) != 1:
            raise InputError(f"The net gives {' x '.join(map(str, outputs))} numbers; one score a label is wanted.")
        names = tuple(map(str, range(outputs[0]))) if classes is None else tuple(classes)
        if len(names) != outputs[0]:
            raise InputError(f"The net gives {outputs[0]} scores, but {len(names)} labels are named.")
        return cls(title, net, names, preprocessing, samples)

    def show(self, picture: Picture, name: str = "", truth: str | None = None) -> Shown:
        """Takes a picture in; equal pixels have equal ids."""
        return self._keep(self._pictures, _PICTURES, self._made(picture, name, truth))

    def frame(self, picture: Picture) -> Shown:
        """Takes in one of many pictures that follow each other; it is soon forgotten, unless it is asked for."""
        return self._keep(self._frames, _FRAMES, self._made(picture, "live", None))

    def sample(self, number: int) -> Shown:
        """One of the pictures to begin with."""
        if not self.samples:
            return self._give(Sample("grey", np.full((*self.preprocessing.size, 3), 128, np.uint8)))
        number %= len(self.samples)
        if number not in self._sampled:
            self._sampled[number] = self._give(self.samples[number])
        return self._sampled[number]

    def looked_through(self) -> list[Shown]:
        """The first samples: enough to tell what a filter answers to."""
        return [self.sample(number) for number in range(min(len(self.samples), _LOOKED_THROUGH))]

    def peaks(self, layer: str) -> explain.Peaks:
        """What excites the channels of a layer among the samples. Raises InputError where there is no such layer."""
        # Who steps through the channels asks again before the first answer: all of them wait for the same one.
        with self._looking:
            if layer not in self._peaks:
                self._peaks[layer] = explain.peaks(self.net, [one.x for one in self.looked_through()], layer)
            return self._peaks[layer]

    @cached_property
    def lessons(self) -> list[Shown]:
        """Some of the pictures that the net was trained on, made to fit; none where they are not known."""
        return [self._give(one) for one in (self.taught() if self.taught else ())]

    def picture(self, identity: str) -> Shown:
        """Raises InputError where it was never shown, or has been forgotten."""
        found = self._found(identity) or self._samples_by_id.get(identity) or self._lessons_by_id.get(identity)
        if found is None:
            raise InputError("This picture is not here any more. Choose or drop it again.")
        return found

    @cached_property
    def _samples_by_id(self) -> dict[str, Shown]:
        """Every sample, shown once: a link to one outlives the server that it was made on."""
        found = {}
        for number in range(max(1, len(self.samples))):
            with suppress(InputError):
                found[self.sample(number).id] = self.sample(number)
        return found

    @cached_property
    def _lessons_by_id(self) -> dict[str, Shown]:
        """As samples, so pictures of the training: a link to one outlives the server, too."""
        with suppress(InputError):
            return {one.id: one for one in self.lessons}
        return {}

    def _found(self, identity: str) -> Shown | None:
        with self._lock:
            if identity in self._given:
                return self._given[identity]
            if identity in self._frames:
                self._pictures[identity] = self._frames.pop(identity)
            if identity in self._pictures:
                self._pictures.move_to_end(identity)
            return self._pictures.get(identity)

    def _made(self, picture: Picture, name: str, truth: str | None) -> Shown:
        pixels = self.preprocessing.pixels(picture)
        x = np.ascontiguousarray(self.preprocessing.batch(pixels[np.newaxis])[0])
        identity = hashlib.sha256(pixels.tobytes()).hexdigest()[:12]
        return Shown(identity, name, pixels, x, _larger(picture, pixels), truth)

    def _give(self, one: Sample) -> Shown:
        shown = self._made(one.picture, one.name, one.truth)
        with self._lock:
            return self._given.setdefault(shown.id, shown)

    def _keep(self, shelf: "OrderedDict[str, Shown]", room: int, shown: Shown) -> Shown:
        with self._lock:
            shelf.setdefault(shown.id, shown)
            shelf.move_to_end(shown.id)
            if len(shelf) > room:
                shelf.popitem(last=False)
        return shown

    def maps(self, shown: Shown) -> Mapping[str, NDArray[np.float32]]:
        """Everything that the engine makes of a picture, without its mirror image."""
        return self._of(shown).maps

    def answer(self, shown: Shown) -> list[float]:
        """The probability of each label. Raises InputError where that is no number."""
        scores = self._of(shown).scores
        if not np.isfinite(scores).all():
            raise InputError("The net's answer is no number (NaN or infinite); its weights cannot be right.")
        values: list[float] = explain.probabilities(scores).tolist()
        return values

    def _of(self, shown: Shown) -> _Made:
        """Kept for the last few."""
        with self._lock:
            if shown.id in self._maps:
                self._maps.move_to_end(shown.id)
                return self._maps[shown.id]
        maps = self.net.maps(shown.x)
        scores = maps[self.net.graph.output]
        if self.mirror:
            scores = np.float32(0.5) * (scores + self.net.maps(mirrored(shown.x))[self.net.graph.output])
        made = _Made(maps, scores)
        with self._lock:
            self._maps[shown.id] = made
            while len(self._maps) > 1 and sum(map(_size, self._maps.values())) > _MAPS_BYTES:
                self._maps.popitem(last=False)
        return made


def _size(made: _Made) -> int:
    return sum(array.nbytes for array in made.maps.values())


def _larger(picture: Picture, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if isinstance(picture, str | os.PathLike):
        picture = open_image(picture, (_LARGER, _LARGER))
    elif isinstance(picture, np.ndarray):
        if picture.ndim != 3 or picture.shape[2] != 3:
            return pixels
        picture = Image.fromarray(picture)
    made = picture.copy()
    made.thumbnail((_LARGER, _LARGER))
    return np.atleast_3d(np.asarray(made, np.uint8))
