"""How commands compute: the precision that is asked for, and no measuring where it cannot pay."""

from __future__ import annotations

from hapgop.engine import get_tuning, set_precision, set_tuning


def use_precision(precision: str | None) -> None:
    """Has the engine compute so; None leaves it as it is."""
    if precision is not None:
        set_precision(str(precision))


def briefly() -> None:
    """For a command that is soon done: what was measured before is used, nothing is measured."""
    if get_tuning() == "close":
        set_tuning("kept")
