"""Stopping politely: the first Ctrl-C or SIGTERM asks the loop to save, the second ends at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType


class StopRequest:
    """True in a condition once somebody asked to stop; a context manager that listens to signals.

    Works outside the main thread too, where it hears no signals and only `ask` sets it.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._previous: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """0 when nothing was asked, else 128 + the signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 0 if self._signal is None else 128 + self._signal

    def ask(self, signal_number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """Asks to stop; asked twice, raises KeyboardInterrupt where the program stands."""
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signal_number

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self.ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()
