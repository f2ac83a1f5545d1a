"""Stopping politely: the first signal asks the loop to save, the second ends at once.

Listened to are Ctrl-C, SIGTERM, SIGHUP (the terminal or the connection was closed) and SIGUSR1
(batch systems send it before they end a job).
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from types import FrameType

#: What asks a run to save and stop; systems without one of them lack it.
SIGNALS = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if (number := getattr(signal, name, None)) is not None
)


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
        """0 when nothing was asked, else 128 + the signal: 130 for Ctrl-C, 143 for SIGTERM, ..."""
        return 0 if self._signal is None else 128 + self._signal

    def ask(self, signal_number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """Asks to stop; asked twice, raises KeyboardInterrupt where the program stands."""
        if self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signal_number
        if signal_number == getattr(signal, "SIGHUP", None):
            _leave_the_terminal()

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` asks for
                    self._previous[number] = signal.signal(number, self.ask)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()


def _leave_the_terminal() -> None:
    """Output to a terminal that is gone would be an error, in the middle of saving."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
