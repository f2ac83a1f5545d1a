"""The runs of a file, one after the other."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from aelab.assembly.notes import common_notes
from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.config.twins import once
from aelab.execute import events as ev
from aelab.execute.events import Event
from aelab.execute.session import Options, refuse_conflicts, train_run
from aelab.execute.stop import StopRequest
from aelab.execute.twins import begun, same_run


def run_matrix(
    specs: Sequence[RunSpec], workspace: Workspace, options: Options, stop: StopRequest
) -> Iterator[Event]:
    """Trains the given runs in order; yields their events between a start and an end."""
    store = workspace.store
    store.make_root()
    trained = once(specs, [] if options.restart else begun(specs, store))
    refuse_conflicts([spec for spec in specs if trained[spec.folder] is spec], workspace, options)
    count = dict.fromkeys((ev.RunFinished, ev.RunSkipped, ev.RunErred), 0)
    impossible = failed_before = held = 0
    yield ev.MatrixStarted([spec.name for spec in specs], common_notes(specs))
    for number, spec in enumerate(specs, start=1):
        if stop:
            break
        same = same_run(spec, trained[spec.folder], store, restart=options.restart)
        happening: Iterable[Event] = (
            [ev.RunSkipped(spec.name, same)]
            if same
            else train_run(spec, workspace, options, stop, number)
        )
        for event in happening:
            if type(event) in count:
                count[type(event)] += 1
            impossible += isinstance(event, ev.RunErred) and event.impossible
            failed_before += isinstance(event, ev.RunSkipped) and event.failed_before
            held += isinstance(event, ev.RunSkipped) and event.held
            yield event
    finished, skipped, failed = count.values()
    yield ev.MatrixFinished(finished, skipped, failed, bool(stop), impossible, failed_before, held)
