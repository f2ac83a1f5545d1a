"""`precision: auto` on this machine; trials are cached, so that equal runs agree."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from aelab.errors import StoreError
from aelab.roots import cache_folder
from aelab.runs.atomic import write_json
from aelab.train.batches import Draws, ScheduledSets
from aelab.train.forward import ObjectiveLike, Task
from aelab.train.horizon import horizon
from aelab.train.loop import next_batch
from aelab.train.machine import name_of
from aelab.train.precision import (
    LEAST_AGREEMENT,
    LEAST_GAIN,
    PrecisionTrial,
    is_worth_a_trial,
    settle,
    try_precisions,
)

if TYPE_CHECKING:
    from aelab.settings import FitSettings
    from aelab.train import State
    from aelab.types import Images


def settle_on_machine(
    state: State,
    objective: ObjectiveLike,
    train: Sequence[tuple[int, Images]],
    settings: FitSettings,
) -> PrecisionTrial | None:
    """Chooses the precision of a training that has not started, if the settings leave it open.

    The two precisions are tried once for a model, an objective, a batch and a number of threads;
    the result is kept in the cache. Processes that ask at once wait for the first.

    Args:
        state: a training of one run.
        train: (first epoch, images) of each training set.

    Returns:
        The trial; None without one: another setting, a short training, a device without bfloat16
        units, or a step that fails in float32, too.
    """
    if not is_worth_a_trial(state, horizon(settings, [(at, len(images)) for at, images in train])):
        return None
    (member,) = state.learner.members
    task, images = Task(objective, settings), train[0][1]
    place = _place(state, task, images)
    with _locked(place):
        trial = _remembered(place)
        if trial is None:
            sets = ScheduledSets(images, member.device, member.channels_last)
            draws = Draws(settings.seed, member.device)
            trial = try_precisions(
                state, [task], lambda: [next_batch(state, 0, task, sets.at(0), draws)]
            )
            if trial is not None:
                with contextlib.suppress(OSError, StoreError):  # the cache is a convenience
                    write_json(place, asdict(trial), durable=False)
    settle(state, trial)
    return trial


def precision_told(trial: PrecisionTrial) -> str:
    """Text `precision auto: bfloat16, a step is 1.5 times as fast (66 ms, float32 99 ms)`."""
    if trial.refused:
        return f"precision auto: float32; this model cannot compute in bfloat16: {trial.refused}"
    chosen = "bfloat16" if trial.choose_bfloat16 else "float32"
    limit = f", {LEAST_GAIN:g} times are needed" if trial.gain < LEAST_GAIN else ""
    words = (
        f"precision auto: {chosen}; a step in bfloat16 is {trial.gain:.2f} times as fast on this "
        f"machine ({1000 * trial.bfloat16:.3g} ms, float32 {1000 * trial.float32:.3g} ms{limit})"
    )
    if trial.agreement >= LEAST_AGREEMENT:
        return words
    return (
        f"{words}, but its gradient differs from that in float32: cosine {trial.agreement:.3f}, "
        f"{LEAST_AGREEMENT:g} is needed"
    )


def _place(state: State, task: Task, images: Images) -> Path:
    """The file in the cache, named by everything that affects the time of a step."""
    (member,), settings = state.learner.members, task.settings
    described = getattr(task.objective, "describe", lambda: repr(task.objective))
    parts = (
        torch.__version__,
        name_of(member.device),
        member.threads,
        member.channels_last,
        settings.batch_size,
        settings.micro_batch_size,
        settings.optimizer,
        settings.ema_decay,
        images.shape,
        [repr(change) for change in images.augment],
        repr(member.model),
        [tuple(p.shape) for p in member.model.parameters()],
        described(),
    )
    key = hashlib.sha256(repr(parts).encode()).hexdigest()[:24]
    return cache_folder() / "precision" / f"{key}.json"


@contextlib.contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Context manager: one process at a time, if the folder supports locks."""
    from filelock import FileLock

    lock = None
    with contextlib.suppress(OSError, NotImplementedError):
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.with_suffix(".lock"))
        lock.acquire()
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def _remembered(place: Path) -> PrecisionTrial | None:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        float32, bfloat16, agreement = (
            float(found[name]) for name in ("float32", "bfloat16", "agreement")
        )
        return PrecisionTrial(float32, bfloat16, agreement, str(found["refused"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
