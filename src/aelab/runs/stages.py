"""Whether the first stage of a run is still the one that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping

from aelab.errors import StoreError
from aelab.runs.record import Run
from aelab.runs.store import Store


def changed_first_stage(run: Run, store: Store) -> str:
    """What has changed in the run whose codes this one was trained on; empty if nothing has.

    A run that is missing has not changed: a finished second stage stays as it is.

    Args:
        run: any run.
        store: where the other one is.
    """
    stored = run.record.get("first_stage")
    if not isinstance(stored, Mapping):
        return ""
    try:
        _, state = store.resolve(f"{stored.get('run')}@{stored.get('images')}")
        now = state.about().get("tensors", {}).get("sha256")
    except StoreError:
        try:
            now = store.open(str(stored.get("run"))).record.get("identity")
        except StoreError:
            return ""
    if now == stored.get("weights_sha256"):
        return ""
    return (
        f"it was trained on the codes of {stored.get('run')} at {stored.get('images')} images, "
        "which has been trained anew since"
    )
