"""Which of several runs that are the same run is trained, and what is said of the others."""

from __future__ import annotations

from collections.abc import Iterable

from aelab.config import RunSpec
from aelab.config.experiment import Twin
from aelab.errors import StoreError
from aelab.runs.record import Run
from aelab.runs.store import Store


def begun(specs: Iterable[RunSpec], store: Store) -> list[str]:
    """Folders of runs with twins that exist already, finished ones first, then the furthest."""
    found = []
    for spec in specs:
        if spec.same and (run := _stored(spec, store)) is not None:
            reached = run.status.get("images") or 0
            found.append((run.state != "finished", -reached, spec.folder))
    return [folder for _, _, folder in sorted(found)]


def same_run(spec: RunSpec, first: RunSpec, store: Store, *, restart: bool) -> str:
    """Why a run is not trained: another one is the same; empty where it is to be trained.

    Args:
        spec: the run.
        first: what is trained for it, of the selected runs; perhaps itself.
        store: where a twin may be finished that is not selected.
        restart: what is stored does not count.
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
    """The run of this identity in its own or another folder."""
    folder = folder or spec.folder
    try:
        run = Run.at(store.path_of(folder), folder)
    except StoreError:
        return None
    return run if run.record.get("identity") == spec.identity else None


def _is_finished(spec: RunSpec, twin: Twin, store: Store) -> bool:
    run = _stored(spec, store, twin.folder)
    return run is not None and run.state == "finished"
