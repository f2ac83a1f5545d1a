"""Runs with different names that are the same run: which of them is trained."""

from __future__ import annotations

from collections.abc import Iterable

from aelab.config import RunSpec
from aelab.config.experiment import Twin
from aelab.errors import StoreError
from aelab.runs.record import Run
from aelab.runs.store import Store


def begun(specs: Iterable[RunSpec], store: Store) -> list[str]:
    """Folders of stored runs that have twins: finished ones first, then by images seen."""
    found = []
    for spec in specs:
        if spec.same and (run := _stored(spec, store)) is not None:
            reached = run.status.get("images") or 0
            found.append((run.state != "finished", -reached, spec.folder))
    return [folder for _, _, folder in sorted(found)]


def same_run(spec: RunSpec, first: RunSpec, store: Store, *, restart: bool) -> str:
    """Why a run is not trained: it is the same as another one; empty if it is trained.

    Args:
        spec: the run.
        first: the selected run that is trained for it; may be itself.
        store: may contain a finished twin that is not selected.
        restart: whether to ignore stored runs.
    """
    other: RunSpec | Twin | None = None if first is spec else first
    if other is None and not restart and _stored(spec, store) is None:
        finished = (twin for twin in spec.same if _is_finished(spec, twin, store))
        other = next(finished, None)
    if other is None:
        return ""
    keys = [k for k in spec.matrix if repr(spec.matrix[k]) != repr(other.matrix.get(k))]
    why = f": {', '.join(keys)} changes nothing" if keys else ""
    return f"the same run as {other.name}{why}"


def _stored(spec: RunSpec, store: Store, folder: str = "") -> Run | None:
    """The stored run with this identity, in its own or another folder; None if there is none."""
    folder = folder or spec.folder
    try:
        run = Run.at(store.path_of(folder), folder)
    except StoreError:
        return None
    return run if run.record.get("identity") == spec.identity else None


def _is_finished(spec: RunSpec, twin: Twin, store: Store) -> bool:
    run = _stored(spec, store, twin.folder)
    return run is not None and run.state == "finished"
