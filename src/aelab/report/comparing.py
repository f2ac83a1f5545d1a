"""Decides which losses compare: the same objective with final weights, the same held-out set.

Runs whose losses do not compare are put into different groups; a best, a worst and a verdict exist
only within a group.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aelab.analysis.effects import seed_keys
from aelab.report.cells import old_formulas
from aelab.runs.record import Run

#: Most kinds named in a sentence.
_NAMED = 4

#: Most matrix keys combined to name the groups.
_MOST_AXES = 3

#: Most letters of a value in the name of a group.
_LETTERS = 40

#: Most letters of one kind in such a sentence; the text of a user's loss may be long.
_WIDE = 100

#: The value of a matrix key that a run does not have.
_MISSING = "-"

#: Options of a term that change the course of training, not the final objective.
_WARMUP = re.compile(r"(?:(?:warmup|cycle|capacity)_images=\d+|warmup=\w+)(, )?")

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Comparison:
    """Groups of runs whose losses compare.

    Attributes:
        group: for each record, the number of its group, from 0 in order of appearance.
        names: the name of each group by the matrix keys that separate them, such as `res=24`; one
            empty name if all losses compare.
        reason: a sentence on why losses do not compare; None if they do.
        axes: the matrix keys that separate the groups; empty if none does.
    """

    group: list[int]
    names: list[str]
    reason: str | None = None
    axes: tuple[str, ...] = ()

    @property
    def is_one(self) -> bool:
        """Whether all losses compare."""
        return len(self.names) < 2


def compare(records: Sequence[Record]) -> Comparison:
    """Groups runs by whether their losses compare.

    Args:
        records: records of the runs with a loss. A value missing in an old record counts as the
            value of all others; if these differ, it counts as another kind.
    """
    parts = [
        _filled([final_objective(record) for record in records]),
        _filled([", ".join(old_formulas(record)) for record in records]),
        _filled([_held_out(record) for record in records]),
        [_inputs(record) for record in records],
        _filled([_weights(record) for record in records]),
    ]
    numbers: dict[Hashable, int] = {}
    keys: list[Hashable] = list(zip(*parts, strict=True))
    group = [numbers.setdefault(key, len(numbers)) for key in keys]
    if len(numbers) < 2:
        return Comparison(group, [""] * len(numbers))
    names, axes = _names(records, group, len(numbers))
    return Comparison(group, names, apart(records), axes)


def best_finished(run: Run, finished: Sequence[Run]) -> float | None:
    """The lowest last loss of finished runs that compare with a run; None if there are none."""
    losses = [(other, _last_loss(other)) for other in finished if other.folder != run.folder]
    known = [(other, loss) for other, loss in losses if loss is not None]
    groups = compare([run.record, *(other.record for other, _ in known)]).group
    return min(
        (loss for (_, loss), group in zip(known, groups[1:], strict=True) if group == groups[0]),
        default=None,
    )


def _last_loss(run: Run) -> float | None:
    loss: Any = (run.status.get("last") or {}).get("loss")
    return float(loss) if isinstance(loss, int | float) and math.isfinite(loss) else None


def apart(records: Sequence[Record]) -> str | None:
    """A sentence on why losses do not compare; None if there is no reason.

    Args:
        records: records of the runs with a loss. A value missing in an old record is no reason.
    """
    objectives = _kinds([final_objective(record) for record in records])
    reasons = [f"{len(objectives)} objectives ({_some(objectives)})"] if objectives[1:] else []
    old = {", ".join(old_formulas(record)) for record in records}
    if len(old) > 1:
        reasons.append(f"legacy formulas in some ({_some(sorted(filter(None, old)))})")
    sets = _kinds([_set_words(record) for record in records])
    if len(_kinds([_held_out(record) for record in records])) > 1:
        names = f" ({_some(sets)})" if sets[1:] else ""
        reasons.append(f"different held-out images{names}")
    if len({_inputs(record) for record in records}) > 1:
        reasons.append("held-out inputs that are changed differently")
    if len(_kinds([_weights(record) for record in records])) > 1:
        reasons.append("networks with other random weights in the loss (random_features has equal)")
    return f"Losses here do not compare: {' and '.join(reasons)}." if reasons else None


def final_objective(record: Record) -> str | None:
    """The objective after every warm-up: `l1 + 0.001 kl`; None if not recorded."""
    objective = record.get("objective")
    if not objective:
        return None
    text = _WARMUP.sub("", str(objective)).replace(", )", ")").replace(" ()", "")
    samples = record.get("samples")
    if samples and "iwae_bound" in terms(record):
        text += f" ({samples} sample{'s' if samples != 1 else ''})"
    own = record.get("objective_text")
    return f"{text} ({'; '.join(map(str, own))})" if isinstance(own, list) and own else text


def terms(record: Record) -> list[str]:
    """Names of the terms of a run's objective, in order; empty if not recorded."""
    names, depth, part = [], 0, ""
    for sign in f"{record.get('objective') or ''} + ":
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(sign, 0)
        part += sign
        if depth == 0 and part.endswith(" + "):
            found = re.match(r"(?:[-+.\de]+ )?([A-Za-z_]\w*)", part)
            names += [found[1]] if found else []
            part = ""
    return names


def _filled(values: Sequence[str | None]) -> list[str | None]:
    """Replaces unknown values by the known one if there is exactly one."""
    known = {value for value in values if value is not None}
    only = next(iter(known)) if len(known) == 1 else None
    return [only if value is None else value for value in values]


