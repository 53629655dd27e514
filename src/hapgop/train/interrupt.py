"""Ctrl-C as a wish: heard at once, obeyed where nothing is half done."""

import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """Inside, the first Ctrl-C sets `asked`; a second one raises KeyboardInterrupt as ever.

    Only the main thread hears signals; elsewhere, and where somebody else already listens, nothing is changed.
    """

    def __init__(self) -> None:
        self.asked = False
        self._listening = False

    def __enter__(self) -> "Interrupt":
        main = threading.current_thread() is threading.main_thread()
        if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._heard)
            self._listening = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listening:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
