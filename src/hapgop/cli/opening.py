"""The net that a command is given: the folder of a run, or an ONNX file and what it does not say of itself."""

from __future__ import annotations

from pathlib import Path

from hapgop.cli import console
from hapgop.errors import InputError
from hapgop.predict import Predictor, Preprocessing, read_onnx


def opened_net(source: Path, mean: str | None = None, std: str | None = None, classes: Path | None = None) -> Predictor:
    """The net with its preprocessing and labels.

    Raises InputError where a run is told what it knows itself, and on values that make no sense.
    """
    given = {"--mean": mean, "--std": std, "--classes": classes}
    told = next((name for name, value in given.items() if value is not None), None)
    if source.suffix.lower() != ".onnx":
        if told:
            raise InputError(f"{source} is no ONNX file; a run knows its own preprocessing and labels, without {told}.")
        return Predictor(source)
    net = read_onnx(source)
    if net.config is not None:
        if told:
            raise InputError(f"{source} was exported by hapgop and knows its preprocessing and labels, without {told}.")
        return Predictor(source)
    channels, height, width = net.graph.input_shape
    rules = Preprocessing(
        (height, width), channels, _numbers("--mean", mean, channels, 0.0), _numbers("--std", std, channels, 1.0)
    )
    if mean is None and std is None:
        console.say("Pictures are given to the net as numbers from 0 to 1; --mean and --std say otherwise.")
    return Predictor(source, preprocessing=rules, classes=None if classes is None else _lines(classes))


def _numbers(option: str, text: str | None, channels: int, otherwise: float) -> tuple[float, ...]:
    if text is None:
        return (otherwise,) * channels
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} is {text!r}; numbers with commas between them are wanted: 0.5,0.5,0.5.") from error
    return values * channels if len(values) == 1 else values


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: no text that could be read ({error}).") from error
    return [line.strip() for line in lines if line.strip()]
