"""What `aelab evaluate` found of a run, kept beside it in `evaluation.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aelab.errors import StoreError
from aelab.runs.atomic import read_json, with_numbers
from aelab.runs.foreign import legible_values
from aelab.runs.record import Run

FILE = "evaluation.json"


def read_evaluation(run: Run) -> dict[str, Any]:
    """The content of `evaluation.json`; {} where the run was not evaluated, or the file is damaged.

    Returns:
        `images` (seen by the evaluated state), `state`, `heldout_images`, and `metrics`: name ->
        {`values`: key -> number, `seconds`, `options`, or `skipped`: why not}.
    """
    try:
        content = legible_values(with_numbers(read_json(run.path / FILE)))
    except StoreError:
        return {}
    metrics = content.get("metrics")
    content["metrics"] = {
        name: entry
        for name, entry in (metrics.items() if isinstance(metrics, dict) else ())
        if isinstance(entry, dict) and _numbers(entry.get("values", {}))
    }
    return dict(content)


def write_evaluation(
    run: Run, about: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]]
) -> None:
    """Stores results; earlier ones stay where they are of the same state and the same images.

    Args:
        run: where.
        about: what was evaluated: `state`, `images`, `heldout_images`.
        metrics: name -> values, seconds, options, or why it was skipped.
    """
    before = read_evaluation(run)
    same = all(before.get(key) == value for key, value in about.items())
    kept = before["metrics"] if before and same else {}
    run.write_json(FILE, {**about, "metrics": {**kept, **metrics}})


def evaluated_values(run: Run) -> dict[str, float]:
    """Key -> value over all metrics of the run's evaluation."""
    values: dict[str, float] = {}
    for entry in read_evaluation(run).get("metrics", {}).values():
        values.update(entry.get("values", {}))
    return values


def _numbers(values: Any) -> bool:
    return isinstance(values, dict) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()
    )
