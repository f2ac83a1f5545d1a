"""Whether the losses of some runs may be ranked: one objective, and one held-out set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Kinds that are named in the sentence, at most.
_NAMED = 4


def apart(records: Sequence[Mapping[str, Any]]) -> str | None:
    """A sentence on why losses do not compare; None where nothing speaks against it.

    Args:
        records: of the runs that have a loss. What an old record does not tell is no reason.
    """
    objectives = _kinds([record.get("objective") for record in records])
    reasons = [f"{len(objectives)} objectives ({_some(objectives)})"] if objectives[1:] else []
    content = {id(r): _data(r).get("validation_content") for r in records}
    sets = _kinds([_set_words(record) for record in records])
    if len(_kinds(list(content.values()))) > 1 or sets[1:]:
        names = f" ({_some(sets)})" if sets[1:] else ""
        reasons.append(f"different held-out images{names}")
    return f"Losses here do not compare: {' and '.join(reasons)}." if reasons else None


def ranked(records: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a best and a worst may be named.

    The matrix of one file is its author's comparison and is ranked in any case; `apart` stands
    beside it. Runs of several files are ranked only where their losses compare.
    """
    return len(_kinds([r.get("experiment") for r in records])) < 2 or apart(records) is None


def _data(record: Mapping[str, Any]) -> Mapping[str, Any]:
    data: Mapping[str, Any] = record.get("data") or {}
    return data


def _set_words(record: Mapping[str, Any]) -> str | None:
    entries = _data(record).get("validation") or []
    return " + ".join(str(entry.get("name")) for entry in entries) or None


def _kinds(values: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _some(kinds: Sequence[str]) -> str:
    more = f"; and {len(kinds) - _NAMED} more" if len(kinds) > _NAMED else ""
    return "; ".join(kinds[:_NAMED]) + more
