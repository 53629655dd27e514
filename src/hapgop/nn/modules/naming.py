"""Errors that say in which layer they happened."""

from collections.abc import Callable
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

from hapgop.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")
Layer = TypeVar("Layer")


def named(forward: Callable[Concatenate[Layer, P], R]) -> Callable[Concatenate[Layer, P], R]:
    """Put the layer with its settings before the message of an InputError."""

    @wraps(forward)
    def naming(layer: Layer, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return forward(layer, *args, **kwargs)
        except InputError as error:
            raise type(error)(f"{layer}: {error}") from None

    return naming
