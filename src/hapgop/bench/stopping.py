"""A measurement takes long; one that is stopped keeps what it has."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from types import TracebackType


@dataclass(slots=True)
class Stoppable:
    """Within it, Ctrl-C ends the measuring and no more, if there is a row by then; `stopped` tells it afterwards."""

    rows: Sized
    stopped: bool = False

    def __enter__(self) -> Stoppable:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        self.stopped = isinstance(error, KeyboardInterrupt)
        return self.stopped and len(self.rows) > 0
