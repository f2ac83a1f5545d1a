"""The lines of a plot: their runs, labels, colours and points.

Shared by the plots and the page, so that a run has the same label and colour in both.
"""

from __future__ import annotations

import json
import math
from collections.abc import Hashable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from aelab.analysis.curves import Curve, curve, term_names
from aelab.analysis.effects import matrix_key, seed_keys
from aelab.errors import UserError, did_you_mean, one_of
from aelab.runs.record import Run

#: Okabe & Ito's colours for colour-blind readers, without yellow and black, and a grey.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#767676")

#: Colours of classes: those of the lines, then three more.
CLASSES = (*PALETTE, "#8c564b", "#6a3d9a", "#b2df8a")

#: Dash patterns in points (on, off, ...); each is used with all colours before the next.
DASHES: tuple[tuple[float, ...], ...] = (
    (), (5, 2), (1.2, 1.6), (6, 2, 1.2, 2), (10, 3), (3, 1.5, 1, 1.5, 1, 1.5),
)  # fmt: skip

#: The unit of each term; a run may define more in `run.json` under `units`.
UNITS = {
    "kl": "nats per image",
    "codebook_usage": "share of the entries",
    "codebook_perplexity": "entries",
    "accuracy": "share of the cells",
    "accuracy_without_spaces": "share of the inked cells",
    "blank_share": "share of the cells",
}

X_LABELS = {"images": "images seen", "seconds": "training seconds"}

Rows = Sequence[Mapping[str, Any]]


def palette_script() -> str:
    """`PALETTE` and `CLASSES` as JavaScript, for the report and for `aelab ui`."""
    lists = {"PALETTE": PALETTE, "CLASSES": CLASSES}
    return "".join(f"const {name} = {json.dumps(colours)};\n" for name, colours in lists.items())


def is_share(term: str) -> bool:
    """Whether a term is a share in 0..1: no loss, and shown on a linear axis."""
    return UNITS.get(term, "").startswith("share")


def points(rows: Rows, term: str, x: str, split: str) -> Curve:
    """The curve of `term` over `x` in `split`; infinities become NaN: they cannot be drawn."""
    found = curve((row for row in rows if row.get("split") == split), term, x)
    return Curve(found.x, [value if math.isfinite(value) else math.nan for value in found.y])


def curve_terms(all_rows: Sequence[Rows]) -> list[str]:
    """Names of all logged terms: `loss` first, `learnrate` last, others as they appear."""
    names = term_names(row for rows in all_rows for row in rows)
    rank = {"loss": -1, "learnrate": 1}
    return sorted(names, key=lambda name: rank.get(name, 0))


def require_term(term: str, all_rows: Sequence[Rows]) -> None:
    """Raise UserError if no run has logged `term`."""
    terms = curve_terms(all_rows)
    if not terms:
        raise UserError(
            "these runs have logged nothing yet, so there is nothing to draw",
            hint="wait for the first validation, or run the experiment: aelab run FILE",
        )
    if term not in terms:
        raise UserError(
            f"no run has logged a term {term!r}; logged are: {one_of(terms)}"
            f"{did_you_mean(term, terms)}",
            hint=f"type: aelab plot --term {_nearest(term, terms)}",
        )


def _nearest(name: str, choices: Sequence[str]) -> str:
    """The most similar choice, or the first one."""
    return (get_close_matches(name, choices, n=1) or choices)[0]


def value_text(value: Any) -> str:
    """A matrix value as text: `0.0003`, `1,28,28`, `mnist`."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ",".join(value_text(item) for item in value)
    return "" if value is None else str(value)


def matrix_keys(runs: Sequence[Run]) -> list[str]:
    """Matrix keys of all runs, in order of appearance."""
    return list(dict.fromkeys(key for run in runs for key in run.record.get("matrix") or {}))


def varying_keys(runs: Sequence[Run]) -> list[str]:
    """Matrix keys whose value is not the same in all runs."""
    return [key for key in matrix_keys(runs) if len({_text(run, key) for run in runs}) > 1]


def seed_axes(runs: Sequence[Run]) -> list[str]:
    """Matrix keys that only repeat a setting: the seeds."""
    found = seed_keys(run.record for run in runs)
    return [key for key in matrix_keys(runs) if key in found]


def _text(run: Run, key: str) -> str:
    return value_text((run.record.get("matrix") or {}).get(key))


def run_name(run: Run) -> str:
    """The run's resolved experiment name; the name of its folder if not recorded."""
    return str(run.record.get("name") or run.path.name)


