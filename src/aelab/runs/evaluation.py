"""What `aelab evaluate` found of a run, kept beside it in `evaluation.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aelab.errors import StoreError
from aelab.runs.atomic import with_numbers
from aelab.runs.files import read_json
from aelab.runs.foreign import legible_values
from aelab.runs.record import Run

FILE = "evaluation.json"
#: Measures that earlier versions took over all the images evaluated, never over a part of them.
_OF_ALL = frozenset({"reproduction", "elbo", "latent_use"})


def read_evaluation(run: Run) -> dict[str, Any]:
    """The content of `evaluation.json`; {} where the run was not evaluated, or the file is damaged.

    Returns:
        `images` (seen by the evaluated state), `state`, `heldout_images` of `heldout_total`,
        `images_are`: the rule by which they were drawn, and `metrics`: name -> {`values`: key ->
        number, `seconds`, `options`, `heldout_images`: over how many, or `skipped`: why not}.
        Numbers over the *first* images of a set, as earlier versions took them, are not among
        them but named in `outdated`: they do not compare with those over drawn ones.
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
    if content.get("metrics") and "images_are" not in content:
        whole = content.get("heldout_images") == _heldout_total(run)
        kept = {name for name in content["metrics"] if whole and name in _OF_ALL}
        content["outdated"] = sorted(set(content["metrics"]) - kept)
        content["metrics"] = {name: content["metrics"][name] for name in sorted(kept)}
        content["heldout_total"] = _heldout_total(run)
    return dict(content)


def write_evaluation(
    run: Run, about: Mapping[str, Any], metrics: Mapping[str, Mapping[str, Any]]
) -> None:
    """Stores results; earlier ones stay where they are of the same state and the same images.

    Args:
        run: where.
        about: what was evaluated: `state`, `images`, `heldout_images`, `heldout_total`,
            `images_are`.
        metrics: name -> values, seconds, options, or why it was skipped.
    """
    before = read_evaluation(run)
    # Of an earlier version only those are still here that are over all images.
    told = {key: value for key, value in about.items() if key in before or key != "images_are"}
    same = all(before.get(key) == value for key, value in told.items())
    kept = before["metrics"] if before and same else {}
    run.write_json(FILE, {**about, "metrics": {**kept, **metrics}})


def evaluated_values(run: Run) -> dict[str, float]:
    """Key -> value over all metrics of the run's evaluation."""
    values: dict[str, float] = {}
    for entry in read_evaluation(run).get("metrics", {}).values():
        values.update(entry.get("values", {}))
    return values


def evaluated_over(run: Run) -> dict[str, tuple[int, int]]:
    """Key -> over how many held-out images it was taken, and of how many, as far as is known."""
    found = read_evaluation(run)
    images, total = found.get("heldout_images"), found.get("heldout_total")
    over: dict[str, tuple[int, int]] = {}
    for entry in found.get("metrics", {}).values():
        count = entry.get("heldout_images", images)
        if isinstance(count, int) and isinstance(total, int):
            over |= dict.fromkeys(entry.get("values", {}), (count, total))
    return over


def _heldout_total(run: Run) -> int | None:
    """Held-out images of a run with one set of them; None where its record does not tell."""
    sets = (run.record.get("data") or {}).get("validation") or []
    return sets[0].get("count") if len(sets) == 1 else None


def _numbers(values: Any) -> bool:
    return isinstance(values, dict) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()
    )
