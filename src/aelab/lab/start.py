"""Which stored state a run begins with: `load: RUN[@images]`."""

from __future__ import annotations

from aelab.config import RunSpec
from aelab.config.load import COMMAND_LINE
from aelab.errors import RefusedError
from aelab.runs.checkpoints import Checkpoint
from aelab.runs.record import Run
from aelab.runs.store import Store


def state_to_load(spec: RunSpec, store: Store, *, trust: bool = False) -> tuple[Run, Checkpoint]:
    """The run and state that `load` means.

    A file may name runs of the store only; the command line, and trusted files, any run directory.

    Raises:
        StoreError: no such run or state.
        RefusedError: the file names a run outside of the store.
    """
    reference = str(spec.settings.load)
    where = spec.places.get("load")
    run, checkpoint = store.resolve(reference)
    given_by_hand = where is not None and where.file == COMMAND_LINE
    home = store.root.resolve()
    inside = all(
        home in path.resolve().parents for path in (checkpoint.tensors_path, checkpoint.json_path)
    )
    if inside or trust or given_by_hand:
        return run, checkpoint
    raise RefusedError(
        f"given {reference!r}; a file can only load runs that are in {store.root}/",
        where=where,
        hint=f"if you want it: aelab ... --load {reference}",
    )
