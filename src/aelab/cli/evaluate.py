"""`aelab evaluate`."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aelab.cli.options import Json, Limit, Only, Sources, comma_separated, key_values, of_lab
from aelab.cli.output import print_or_write, tabulated
from aelab.errors import UserError
from aelab.lab import Lab

if TYPE_CHECKING:
    from aelab.study.evaluation import Evaluated


@of_lab
def evaluate(
    lab: Lab,
    sources: Sources = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metrics", "-m", help="Names, separated by commas. Repeatable."),
    ] = None,
    all_metrics: Annotated[
        bool, typer.Option("--all", help="All metrics, including those that take minutes.")
    ] = False,
    list_metrics: Annotated[
        bool, typer.Option("--list", help="List the metrics and stop.")
    ] = False,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            help="Of the metric samples: auto, prior, gaussian, mixture, flow, or run:RUN2, "
            "trained on latents_of this run.",
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-o", help="METRIC.KEY=VALUE, for instance iwae.samples=5000. Repeatable."
        ),
    ] = None,
    state: Annotated[str, typer.Option("--state", help="best, latest, or images seen.")] = "best",
    limit: Limit = 10_000,
    only: Only = None,
    as_json: Json = False,
) -> None:
    """Measure stored runs on held-out images; `aelab table --include KEY` shows the results."""
    if list_metrics:
        print_or_write(_list_text(), None)
        return
    found: list[Evaluated] = []
    told: dict[str, str] = {}
    for entry in lab.evaluate(
        sources or (),
        metrics=comma_separated(metrics),
        all_metrics=all_metrics,
        state=state,
        limit=limit,
        options=_options(option or [], sampler),
        only=only,
    ):
        found.append(entry)
        seconds = sum(entry.seconds.values())
        word = entry.problem or f"{len(entry.values)} values in {seconds:.1f} s"
        if entry.problem in told:
            word = f"not measured, for the same reason as {told[entry.problem]}"
        elif entry.problem:
            told[entry.problem] = entry.run.folder
        print(f"{entry.run.folder}: {word}", file=sys.stderr, flush=True)
    print_or_write(evaluated_json(found) if as_json else evaluated_text(found), None)
    if any(entry.problem for entry in found):
        raise typer.Exit(1)


def evaluated_json(found: list[Evaluated]) -> str:
    """JSON list of runs, each with values, skipped metrics with reasons, and problems."""
    rows = [
        {
            "run": entry.run.folder,
            "images": entry.images,
            "heldout_images": entry.heldout_images,
            "heldout_total": entry.heldout_total,
            "train_images": entry.train_images,
            "train_total": entry.train_total,
            "heldout_images_of": entry.parts,
            "values": entry.values,
            "skipped": entry.skipped,
            "seconds": entry.seconds,
            "problem": entry.problem,
        }
        for entry in found
    ]
    return json.dumps(rows, indent=2)


def evaluated_text(found: list[Evaluated]) -> str:
    """A table with a column (few runs) or a row for each run, then the skipped metrics."""
    measured = [entry for entry in found if entry.values]
    keys = list(dict.fromkeys(key for entry in measured for key in entry.values))
    cells = {key: [_number(entry.values.get(key)) for entry in measured] for key in keys}
    names = [entry.run.folder for entry in measured]
    if len(names) <= 3:
        rows = [[key, *cells[key]] for key in keys]
        text = tabulated(rows, ["", *names], disable_numparse=True)
    else:
        rows = [[name, *(cells[key][i] for key in keys)] for i, name in enumerate(names)]
        text = tabulated(rows, ["run", *keys], disable_numparse=True)
    from aelab.study.evaluation import taken_over

    over = [f"note: {line}" for line in taken_over(found)]
    notes: dict[str, list[str]] = {}
    for entry in found:
        for metric, why in entry.skipped.items():
            notes.setdefault(f"{metric}: skipped, {why}", []).append(entry.run.folder)
    lines = [
        f"note: {note} ({len(folders)} of {len(found)} runs)" for note, folders in notes.items()
    ]
    without = [entry.run.folder for entry in found if entry.problem]
    if without:  # the reason was shown for each run
        lines.append(f"not measured: {len(without)} of {len(found)} runs: {', '.join(without)}")
    return "\n".join([text, *over, *lines]) if measured else "\n".join(lines)


def _options(given: list[str], sampler: str | None) -> dict[str, dict[str, str]]:
    texts = [*given, *([] if sampler is None else [f"samples.sampler={sampler}"])]
    options: dict[str, dict[str, str]] = {}
    for name, value in key_values("--option", texts, "iwae.samples=5000").items():
        metric, dot, key = name.partition(".")
        if not (dot and metric and key):
            raise UserError(
                f"--option {name}={value}: write --option METRIC.KEY=VALUE, as in "
                "--option iwae.samples=5000"
            )
        options.setdefault(metric, {})[key] = value
    return options


def _list_text() -> str:

    from aelab.study.evaluation import metrics_there_are

    return tabulated(metrics_there_are(), headers="keys")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
