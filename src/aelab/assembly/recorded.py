"""What the directory of a run says to whoever builds the run again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aelab.errors import StoreError
from aelab.runs.files import read_json
from aelab.runs.record import Run

if TYPE_CHECKING:
    from aelab.types import ValueRange


def stored_calls(run: Run) -> list[dict[str, Any]] | None:
    """The call log of a run that was begun before, None for a new one."""
    path = run.path / "calls.json"
    if not path.exists():
        return None
    calls = read_json(path).get("calls")
    if not isinstance(calls, list) or not all(map(_is_call, calls)):
        raise StoreError(f"{path} is not a call log", hint="--restart trains the run again")
    return calls


def _is_call(call: Any) -> bool:
    """Whether a call log's entry has a name and arguments; their values are checked when used."""
    return (
        isinstance(call, dict)
        and isinstance(call.get("name"), str)
        and isinstance(call.get("arguments"), dict)
    )


def recorded_range(record: dict[str, Any]) -> ValueRange:
    """What black and white are for the model of a run; 0 and 1 where its record does not say."""
    given = record.get("value_range")
    if not isinstance(given, list) or len(given) != 2:
        return (0.0, 1.0)
    try:
        low, high = (tuple(map(float, b)) if isinstance(b, list) else float(b) for b in given)
    except (TypeError, ValueError):
        return (0.0, 1.0)
    return low, high
