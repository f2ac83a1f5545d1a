"""Reads the parts of a run's directory that are needed to build the run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aelab.errors import StoreError
from aelab.runs.files import read_json
from aelab.runs.record import Run

if TYPE_CHECKING:
    from aelab.types import ValueRange


def stored_calls(run: Run) -> list[dict[str, Any]] | None:
    """The call log of a run that was started before; None for a new run."""
    path = run.path / "calls.json"
    if not path.exists():
        return None
    calls = read_json(path).get("calls")
    if not isinstance(calls, list) or not all(map(_is_call, calls)):
        raise StoreError(f"{path} is not a call log", hint="--restart trains the run again")
    return calls


def _is_call(call: Any) -> bool:
    """Whether an entry of a call log has a name and arguments; values are checked when used."""
    return (
        isinstance(call, dict)
        and isinstance(call.get("name"), str)
        and isinstance(call.get("arguments"), dict)
    )


def recorded_range(record: dict[str, Any]) -> ValueRange:
    """The values of black and white for a run's model; 0 and 1 if not recorded."""
    given = record.get("value_range")
    if not isinstance(given, list) or len(given) != 2:
        return (0.0, 1.0)
    try:
        low, high = (tuple(map(float, b)) if isinstance(b, list) else float(b) for b in given)
    except (TypeError, ValueError):
        return (0.0, 1.0)
    return low, high
