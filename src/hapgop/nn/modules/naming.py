"""Errors that say in which layer they happened."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar, cast

from hapgop.errors import InputError

Forward = TypeVar("Forward", bound=Callable[..., Any])


def named(forward: Forward) -> Forward:
    """Put the layer with its settings before the message of an InputError."""

    @wraps(forward)
    def naming(layer: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return forward(layer, *args, **kwargs)
        except InputError as error:
            raise type(error)(f"{layer}: {error}") from None

    return cast(Forward, naming)
