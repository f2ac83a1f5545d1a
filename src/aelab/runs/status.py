"""What a run is doing: its state, and whether the process that said `running` still lives."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

#: `waiting` is a run that was made and not yet started.
STATES = ("waiting", "running", "finished", "failed", "interrupted")

#: A run on another machine counts as dead when it gave no sign for so long.
SILENCE_SECONDS = 3600.0


def now() -> str:
    """The present moment as ISO text in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def age_seconds(status: Mapping[str, Any]) -> float | None:
    """Seconds since `status` was written, or None where it does not say."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(status["updated"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def this_process() -> dict[str, Any]:
    """Who is at work: process number, its start mark (numbers are reused), machine."""
    return {"pid": os.getpid(), "mark": process_mark(os.getpid()), "host": platform.node()}


def process_mark(pid: int) -> str | None:
    """When process `pid` began, in the system's own ticks; None where that cannot be known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def is_alive(owner: Mapping[str, Any], silent_seconds: float | None = None) -> bool:
    """Whether the process described by `this_process` is still there.

    Args:
        owner: `pid`, `mark`, `host`.
        silent_seconds: for another machine, where one cannot look: time since its last sign.
    """
    if owner.get("host") != platform.node():
        return silent_seconds is not None and silent_seconds < SILENCE_SECONDS
    pid = owner.get("pid")
    if not isinstance(pid, int) or not 0 < pid < 2**31:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # alive, but somebody else's
    mark = owner.get("mark")
    return mark is None or process_mark(pid) in (None, mark)


def actual_state(status: Mapping[str, Any]) -> str:
    """The state, one of `STATES`; `running` counts only while its process lives."""
    state = status.get("state", "waiting")
    if state not in STATES:
        return "interrupted"
    if state == "running" and not is_alive(status, age_seconds(status)):
        return "interrupted"
    return str(state)


def state_words(status: Mapping[str, Any]) -> str:
    """The state for people: `interrupted (killed)` where the process is gone without a word."""
    state = actual_state(status)
    if state == "interrupted" and status.get("state") == "running":
        return "interrupted (killed)"
    if state == "running" and status.get("host") != platform.node():
        return f"running on {status.get('host')}"
    return state
