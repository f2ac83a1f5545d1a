"""Stop requests: the first signal makes the loop save and stop, the second ends at once.

The signals are Ctrl-C, SIGTERM, SIGHUP (the terminal or the connection was closed) and SIGUSR1
(batch systems send it before they end a job).
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
import threading
from types import FrameType

#: Signals that ask a run to save and stop, as far as the system has them.
SIGNALS = tuple(
    number
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if (number := getattr(signal, name, None)) is not None
)


class StopRequest:
    """A flag that is true once a stop was requested; as a context manager it handles signals.

    Outside the main thread it gets no signals; there only `ask` sets it.
    """

    def __init__(self) -> None:
        self._signal: int | None = None
        self._previous: dict[int, object] = {}

    def __bool__(self) -> bool:
        return self._signal is not None

    @property
    def exit_code(self) -> int:
        """0 without a request, else 128 + the signal: 130 for Ctrl-C, 143 for SIGTERM, ..."""
        return 0 if self._signal is None else 128 + self._signal

    def ask(self, signal_number: int = signal.SIGINT, frame: FrameType | None = None) -> None:
        """Requests a stop; the second call raises KeyboardInterrupt, which ends at once."""
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
    """Sends output to nowhere: writing to a closed terminal would raise while a run is saved."""
    for descriptor in (1, 2):
        with contextlib.suppress(OSError):
            if stat.S_ISCHR(os.fstat(descriptor).st_mode):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
