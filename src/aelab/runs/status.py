"""The state of a run, and whether the process that wrote `running` is still alive."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aelab.hardware import is_there, machine_mark, process_mark

#: States of a run; `waiting` means made and not yet started.
STATES = ("waiting", "running", "finished", "failed", "interrupted")

#: Interval of a writer's signs of life, and the silence after which a writer on another machine
#: counts as lost; long, because clocks differ and shared folders pass on changes late.
BEAT_SECONDS = 10.0
SILENCE_SECONDS = 120.0


def now() -> str:
    """The present moment as ISO text in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def age_seconds(status: Mapping[str, Any]) -> float | None:
    """Seconds since `status` was written; None if it has no time."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(status["updated"])).total_seconds()
    except (KeyError, TypeError, ValueError):
        return None


def this_process() -> dict[str, Any]:
    """Identifies this process: number, start mark (numbers are reused), machine.

    `host` is for people; `machine` distinguishes containers and machines with equal names.
    """
    pid = os.getpid()
    return {
        "pid": pid,
        "mark": process_mark(pid),
        "host": platform.node(),
        "machine": machine_mark(),
    }


def is_here(owner: Mapping[str, Any]) -> bool:
    """Whether a process described by `this_process` is on this machine and visible."""
    if owner.get("machine") is not None:
        return bool(owner["machine"] == machine_mark())
    return owner.get("host") == platform.node()  # records of versions without a machine mark


def is_alive(owner: Mapping[str, Any], silent_seconds: float | None = None) -> bool:
    """Whether the process described by `this_process` is still alive.

    Args:
        owner: `pid`, `mark`, `host`.
        silent_seconds: time since its last sign, for processes on other machines.
    """
    if not is_here(owner):
        return silent_seconds is not None and silent_seconds < SILENCE_SECONDS
    pid = owner.get("pid")
    return isinstance(pid, int) and is_there(pid, owner.get("mark"))


def actual_state(status: Mapping[str, Any], silent_seconds: float | None = None) -> str:
    """The state, one of `STATES`; `running` becomes `interrupted` if its process is gone.

    Args:
        status: of a run.
        silent_seconds: time since the last sign of its process; None: since the status was written.
    """
    state = status.get("state", "waiting")
    if state not in STATES:
        return "interrupted"
    silent = age_seconds(status) if silent_seconds is None else silent_seconds
    if state == "running" and not is_alive(status, silent):
        return "interrupted"
    return str(state)


def state_words(status: Mapping[str, Any], silent_seconds: float | None = None) -> str:
    """The state for people.

    `interrupted (killed)` if the process ended without writing a state, `stopped early` if aelab
    itself ended the run, by its forecast or the budget.
    """
    state = actual_state(status, silent_seconds)
    if state == "interrupted" and status.get("state") == "running":
        return "interrupted (killed)" if is_here(status) else f"lost on {status.get('host')}"
    if state == "running" and not is_here(status):
        return f"running on {status.get('host')}"
    if state == "interrupted" and (status.get("stopped") or {}).get("reason"):
        return "stopped early"
    return state
