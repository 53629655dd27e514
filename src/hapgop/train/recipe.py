"""Every knob of a training, in one frozen value."""

import dataclasses
import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hapgop.errors import InputError

_CHOICES = {
    "optimizer": ("sgd", "adamw", "muon"),
    "rest": ("adamw", "sgd"),
    "schedule": ("onecycle", "cosine", "steps", "constant"),
    "border": ("black", "edge", "reflect"),
    "keep": ("best", "last"),
}


@dataclass(frozen=True)
class Recipe:
    """How a net is trained. Raises InputError on a setting that makes no sense.

    learning_rate is the peak that the schedule reaches; warmup is the share of all steps that lead up to it
    (see `hapgop.train.schedule`). momentum and nesterov are SGD's and Muon's; rest is what trains that which Muon
    leaves: biases, normalisation and the last layer, and rest_rate its peak. weight_decay spares biases and
    normalisation, which are vectors; SGD beside Muon spares nothing. label_smoothing is PyTorch's. balance: 0 counts
    all images alike, 1 gives each class the same weight in all, between them (share of the class) ** -balance.
    average: the decay per step of the moving average of the weights that is validated and kept; 0 keeps the weights
    themselves.

    flip mirrors each image every other time that it is seen; shift moves it by up to so many pixels both ways, and
    border says what comes in: black, the edge pixel again, or the image reflected. cutout: the side of a square, in
    pixels, that is blanked at a random place. mixup: the alpha of the Beta distribution with which pairs of images
    are mixed. colour: brightness, contrast and saturation change by up to this share. start_size: training begins
    on images of this share of the full side, and grows to it over the first 60 % of the steps; 1 is off. test_flip:
    what is said of an image is the mean of what the net says of it and of its mirror image.

    target_accuracy: training ends after the first epoch whose validation accuracy reaches it; 0 is never. keep: the
    weights of the "best" epoch, or the "last": the best is the last one whose validation accuracy is within a
    standard error of the highest. The seed decides the order of the images, their augmentation, dropout and (for
    nets built by name) the first weights.

    >>> Recipe(epochs=3).to_json()["epochs"]
    3
    """

    epochs: int = 20
    batch_size: int = 64
    optimizer: str = "sgd"
    learning_rate: float = 0.05
    momentum: float = 0.9
    nesterov: bool = True
    rest: str = "adamw"
    rest_rate: float = 0.005
    weight_decay: float = 5e-4
    schedule: str = "onecycle"
    warmup: float = 0.2
    label_smoothing: float = 0.0
    balance: float = 0.0
    average: float = 0.0
    flip: bool = False
    shift: int = 0
    border: str = "black"
    cutout: int = 0
    mixup: float = 0.0
    colour: float = 0.0
    start_size: float = 1.0
    test_flip: bool = False
    target_accuracy: float = 0.0
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
        _within("rest_rate", self.rest_rate, 0, None, open_low=True)
        _within("weight_decay", self.weight_decay, 0, None)
        _within("warmup", self.warmup, 0, 1)
        _within("label_smoothing", self.label_smoothing, 0, 1, open_high=True)
        _within("balance", self.balance, 0, 1)
        _within("average", self.average, 0, 1, open_high=True)
        _within("shift", self.shift, 0, None)
        _within("cutout", self.cutout, 0, None)
        _within("mixup", self.mixup, 0, None)
        _within("colour", self.colour, 0, 1)
        _within("start_size", self.start_size, 0.25, 1)
        _within("target_accuracy", self.target_accuracy, 0, 1)
        _within("seed", self.seed, 0, 2**32, open_high=True)
        if self.optimizer != "adamw" and self.nesterov and self.momentum == 0:
            raise InputError("nesterov needs a momentum above 0; nesterov=False works.")

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, value: Any) -> "Recipe":
        """What `to_json` wrote; what is missing has its default. Raises InputError on unknown settings."""
        if not isinstance(value, Mapping):
            raise InputError("A recipe must be a JSON object.")
        return cls(**known(value))

    def changed(self, **settings: Any) -> "Recipe":
        """This recipe with other settings. Raises InputError on unknown ones."""
        return dataclasses.replace(self, **known(settings))

    def differences(self, other: "Recipe") -> list[str]:
        """ "epochs: 3, not 5" for each setting in which `other` differs."""
        mine, others = self.to_json(), other.to_json()
        return [f"{key}: {mine[key]}, not {others[key]}" for key in mine if mine[key] != others[key]]

    def ended(self, metrics: Sequence[Mapping[str, Any]]) -> bool:
        """Whether a training with such lines of metrics, one for each epoch, has come to its end."""
        reached = bool(metrics) and metrics[-1]["val_accuracy"] >= self.target_accuracy > 0
        return len(metrics) >= self.epochs or reached


def known(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """The settings themselves. Raises InputError where a recipe has none of such a name."""
    names = [field.name for field in dataclasses.fields(Recipe)]
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
