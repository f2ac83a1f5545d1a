"""Evaluates stored runs on their held-out images, and stores the results with the runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aelab.assembly.parts import load_images
from aelab.errors import ConfigError, DataError, ShapeError, UserError, did_you_mean, one_of
from aelab.metrics import METRICS, Subject, lacking
from aelab.ops.labels import label_classes
from aelab.ops.subset import DRAWN, RULE, said
from aelab.parts import reinstall
from aelab.runs.evaluation import write_evaluation
from aelab.study.text_options import read_options

if TYPE_CHECKING:
    from aelab.runs.record import Run
    from aelab.study.opened import OpenedRun


@dataclass
class Evaluated:
    """The evaluation of one run.

    Attributes:
        run: the run.
        images: training images seen by the evaluated state.
        heldout_images: held-out images used, at most: a keyed random draw, balanced over classes,
            and the same for all runs on a set.
        heldout_total: held-out images in the set.
        train_images, train_total: the same for training images; 0 if no metric needed them.
        parts: metric -> number of held-out images, where it used fewer.
        values: key -> number, over all metrics.
        skipped: metric -> why it could not be measured.
        seconds: metric -> time it took.
        problem: why the run could not be evaluated at all; empty if it was.
    """

    run: Run
    images: int = 0
    heldout_images: int = 0
    heldout_total: int = 0
    train_images: int = 0
    train_total: int = 0
    parts: dict[str, int] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    problem: str = ""


def chosen_metrics(names: Sequence[str], all_of_them: bool = False) -> list[str]:
    """The selected metrics: those named, else all or the cheap ones.

    Raises:
        UserError: an unknown name.
    """
    for name in names:
        if name not in METRICS:
            raise UserError(
                f"unknown metric '{name}'{did_you_mean(name, METRICS)}",
                hint=reinstall(name) or f"possible: {one_of(METRICS)}",
            )
    if names:
        return list(dict.fromkeys(names))
    return [name for name, metric in METRICS.items() if all_of_them or metric.cost == "cheap"]


def metric_options(
    options: Mapping[str, Mapping[str, Any]] | None, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """The options of the metrics that are to be measured, with the types of their defaults.

    Raises:
        UserError: an option of another metric, an unknown option, or a value of another type.
    """
    found = {name: dict(given) for name, given in (options or {}).items()}
    for name, given in found.items():
        if name not in names:
            raise UserError(
                f"options are given for '{name}', which is not measured{did_you_mean(name, names)}",
                hint=f"measured are: {one_of(names)}",
            )
        read_options(f"the metric '{name}'", METRICS[name].function, given)
    return found


def metrics_there_are() -> list[dict[str, str]]:
    """Rows for a table of all metrics: `metric`, `cost`, `needs` and `what`, in words."""
    return [
        {
            "metric": name,
            "cost": metric.cost,
            "needs": ", ".join(sorted(metric.needs)) or "-",
            "what": metric.summary,
        }
        for name, metric in METRICS.items()
    ]


def subject_of(
    opened: OpenedRun,
    *,
    limit: int = 10_000,
    train_limit: int = 20_000,
    chunk_images: int = 250,
    every_class: bool = False,
    or_train: bool = False,
) -> Subject:
    """A reopened run as the subject of metrics and figures.

    Args:
        opened: the run.
        limit: at most this many held-out images, drawn at random.
        train_limit: at most this many training images, drawn at random; with 0 their set is not
            loaded.
        chunk_images: images in one pass.
        every_class: see `Subject`, for figures.
        or_train: training images stand for held-out ones where there is no validation set. For
            looking at them, not for measures.

    Raises:
        DataError: the run has no such set.
    """
    parts = opened.parts
    heldout = parts.validation or (parts.train if or_train else ())
    if not heldout:
        raise DataError(
            f"run {opened.run.folder} has no validation set",
            hint="measures and figures use held-out images: add a validation_set to the file",
        )
    if label_classes(parts.model) is not None:  # their numbers are common to all sets
        sets, held_out = load_images(parts)
        train, validation = (sets[-1][1] if train_limit else None), (held_out or sets)[-1][1]
    else:
        train = parts.train[-1].dataset.load() if parts.train and train_limit else None
        validation = heldout[-1].dataset.load()
    return Subject(
        parts.model,
        validation,
        train,
        formulas=tuple(term.formula_name for term in parts.objective.terms),
        seed=opened.spec.seed,
        limit=limit,
        train_limit=train_limit,
        chunk_images=chunk_images,
        every_class=every_class,
        device=parts.device,
        second_stage=opened.codes_of_other,
    )


def evaluate_run(
    opened: OpenedRun,
    names: Iterable[str],
    *,
    limit: int = 10_000,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    asked: bool = True,
) -> Evaluated:
    """Measures one reopened run and stores the results with it.

    Unless metrics were `asked` for by name, those of another medium than the run's (and than
    pixels) are left out without a note, and those of known factors where there are none: most
    users have no such runs.
    """
    subject = subject_of(opened, limit=limit)
    found = Evaluated(opened.run, opened.images, len(subject.images), subject.heldout_total)
    entries: dict[str, dict[str, Any]] = {}
    for name in names:
        if not asked and METRICS[name].medium not in ("", "pixels", subject.medium.name):
            continue
        if not asked and "factors" in METRICS[name].needs and subject.factors is None:
            continue
        missing = lacking(subject, METRICS[name])
        if missing:
            found.skipped[name] = missing
            entries[name] = {"skipped": missing}
            continue
        given = dict((options or {}).get(name, {}))
        began = time.perf_counter()
        try:
            values = METRICS[name].function(subject, **given)
        except (ConfigError, ShapeError) as error:  # concerns this metric only
            found.skipped[name] = error.message
            entries[name] = {"skipped": error.message}
            continue
        images = METRICS[name].images(subject, given)
        if images < found.heldout_images:
            found.parts[name] = images
        if "train" in METRICS[name].needs:
            found.train_images, found.train_total = len(subject.train_images), subject.train_total
        found.seconds[name] = round(time.perf_counter() - began, 3)
        found.values |= values
        entries[name] = {
            "values": values,
            "seconds": found.seconds[name],
            "options": given,
            "heldout_images": images,
        }
    about = {
        "state": opened.state,
        "images": opened.images,
        "heldout_images": found.heldout_images,
        "heldout_total": found.heldout_total,
        "images_are": RULE,
    }
    write_evaluation(opened.run, about, entries)
    return found


def taken_over(found: Sequence[Evaluated]) -> list[str]:
    """Sentences about which images the numbers cover; equal ones of several runs once."""
    lines: dict[str, None] = {}
    for entry in found:
        if not entry.values:
            continue
        of, heldout = entry.heldout_total, "held-out images"
        drawn = entry.heldout_images < of or entry.train_images < entry.train_total
        line = f"over {said(entry.heldout_images, of, heldout)}"
        if entry.train_images:
            line += f" and {said(entry.train_images, entry.train_total, 'training images')}"
        lines[line + (DRAWN if drawn or entry.parts else "")] = None
        for name, count in entry.parts.items():
            what = f"{name} ({METRICS[name].part_is})" if METRICS[name].part_is else name
            lines[f"{what}: over {said(count, of, heldout)}"] = None
    return list(lines)
