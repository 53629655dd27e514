"""Every knob of a training, in one frozen value."""

import dataclasses
import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hapgop.errors import InputError
from hapgop.train.data import Data

_CHOICES = {
    "optimizer": ("sgd", "adamw"),
    "schedule": ("onecycle", "cosine", "constant"),
    "border": ("black", "edge", "reflect"),
    "keep": ("best", "last"),
}


@dataclass(frozen=True)
class Recipe:
    """How a net is trained. Raises InputError on a setting that makes no sense.

    learning_rate is the peak that the schedule reaches; warmup is the share of all steps that lead up to it
    (see `hapgop.train.schedule`). momentum and nesterov are SGD's. weight_decay spares biases and
    normalisation, which are vectors. label_smoothing is PyTorch's. flip mirrors every other image; shift moves
    each image by up to so many pixels both ways, and border says what comes in: black, the edge pixel again,
    or the image reflected. keep: the weights of the "best" epoch, or the "last": the best is the last one whose
    validation accuracy is within a standard error of the highest.
    The seed decides the order of the images, their augmentation, dropout and (for nets built by name) the
    first weights.

    >>> Recipe(epochs=3).to_json()["epochs"]
    3
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: str = "onecycle"
    warmup: float = 0.2
    label_smoothing: float = 0.0
    flip: bool = False
    shift: int = 0
    border: str = "black"
    keep: str = "best"
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _typed(field.name, field.default, getattr(self, field.name)))
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise InputError(f"{name} is one of {', '.join(choices)}, not {getattr(self, name)!r}.")
        _within("epochs", self.epochs, 1, None)
        _within("batch_size", self.batch_size, 1, None)
        _within("learning_rate", self.learning_rate, 0, None, open_low=True)
        _within("momentum", self.momentum, 0, 1, open_high=True)
        _within("weight_decay", self.weight_decay, 0, None)
        _within("warmup", self.warmup, 0, 1)
        _within("label_smoothing", self.label_smoothing, 0, 1, open_high=True)
        _within("shift", self.shift, 0, None)
        _within("seed", self.seed, 0, 2**32, open_high=True)
        if self.optimizer == "sgd" and self.nesterov and self.momentum == 0:
            raise InputError("nesterov needs a momentum above 0; nesterov=False works.")

    @classmethod
    def suggested(cls, data: Data, **changes: Any) -> "Recipe":
        """A good start for this kind of data; `changes` override single settings.

        Grey images (digits, letters) are shifted but never mirrored; colour images are both. Few images are seen
        more often.
        """
        channels, height, width = data.input_shape
        side, images = min(height, width), len(data.train)
        settings: dict[str, Any] = {"label_smoothing": 0.1}
        if channels == 1:
            settings |= {"epochs": _between(3, 40, 150_000 // images), "shift": max(1, side // 20)}
        else:
            settings |= {"epochs": _between(10, 40, 100_000 // images), "shift": max(1, side // 8)}
            settings |= {"border": "reflect", "flip": True}
        return cls(**_known(cls, {**settings, **changes}))

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Recipe":
        """What `to_json` wrote; what is missing has its default. Raises InputError on unknown settings."""
        if not isinstance(value, Mapping):
            raise InputError("A recipe must be a JSON object.")
        return cls(**_known(cls, value))

    def differences(self, other: "Recipe") -> list[str]:
        """ "epochs: 3, not 5" for each setting in which `other` differs."""
        mine, others = self.to_json(), other.to_json()
        return [f"{key}: {mine[key]}, not {others[key]}" for key in mine if mine[key] != others[key]]


def _between(low: int, high: int, value: int) -> int:
    return max(low, min(high, value))


def _known(cls: type[Recipe], settings: Mapping[str, Any]) -> Mapping[str, Any]:
    names = [field.name for field in dataclasses.fields(cls)]
    for key in settings:
        if key not in names:
            near = difflib.get_close_matches(str(key), names, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}."
            raise InputError(f"A recipe has no setting {key!r}; {hint}")
    return settings


def _typed(name: str, default: Any, value: Any) -> Any:
    """`value` as the type of the setting's default; whole numbers do for real ones, and 3.0 for 3."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise InputError(f"{name} is true or false, not {value!r}.")
    elif isinstance(default, int):
        if not number or value != int(value) if number and math.isfinite(value) else True:
            raise InputError(f"{name} is a whole number, not {value!r}.")
        return int(value)
    elif isinstance(default, float):
        if not number or not math.isfinite(value):
            raise InputError(f"{name} is a number, not {value!r}.")
        return float(value)
    return value


def _within(
    name: str, value: float, low: float, high: float | None, *, open_low: bool = False, open_high: bool = False
) -> None:
    too_low = value <= low if open_low else value < low
    too_high = high is not None and (value >= high if open_high else value > high)
    if too_low or too_high:
        above = f"above {low:g}" if open_low else f"at least {low:g}"
        below = "" if high is None else f" and {'below' if open_high else 'at most'} {high:g}"
        raise InputError(f"{name} must be {above}{below}, not {value:g}.")
