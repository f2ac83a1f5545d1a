"""Formats plans and data sets as text and JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from aelab.cli.output import tabulated
from aelab.cli.progress import duration, runs_text

if TYPE_CHECKING:
    from aelab.doctor.plan import Plan, RunPlan


def plan_json(plan: Plan) -> str:
    """JSON list of runs, each with name, matrix values, parameters, costs and findings.

    Each run also has the findings of the whole file. `problems` and `notes` are their texts.
    `losses` is included as in `aelab table --json`, but empty: nothing has been trained.
    """
    entries = [
        {
            **asdict(run),
            "findings": [found.as_json() for found in dict.fromkeys(run.findings)],
            "problems": run.problems,
            "notes": run.notes,
            "losses": {},
        }
        for run in plan.runs
    ]
    return json.dumps(entries, indent=2, default=str)


def plan_text(plan: Plan) -> str:
    """The runs of a file as a table, then its notes and problems."""
    rows = [_plan_row(run) for run in plan.runs]
    header = [
        "run",
        "parameters",
        "encoder",
        "decoder",
        "latent",
        "images",
        "MFLOP forward",
        "time",
        "memory",
    ]
    align = ["left", *["right"] * 8]
    parts = [tabulated(rows, header, disable_numparse=True, colalign=align)]
    good = [run for run in plan.runs if not run.problems]
    trained = sum(not run.same_as for run in plan.runs)
    different = f" ({trained} different)" if trained < len(plan.runs) else ""
    parts.append(
        f"{runs_text(len(plan.runs))}{different}, {len(plan.runs) - len(good)} with problems"
        + _time_of(good)
    )
    parts += [f"{found.level}: {found.told()}" for found in plan.findings]
    parts += [f"problem: {_whose(plan, problem)}{problem}" for problem in plan.problems]
    return "\n\n".join(parts[:2]) + "".join("\n" + part for part in parts[2:])


def _time_of(good: list[RunPlan]) -> str:
    """The total time of the possible runs, as far as their ends are known."""
    trained = [run for run in good if not run.same_as]
    known = [run.estimated_seconds for run in trained if run.estimated_seconds is not None]
    if not known:
        return "; the time is unknown until the images are read" if trained else ""
    rest = len(trained) - len(known)
    least = f"at least, {runs_text(rest)} of unknown length not counted" if rest else "estimate"
    total = duration(sum(known))
    return f"; about {total} one after the other here ({least}, without validation)"


def _plan_row(run: RunPlan) -> list[str]:
    if run.problems:
        return [run.name, "impossible", *[""] * 7]
    counts = run.parameters
    return [
        run.name,
        *(
            f"{counts.get(part, 0):,}" if counts.get(part) else "-"
            for part in ("model", "encoder", "decoder")
        ),
        "x".join(map(str, run.latent_shape)) or "-",
        f"{run.images:,}" if run.images else "-",
        f"{run.flops_per_image / 1e6:,.1f}" if run.flops_per_image else "-",
        "same" if run.same_as else duration(run.estimated_seconds),
        f"{run.estimated_memory_mb:,.0f} MB" if run.estimated_memory_mb else "-",
    ]


def _whose(plan: Plan, problem: str) -> str:
    names = [run.name for run in plan.runs if problem in run.problems]
    if len(names) == len(plan.runs):
        return ""
    if len(names) <= 3:
        return f"{', '.join(names)}: "
    first = f"{', '.join(names[:3])} and {len(names) - 3} more"
    return f"{len(names)} of {runs_text(len(plan.runs))} ({first}): "


def data_json(shown: dict[str, Any]) -> str:
    """JSON list of data sets, or of the requested one with its statistics."""
    return json.dumps(shown.get("datasets", [shown]), indent=2, default=str)


def data_text(shown: dict[str, Any]) -> str:
    """The list of data sets, or one set's statistics."""
    if "datasets" in shown:
        rows = [
            [entry["name"], entry["status"], entry["description"]] for entry in shown["datasets"]
        ]
        header = ["name", "where", "what"]
        return tabulated(rows, header, disable_numparse=True)
    lines = [[key, _value(value)] for key, value in shown.items() if key != "examples"]
    text = tabulated(lines, tablefmt="plain", disable_numparse=True)
    return "\n\n".join([text, *shown.get("examples", [])])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_value(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_value(inner) for inner in value)
    return str(value)
