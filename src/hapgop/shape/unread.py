"""Saying once what a setting never reads."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Final

from hapgop.shape.conv import ConvShape
from hapgop.shape.pool import PoolShape

_silent: Final = ContextVar("silent", default=False)


class UnreadInputWarning(UserWarning):
    """The output size was not whole, so some rows or columns of the input are never read."""


def warn_if_unread(shape: ConvShape | PoolShape, where: str) -> None:
    """Warn, once per distinct setting, that rows or columns at the far edge are never read.

    `where` names the layer. A stride longer than the kernel skips pixels everywhere, on purpose; what it
    skips at the edge is counted in `shape.unread` but not warned about.
    """
    if shape.unread != (0, 0) and not _silent.get():
        _warn_once(shape.with_batch(1), where)


@contextmanager
def without_warnings() -> Iterator[None]:
    """Where somebody else's layer is computed by ours: whoever wrote it has not asked for our advice."""
    before = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(before)


@lru_cache(maxsize=1024)
def _warn_once(shape: ConvShape | PoolShape, where: str) -> None:
    rows, columns = shape.rows, shape.columns
    counted = ((rows.surprising, "row"), (columns.surprising, "column"))
    parts = [f"{count} {name}{'s' if count > 1 else ''}" for count, name in counted if count]
    if not parts:
        return
    verb = "are" if rows.surprising + columns.surprising > 1 else "is"
    top, bottom, left, right = shape.padding
    sides = (top, bottom + rows.missing, left, right + columns.missing)
    works = "ceil_mode=True" if isinstance(shape, PoolShape) else f"padding={sides} (top, bottom, left, right)"
    formula = shape.formula().replace("\n", "; ")
    warnings.warn(
        f"{where}: {' and '.join(parts)} of the {shape.ih}x{shape.iw} input {verb} never read: {formula}. "
        f"What would read everything: {works}.",
        UnreadInputWarning,
        stacklevel=3,
    )
