"""The results of `aelab evaluate` for a run, stored in its `evaluation.json`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aelab.errors import StoreError
from aelab.runs.atomic import with_numbers
from aelab.runs.files import read_json
from aelab.runs.foreign import legible_values
from aelab.runs.record import Run

FILE = "evaluation.json"
#: Metrics that earlier versions computed over all evaluated images, never over a part.
_OF_ALL = frozenset({"reproduction", "elbo", "latent_use"})


def read_evaluation(run: Run) -> dict[str, Any]:
    """The content of `evaluation.json`; {} if the run was not evaluated or the file is damaged.

    Returns:
        `images` (of the evaluated state), `state`, `heldout_images` of `heldout_total`,
        `images_are`: the rule by which images were drawn, and `metrics`: name -> {`values`: key ->
        number, `seconds`, `options`, `heldout_images`: number used, or `skipped`: the reason}.
        Results over the *first* images of a set, from earlier versions, are only named in
        `outdated`: they do not compare with results over drawn images.
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
    """Stores results; keeps earlier ones of the same state and the same images.

    Args:
        run: the run.
        about: the evaluated state: `state`, `images`, `heldout_images`, `heldout_total`,
            `images_are`.
        metrics: name -> values, seconds, options, or why it was skipped.
    """
    before = read_evaluation(run)
    # Of results of an earlier version, only those over all images are left here.
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
    """Key -> (number of held-out images used, number in the set), for keys where both are known."""
    found = read_evaluation(run)
    images, total = found.get("heldout_images"), found.get("heldout_total")
    over: dict[str, tuple[int, int]] = {}
    for entry in found.get("metrics", {}).values():
        count = entry.get("heldout_images", images)
        if isinstance(count, int) and isinstance(total, int):
            over |= dict.fromkeys(entry.get("values", {}), (count, total))
    return over


def _heldout_total(run: Run) -> int | None:
    """The number of held-out images of a run with one validation set; None if not recorded."""
    sets = (run.record.get("data") or {}).get("validation") or []
    return sets[0].get("count") if len(sets) == 1 else None


def _numbers(values: Any) -> bool:
    return isinstance(values, dict) and all(
        isinstance(value, int | float) and not isinstance(value, bool) for value in values.values()
    )