def labels(runs: Sequence[Run], *, repeats: bool = True) -> tuple[str, list[str]]:
    """A heading and a short label for each run: the values of the varying keys.

    Uses whole names if two runs would get the same label (runs of two files).

    Args:
        runs: any number.
        repeats: distinguish repeats of a setting by their seed or by `#2`.

    Returns:
        Heading such as `ds, res`, and labels such as `mnist, 28`; the heading is empty for names,
        and for runs of several files with other keys, whose labels are `ds=mnist, res=28`.
    """
    every = varying_keys(runs)
    full = [", ".join(_text(run, key) for key in every) for run in runs]
    counted = [f"{text} {_trial(run)}".strip() for text, run in zip(full, runs, strict=True)]
    if len(set(counted)) < len(runs) or (not every and not any(map(_trial, runs))):
        return "", [run_name(run) for run in runs]
    seeds = set() if repeats else seed_keys(run.record for run in runs)
    keys = [key for key in every if key not in seeds]
    if any(key not in _matrix(run) for run in runs for key in keys):
        return "", [_named_values(run, keys, repeats=repeats) for run in runs]
    if repeats:
        return ", ".join(every), counted
    return ", ".join(keys), [", ".join(_text(run, key) for key in keys) for run in runs]


def _named_values(run: Run, keys: Sequence[str], *, repeats: bool) -> str:
    own = [f"{key}={_text(run, key)}" for key in keys if key in _matrix(run)]
    return f"{', '.join(own) or run_name(run)} {_trial(run) if repeats else ''}".strip()


def _matrix(run: Run) -> Mapping[str, Any]:
    return run.record.get("matrix") or {}


def _trial(run: Run) -> str:
    trial = run.record.get("trial")
    return "" if trial is None else f"#{trial}"


def other_values(runs: Sequence[Run], key: str) -> list[str]:
    """For each run, the values of the varying keys except one and seeds: `res=24`."""
    seeds = seed_keys(run.record for run in runs)
    keys = [other for other in varying_keys(runs) if other != key and other not in seeds]
    return [
        ", ".join(f"{other}={_text(run, other)}" for other in keys if other in _matrix(run))
        for run in runs
    ]


def repeats(runs: Sequence[Run]) -> list[list[int]]:
    """Groups of positions of runs with the same setting and other seeds, in order."""
    seeds = seed_keys(run.record for run in runs)
    together: dict[Hashable, list[int]] = {}
    for number, run in enumerate(runs):
        matrix = run.record.get("matrix") or {}
        repeated = run.record.get("trial") is not None or seeds & set(matrix)
        alone = None if repeated else number
        key = (run.record.get("experiment"), matrix_key(matrix, without=seeds), alone)
        together.setdefault(key, []).append(number)
    return list(together.values())


def group_colours(runs: Sequence[Run], key: str) -> dict[str, str]:
    """Text of each value of a matrix key -> colour; numbers get an ordered scale.

    Raises:
        UserError: if no run has that key.
    """
    keys = matrix_keys(runs)
    if key not in keys:
        raise UserError(
            f"cannot group by {key!r}: these runs have "
            + (f"the matrix keys {one_of(keys)}{did_you_mean(key, keys)}" if keys else "no matrix"),
            hint=f"type: aelab plot --group {_nearest(key, keys)}"
            if keys
            else "leave --group out: then every run has its own colour",
        )
    values = {_text(run, key): (run.record.get("matrix") or {}).get(key) for run in runs}
    numbers = {
        text: float(value)
        for text, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    if len(numbers) == len(values) > 2:
        ordered = sorted(numbers, key=numbers.__getitem__)
        return {text: _ramp(i / (len(ordered) - 1)) for i, text in enumerate(ordered)}
    return {text: PALETTE[i % len(PALETTE)] for i, text in enumerate(values)}


def _ramp(position: float) -> str:
    """A colour for an ordered value in 0..1: dark blue over green to orange."""
    stops = ((38, 70, 160), (0, 140, 150), (90, 165, 70), (230, 150, 20))
    scaled = position * (len(stops) - 1)
    low = min(int(scaled), len(stops) - 2)
    pairs = zip(stops[low], stops[low + 1], strict=True)
    mixed = [round(a + (b - a) * (scaled - low)) for a, b in pairs]
    return "#" + "".join(f"{part:02x}" for part in mixed)


def thin(ys: Sequence[float], limit: int) -> list[int]:
    """Positions of at most `limit` points that keep the first, the last and every extreme.

    The curve is cut into equal buckets. The lowest and the highest point of each stay, so a spike
    of one point is kept. A bucket with NaN keeps its first NaN, so gaps are kept, too.
    """
    if len(ys) <= limit:
        return list(range(len(ys)))
    a_bucket = 3 if any(map(math.isnan, ys)) else 2
    buckets = max(1, (limit - 2) // a_bucket)
    kept = {0, len(ys) - 1}
    for bucket in range(buckets):
        place = range(len(ys) * bucket // buckets, len(ys) * (bucket + 1) // buckets)
        finite = [i for i in place if not math.isnan(ys[i])]
        if finite:
            kept |= {min(finite, key=ys.__getitem__), max(finite, key=ys.__getitem__)}
        kept |= set([i for i in place if math.isnan(ys[i])][:1])
    return sorted(kept)


def log_helps(values: Sequence[float]) -> bool:
    """Whether to use a logarithmic axis: all values positive and a range ratio above 8."""
    finite = [value for value in values if math.isfinite(value)]
    return bool(finite) and min(finite) > 0 and max(finite) / min(finite) > 8
