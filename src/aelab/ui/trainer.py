"""A process that trains one experiment file for the page; started by `training.Trainings`.

It is told what to do by one line of JSON on its standard input, and tells every event by one on its
standard output. When the input ends, because the page says so or is gone, it saves and ends.
"""

from __future__ import annotations

import json
import sys
import threading
from dataclasses import asdict
from typing import Any

from aelab.errors import AelabError
from aelab.execute.events import Event
from aelab.execute.stop import StopRequest
from aelab.lab import Lab


def event_json(event: Event) -> dict[str, Any]:
    """An event as plain data, its type as `event`."""
    return {"event": type(event).__name__, **asdict(event)}


def tell(entry: dict[str, Any]) -> None:
    """Writes one line."""
    sys.stdout.write(json.dumps(entry, default=str) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Trains what the first line of the input says, until the input ends."""
    given = json.loads(sys.stdin.readline())
    # What the runs note as their command is the one that continues them without the page.
    sys.argv = ["aelab", "run", given["file"]]
    stop = StopRequest()

    def wait() -> None:
        """Until the input ends."""
        sys.stdin.read()
        stop.ask()

    threading.Thread(target=wait, daemon=True).start()
    lab = Lab(given["runs"], given["data"], given["trust"], given["device"])
    try:
        for event in lab.run(
            given["file"], only=given["only"], stop=stop, jobs=given["jobs"],
            retry_failed=given["retry_failed"],
        ):  # fmt: skip
            tell(event_json(event))
    except AelabError as error:
        tell({"event": "Refused", "message": str(error)})
        sys.exit(1)


if __name__ == "__main__":
    main()
