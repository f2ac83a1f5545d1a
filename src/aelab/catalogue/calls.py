"""The call log: every call of a part while a run's blocks are evaluated.

It keeps old runs unchanged. Reopening a run evaluates its text again; arguments that the text
leaves out come from the log, so a default that changed in the meantime does not change the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from typing import Any

from aelab.catalogue.index import PartIndex
from aelab.errors import ConfigError


class CallLog:
    """Calls in order, each with its bound arguments, including defaults.

    Args:
        recorded: the log of an earlier evaluation of the same text, from `to_json`. None records
            a new one.

    Raises:
        ConfigError: in `enter` and `finish`, if the calls differ from the recorded ones.
    """

    def __init__(self, recorded: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.recorded = None if recorded is None else list(recorded)
        self.parts = PartIndex({})
        self.open = True
        self._calls: list[dict[str, Any]] = []
        self._results: dict[int, tuple[int, Any]] = {}  # id -> (call, object kept alive)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self._calls)

    def __len__(self) -> int:
        return len(self._calls)

    def to_json(self) -> list[dict[str, Any]]:
        """Plain dictionaries: name, arguments, and the arguments given in the text."""
        return [dict(call) for call in self._calls]

    def enter(
        self, name: str, arguments: MutableMapping[str, Any], given: Sequence[str]
    ) -> int | None:
        """Records a call; in a replay, fills arguments that were not given from the record.

        Returns:
            The number of the call; None after the log is finished.
        """
        if not self.open:
            return None
        number = len(self._calls)
        if self.recorded is not None:
            self._replay(number, name, arguments, given)
        encoded = {key: self._encode(value) for key, value in arguments.items()}
        self._calls.append({"name": name, "arguments": encoded, "given": list(given)})
        return number

    def leave(self, number: int, result: Any) -> None:
        """Stores the result of a call, so that later arguments can refer to it."""
        if not isinstance(result, str | int | float | bool | type(None)):
            self._results[id(result)] = (number, result)

    def finish(self) -> None:
        """Ends the log after all blocks: later calls (inside data functions) are not logged."""
        self.open = False
        self._results.clear()
        if self.recorded is not None and len(self._calls) < len(self.recorded):
            missing = self.recorded[len(self._calls)]["name"]
            raise _differs(f"its text no longer calls {missing}")

    def _replay(
        self, number: int, name: str, arguments: MutableMapping[str, Any], given: Sequence[str]
    ) -> None:
        assert self.recorded is not None
        if number >= len(self.recorded):
            raise _differs(f"its text now also calls {name}")
        call = self.recorded[number]
        if call["name"] != name:
            raise _differs(f"its text calls {name} where it called {call['name']}")
        for key, value in call["arguments"].items():
            if key in given:
                continue
            if key not in arguments:
                raise _differs(f"{name} no longer has the argument '{key}'")
            try:
                known, decoded = self._decode(value)
            except (ValueError, TypeError, StopIteration):
                raise _differs(f"the recorded argument '{key}' of {name} is damaged") from None
            if known:
                arguments[key] = decoded

    def _encode(self, value: Any) -> Any:
        if value is None or isinstance(value, bool | int | str):
            return value
        if isinstance(value, float):
            return value if value == value and abs(value) != float("inf") else {"float": str(value)}
        if isinstance(value, list):
            return [self._encode(item) for item in value]
        if type(value) is tuple:
            return {"tuple": [self._encode(item) for item in value]}
        if isinstance(value, dict):
            return {"dict": [[self._encode(k), self._encode(v)] for k, v in value.items()]}
        if id(value) in self._results:
            return {"call": self._results[id(value)][0]}
        name = self.parts.name_of(value)
        return {"object": type(value).__name__} if name is None else {"part": name}

    def _decode(self, value: Any) -> tuple[bool, Any]:
        """(whether the value can be restored from the record, the value)."""
        if isinstance(value, list):
            items = [self._decode(item) for item in value]
            return all(known for known, _ in items), [item for _, item in items]
        if not isinstance(value, dict):
            return True, value
        kind, content = next(iter(value.items()))
        match kind:
            case "float":
                return True, float(content)
            case "tuple":
                known, items = self._decode(content)
                return known, tuple(items)
            case "dict":
                known, items = self._decode(content)
                return known, {key: item for key, item in items}
            case "part" if content in self.parts:
                part = self.parts[content]
                return True, part.target if part.reading is None else part
        return False, None


def _differs(what: str) -> ConfigError:
    return ConfigError(
        f"the run cannot be reopened as it was: {what}",
        hint="begin it again with: aelab run FILE --restart",
    )
