"""A measurement takes long; one that is stopped keeps what it has."""

from __future__ import annotations

import signal
import threading
from collections.abc import Sized
from types import TracebackType


class Stoppable:
    """Within it, Ctrl-C or SIGTERM ends the measuring and no more, if there is a row by then.

    `stopped` tells it afterwards. Without a row, KeyboardInterrupt goes on to who called. Only the main thread hears
    signals.
    """

    def __init__(self, rows: Sized) -> None:
        self.rows = rows
        self.stopped = False
        self._hears = False

    def __enter__(self) -> Stoppable:
        alone = signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if alone and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, signal.default_int_handler)
            self._hears = True
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> bool:
        if self._hears:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._hears = False
        self.stopped = isinstance(error, KeyboardInterrupt)
        return self.stopped and len(self.rows) > 0