def _data(record: Record) -> Mapping[str, Any]:
    data: Mapping[str, Any] = record.get("data") or {}
    return data


def _held_out(record: Record) -> str | None:
    """A key for the held-out set: the hash of its pixels, or else its source."""
    data = _data(record)
    entries = data.get("validation") or []
    told = [str(data["validation_content"])] if data.get("validation_content") else []
    if not told:
        told = [f"{e.get('name')} {e.get('count')} {e.get('sha256')}" for e in entries]
        told += [str(record["shape"])] if told and record.get("shape") else []
    told += _texts(data.get("validation_augmentation"))
    if told and data.get("validation_limit"):
        told.append(f"{data['validation_limit']} of them")
    return " ".join(told) or None


def _inputs(record: Record) -> str:
    """The changes of the model's inputs against the held-out images; empty if there are none."""
    return " ".join(_texts(_data(record).get("validation_inputs")))


def _weights(record: Record) -> str | None:
    """A key for the weights inside a loss (a network); None if it has none."""
    return str(record["objective_weights"]) if record.get("objective_weights") else None


def _texts(value: Any) -> list[str]:
    return [str(entry) for entry in value] if isinstance(value, list) else []


def _set_words(record: Record) -> str | None:
    entries = _data(record).get("validation") or []
    return " + ".join(str(entry.get("name")) for entry in entries) or None


def _kinds(values: Sequence[Any]) -> list[str]:
    return list(dict.fromkeys(str(value) for value in values if value))


def _some(kinds: Sequence[str]) -> str:
    more = f"; and {len(kinds) - _NAMED} more" if len(kinds) > _NAMED else ""
    short = [kind if len(kind) <= _WIDE else f"{kind[: _WIDE - 3]}..." for kind in kinds[:_NAMED]]
    return "; ".join(short) + more


# --- names of groups


def _names(
    records: Sequence[Record], group: Sequence[int], count: int
) -> tuple[list[str], tuple[str, ...]]:
    """Names the groups by the fewest matrix keys that separate them all."""
    values = _values_by_axis(records, group, count)
    seeds = seed_keys(record for record in records if "matrix" in record)
    keys = [axis for axis in values if axis.startswith("matrix.")]
    own = [axis for axis in keys if axis[7:] not in seeds]
    repeats = [axis for axis in keys if axis not in own]
    others = [axis for axis in values if axis not in keys]
    for axes in _candidates(own, repeats, others):
        if _separate([values[axis] for axis in axes], count):
            break
    else:
        axes = ()
    words = [_group_words(axes, values, number, with_missing=False) for number in range(count)]
    if len(set(words)) < count or not all(words):
        words = [_group_words(axes, values, number, with_missing=True) for number in range(count)]
    if len(set(words)) < count or not all(words):
        words = [f"{text} #{number + 1}".strip() for number, text in enumerate(words)]
    return words, tuple(axis.removeprefix("matrix.") for axis in axes if axis in keys)


def _group_words(
    axes: Sequence[str],
    values: Mapping[str, list[set[str]]],
    number: int,
    *,
    with_missing: bool,
) -> str:
    """Text such as `res=24, net=conv`; includes keys that its runs lack only if needed."""
    told = []
    for axis in axes:
        own = values[axis][number]
        if own != set().union(*values[axis]) and (with_missing or own != {_MISSING}):
            told.append(f"{axis.removeprefix('matrix.')}={_short(own)}")
    return ", ".join(told)


def _values_by_axis(
    records: Sequence[Record], group: Sequence[int], count: int
) -> dict[str, list[set[str]]]:
    """Matrix key -> for each group, the values of its runs; only keys that vary."""
    found: dict[str, list[set[str]]] = {}
    keys = dict.fromkeys(key for record in records for key in record.get("matrix") or {})
    axes = [*(f"matrix.{key}" for key in keys), "file", "objective", "legacy", "held-out set"]
    for axis in axes:
        sets: list[set[str]] = [set() for _ in range(count)]
        for record, number in zip(records, group, strict=True):
            sets[number].add(_axis_value(record, axis))
        if len(set().union(*sets)) > 1:
            found[axis] = sets
    return found


def _axis_value(record: Record, axis: str) -> str:
    if axis.startswith("matrix."):
        return _text((record.get("matrix") or {}).get(axis[7:]))
    told = {
        "file": record.get("experiment"),
        "objective": final_objective(record),
        "legacy": ", ".join(old_formulas(record)) or "no",
        "held-out set": _set_words(record),
    }
    return str(told[axis] or "not recorded")


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(map(_text, value))
    return _MISSING if value is None else " ".join(str(value).split())


def _candidates(own: list[str], repeats: list[str], others: list[str]) -> Any:
    """Sets of matrix keys, smallest first; settings before seeds before other properties."""
    for axes in (own[:8], [*own[:8], *repeats], [*own[:8], *repeats, *others]):
        for size in range(1, _MOST_AXES + 1):
            yield from itertools.combinations(axes, size)


def _separate(values: Sequence[list[set[str]]], count: int) -> bool:
    """Whether every two groups have no common value in at least one matrix key."""
    pairs = itertools.combinations(range(count), 2)
    return all(any(axis[a].isdisjoint(axis[b]) for axis in values) for a, b in pairs)


def _short(values: set[str]) -> str:
    text = "|".join(sorted(values))
    return text if len(text) <= _LETTERS else f"{text[: _LETTERS - 3]}..."
