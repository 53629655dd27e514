"""Ctrl-C as a wish: heard at once, obeyed where nothing is half done."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any

_WISHES = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Inside, the first Ctrl-C (or SIGTERM) sets `asked`; a second one raises KeyboardInterrupt as ever.

    patient: a second one is only the same wish again, as torchrun hands on what the terminal has sent already. Only
    the main thread hears signals; elsewhere, and where somebody else already listens, nothing is changed.
    """

    def __init__(self, *, patient: bool = False) -> None:
        self.asked = False
        self._patient = patient
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in _WISHES:
                if signal.getsignal(number) in (signal.default_int_handler, signal.SIG_DFL):
                    self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked and not self._patient:
            raise KeyboardInterrupt
        self.asked = True
