"""Options of figures and metrics as the command line gives them: checked, and with their types."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from aelab.errors import UserError, did_you_mean, one_of

#: Options that are counts, at least 1; `image` and `pair` are indices from 0.
_COUNTS = frozenset(
    {"count", "dimensions", "draws", "images", "pairs", "samples", "seeds", "steps"}
)


def read_options(whose: str, make: Callable[..., Any], given: dict[str, Any]) -> None:
    """Checks the names of options, and converts texts to the types of the defaults, in place.

    Args:
        whose: for messages: `the figure 'map'`.
        make: the function; its first argument is no option.
        given: the options by name.

    Raises:
        UserError: an unknown option, or a value of another type.
    """
    parameters = list(inspect.signature(make).parameters.values())[1:]
    kinds = {parameter.name: type(parameter.default) for parameter in parameters}
    for key, value in given.items():
        if key not in kinds:
            raise UserError(
                f"{whose} has no option '{key}'{did_you_mean(key, kinds)}",
                hint=f"possible: {one_of(kinds) or 'none'}",
            )
        if isinstance(value, str) and kinds[key] is not str:
            given[key] = _as(kinds[key], value, f"{whose}, option {key}")
        if key in _COUNTS and given[key] < 1:
            raise UserError(f"{whose}, option {key}: at least 1, got {given[key]}")


def _as(kind: type, text: str, where: str) -> Any:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[text.lower()] if kind is bool else kind(text.replace("_", ""))
    except (KeyError, ValueError):
        wanted = {bool: "yes or no", int: "a whole number", float: "a number"}.get(kind, str(kind))
        raise UserError(f"{where}: expected {wanted}, got '{text}'") from None
