"""Who has to decide anew when a setting changes."""

from __future__ import annotations

from collections.abc import Callable

_told: list[Callable[[], object]] = []


def on_change(forget: Callable[[], object]) -> None:
    """Has `forget` called whenever precision or tuning is set anew: for those who keep prepared problems."""
    _told.append(forget)


def changed() -> None:
    """A setting is another one from now on."""
    for forget in _told:
        forget()
