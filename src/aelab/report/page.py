"""The report: one self-contained HTML file that needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from aelab.errors import UserError, visible
from aelab.outputs import write_output
from aelab.report import contents, series, texts
from aelab.report.gallery import embedded_figures
from aelab.report.incidents import INCIDENT_PAGE, incident_words
from aelab.report.learning import learning
from aelab.report.tables import OF_LOSS
from aelab.runs.record import Run, metrics_kept


def page(
    runs: Sequence[Run],
    path: Path,
    *,
    title: str | None = None,
    now: datetime | None = None,
    explorers: Sequence[Mapping[str, Any]] = (),
    explorer_notes: Sequence[str] = (),
) -> Path:
    """Write the report of some runs: table, curves, reproductions, configurations, sources.

    Args:
        runs: any number, finished or not.
        path: the HTML file; its folder is made, an older report is replaced in one step.
        title: heading; default the names of the experiment files.
        now: the time in the head; default SOURCE_DATE_EPOCH if set (equal runs then give equal
            bytes), else the clock.
        explorers: latent spaces that can be dragged, from `study.explorer.explorer_of`.
        explorer_notes: lines on runs without a latent space.

    Returns:
        `path`.

    Raises:
        UserError: without any run.
        UserError: if the file cannot be written, or one is there that aelab did not make.
    """
    with metrics_kept(runs):
        html = render_page(
            runs,
            title=title,
            now=now or moment(),
            folder=path.parent,
            explorers=explorers,
            explorer_notes=explorer_notes,
        )
    return write_output(path, html)


def moment() -> datetime:
    """SOURCE_DATE_EPOCH if set, else the present time, in UTC.

    Raises:
        UserError: if SOURCE_DATE_EPOCH is no number of seconds.
    """
    text = os.environ.get("SOURCE_DATE_EPOCH")
    try:
        seconds = int(text) if text else time.time()
        return datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise UserError(
            f"the environment variable SOURCE_DATE_EPOCH is {text!r}; expected seconds since 1970",
            hint="unset SOURCE_DATE_EPOCH",
        ) from error


def render_page(
    runs: Sequence[Run],
    *,
    now: datetime,
    title: str | None = None,
    folder: Path | None = None,
    explorers: Sequence[Mapping[str, Any]] = (),
    explorer_notes: Sequence[str] = (),
) -> str:
    """The report as text; arguments as in `page`.

    Args:
        folder: folder of the page: links to the pages of incidents are relative to it.
    """
    if not runs:
        raise UserError("a report needs at least one run", hint="aelab ls lists the runs")
    ordered, sheet, merged = contents.in_table_order(runs)
    data = contents.script_data(ordered)
    figures, figures_left_out = embedded_figures(ordered)
    scripts = [_asset("uPlot.iife.min.js"), _asset("page.js")]
    style = _asset("uPlot.min.css") + _asset("page.css")
    if explorers:  # one script, so that `decoder` is visible to nothing else
        parts = [series.palette_script(), _asset("decoder.js"), _asset("explorer.js")]
        scripts.append("{\n" + "\n".join(parts) + "\n}\n")
        style += _asset("explorer.css")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.from_string(_read("templates/page.html.j2"))
    return template.render(
        title=title or _title(ordered),
        now=now,
        policy=_policy(scripts),
        style=Markup(style),
        scripts=[Markup(script) for script in scripts],
        data=Markup(script_json(data)),
        explorers=explorers,
        explorer_notes=explorer_notes,
        explorer_data=Markup(script_json(list(explorers))),
        summary=contents.summary(ordered),
        states=contents.states(ordered),
        warnings=contents.warnings(ordered),
        failures=contents.failures(ordered),
        sheet=sheet,
        merged=merged,
        of_loss=OF_LOSS,
        heading=data["heading"],
        keys=list(data["groups"]),
        groups=data["groups"],
        terms=data["terms"],
        has_pictures=bool(data["pictures"]),
        exact=data["exact"],
        which_pictures=contents.which_pictures(ordered),
        texts=texts.of_page(ordered),
        learning=learning(ordered),
        figures=figures,
        figures_left_out=figures_left_out,
        about=data["runs"],
        details=[_details(run, folder or Path()) for run in ordered],
        sources=contents.all_data(ordered),
        environments=contents.environments(ordered),
    )


def script_json(value: Any) -> str:
    """JSON that is safe inside `<script>`: it cannot end the element."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _policy(scripts: Sequence[str]) -> str:
    """The content security policy: run only these scripts and show only embedded pictures."""
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts]
    allowed = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _read(name: str) -> str:
    return files("aelab.report").joinpath(name).read_text(encoding="utf-8")


def _asset(name: str) -> str:
    return _read(f"assets/{name}").strip() + "\n"


def _title(runs: Sequence[Run]) -> str:
    names = dict.fromkeys(
        Path(str(run.record.get("experiment") or run.folder.partition("/")[0])).stem for run in runs
    )
    listed = list(names)
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")


def _details(run: Run, folder: Path) -> dict[str, Any]:
    """The details of one run, shown when it is unfolded."""
    record, error = run.record, run.status.get("error") or {}
    facts = {
        "name": series.run_name(run),
        "folder": run.folder,
        "experiment": record.get("experiment"),
        "identity": record.get("identity"),
        "seed": record.get("seed"),
        "shape": record.get("shape"),
        "latent shape": record.get("latent_shape"),
        "MFLOPs per image, forward": round((record.get("flops_per_image") or 0) / 1e6, 3) or None,
        "updated": run.status.get("updated"),
    }
    return {
        "state": run.state_words,
        "facts": {k: series.value_text(v) for k, v in facts.items() if v not in (None, "", [])},
        "error": " ".join(str(error[k]) for k in ("type", "message") if error.get(k)),
        "hint": str(error.get("hint") or ""),
        "incident": incident_words(run),
        "incident_page": quote(
            os.path.relpath(run.path / INCIDENT_PAGE, folder).replace("\\", "/")
        ),
        "resolved": visible(run.read_text("resolved.yml") or run.read_text("experiment.yml") or ""),
    }
