"""Records NaN and infinities of a run: `incident.json`, `incident.html`, and one note."""

from __future__ import annotations

from typing import Any

from aelab.errors import DivergedError
from aelab.execute.record import store_findings
from aelab.findings import Finding, stored_findings
from aelab.report.incidents import INCIDENT_DATA, INCIDENT_PAGE, incident_page, read_incidents
from aelab.runs.record import Run
from aelab.train import Halved, Mended, ValidationHalved
from aelab.train.guard.mending import mending_words

#: The code of the finding on the last reaction; a newer one replaces it.
MENDED = "numbers-ended"


def note_mending(run: Run, event: Mended, number: int) -> str:
    """Writes an incident that the run survived.

    Args:
        run: the run.
        event: what happened.
        number: number of the intervention in the run, from 1.

    Returns:
        The reaction, in words.
    """
    dropped = [row for row in run.metrics() if row.get("images", 0) > event.images]
    report = {**event.report, "rows_dropped": dropped[-50:]}
    # If the process is killed after this, the same events repeat and write the same page.
    before = [entry for entry in read_incidents(run) if entry.get("done")][: number - 1]
    _write(run, [*before, report])
    words = mending_words(len(before) + 1, event.done)
    found = Finding(
        "note", "numbers-ended", words, f"see {INCIDENT_PAGE} in the run's folder", seen=None
    )
    kept = [other for other in stored_findings(run.record) if other.code != MENDED]
    store_findings(run, [*kept, found])
    return event.done.words()


def note_halving(run: Run, event: Halved | ValidationHalved, batch_size: int) -> str:
    """Records that memory did not suffice for a whole batch; returns this in words.

    Args:
        batch_size: that of the training.
    """
    since = f"out of memory: from {event.images:,} images on,"
    if isinstance(event, Halved):
        found = Finding(
            "note",
            "batch-in-parts",
            f"{since} batches of {batch_size:,} are computed in parts of {event.micro_batch:,}",
            "the optimiser's steps are the same up to the last bits",
        )
    else:
        found = Finding(
            "note",
            "validation-in-parts",
            f"{since} validations take {event.batch:,} images at once",
            "their losses are the same up to the last bits",
        )
    kept = [other for other in stored_findings(run.record) if other.code != found.code]
    store_findings(run, [*kept, found])
    return found.message


def note_incident(run: Run, error: DivergedError) -> None:
    """Writes an incident that ended the run."""
    report = error.incident or {
        "noticed": error.message,
        "cause": error.message.partition("; ")[0],
        "advice": error.hint,
        "done": None,
        "done_in_words": "the run ended as failed",
    }
    before = [entry for entry in read_incidents(run) if entry.get("done")]
    _write(run, [*before, report])


def _write(run: Run, incidents: list[dict[str, Any]]) -> None:
    run.write_json(INCIDENT_DATA, {"format": 1, "incidents": incidents})
    name = str(run.record.get("name") or run.folder)
    run.write_bytes(INCIDENT_PAGE, incident_page(name, incidents).encode(errors="replace"))
