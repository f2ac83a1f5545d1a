"""`aelab` and `python -m aelab`: handles Ctrl-C before anything slow is imported."""

from __future__ import annotations

import signal
import sys
from types import FrameType


def main() -> None:
    """Runs a verb. Ctrl-C during the start ends it without a message: exit code 130."""
    interrupted = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        """Also sets a flag: C code may swallow the exception during an import."""
        nonlocal interrupted
        interrupted = True
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGINT, interrupt)
        from aelab.cli.main import main as run_verb

        run_verb()
    except BaseException as error:
        # An interrupted import fails in many ways.
        if not interrupted and not isinstance(error, KeyboardInterrupt):
            raise
        sys.exit(130)
    if interrupted:
        sys.exit(130)


if __name__ == "__main__":
    main()
