"""The clock: what is due follows from it and the settings, and asking changes nothing."""

from __future__ import annotations

import copy
import json
from types import SimpleNamespace

from aelab.train import Clock, State
from aelab.train.loop import checkpoint_due, log_due, validation_due

#: What a checkpoint's JSON holds of a run; runs of earlier versions are opened by these names.
NAMES = {
    "format", "device", "channels_last", "bfloat16", "threads", "images", "batches", "steps",
    "epoch", "images_in_epoch", "accumulated_images", "accumulated_batches", "seconds",
    "cpu_seconds",
    "best_loss", "best_images", "judging", "ema_since", "ema_warms_up", "last_loss",
    "last_loss_images", "last_terms", "start", "exploded_since", "logged_at", "validated_at",
    "validated_epoch", "checkpointed_at", "checkpointed_epoch", "window_images", "window_terms",
    "optimizer_scalars", "optimizer_groups", "schedule", "validation_batch",
    "micro_batch", "shuffle_memory",
}  # fmt: skip


def test_asking_whether_something_is_due_changes_nothing(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(checkpoint_every_images=100, validate_every_images=100)
    state: State = tiny.start(settings)
    state.clock = Clock(images=112, batches=7)
    state.window.images = 112
    before = copy.deepcopy(state.clock)
    for _ in range(2):
        assert checkpoint_due(state.clock, settings)
        assert validation_due(state.clock, settings, final=False)
        assert log_due(state, settings, final=False)
        assert state.clock == before
    state.clock.note_checkpointed()
    state.clock.note_validated()
    state.clock.note_logged()
    assert not checkpoint_due(state.clock, settings)
    assert not validation_due(state.clock, settings, final=True)
    assert not log_due(state, settings, final=False)


def test_a_checkpoint_keeps_the_names_of_earlier_versions(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=80, validate_every_images=40)
    state: State = tiny.start(settings)
    tiny.fit_all(state, settings, tiny.images(100), tiny.images(20, 1))
    _, numbers = state.stored()
    assert set(numbers) == NAMES
    json.dumps(numbers, allow_nan=False)
