"""`precision: auto` on this machine; timings are cached, so that equal runs agree."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from aelab.errors import StoreError
from aelab.roots import cache_folder
from aelab.runs.atomic import write_json
from aelab.train.batches import Draws, ScheduledSets
from aelab.train.forward import ObjectiveLike, Task
from aelab.train.loop import next_batch
from aelab.train.precision import LEAST_GAIN, StepTimes, time_precisions

if TYPE_CHECKING:
    from aelab.settings import FitSettings
    from aelab.train import State
    from aelab.types import Images


def settle_on_machine(
    state: State, objective: ObjectiveLike, images: Images, settings: FitSettings
) -> StepTimes | None:
    """Chooses the precision of a training that has not started, if the settings leave it open.

    A step of each precision is timed once for a model, an objective, a batch and a number of
    threads; the times are kept in the cache. Processes that ask at once wait for the first.

    Args:
        state: a training of one run.
        images: the training set.

    Returns:
        Seconds of a step in each precision; None without a choice: another setting, another device
        than the CPU, or a CPU without bfloat16 units.
    """
    (member,) = state.learner.members
    if not member.precision_open or state.clock.batches:
        return None
    task = Task(objective, settings)
    place = _place(state, task, images)
    with _locked(place):
        times = _remembered(place)
        if times is None:
            sets = ScheduledSets(images, member.device, member.channels_last)
            draws = Draws(settings.seed, member.device)
            times = time_precisions(
                state, [task], lambda: [next_batch(state, 0, task, sets.at(0), draws)]
            )
            with contextlib.suppress(OSError, StoreError):  # the cache is a convenience
                write_json(place, asdict(times), durable=False)
    member.bfloat16, member.precision_open = times.choose_bfloat16, False
    return times


def precision_told(times: StepTimes) -> str:
    """Text `precision auto: bfloat16, a step is 1.5 times as fast (66 ms, float32 99 ms)`."""
    chosen = "bfloat16" if times.choose_bfloat16 else "float32"
    limit = "" if times.choose_bfloat16 else f", {LEAST_GAIN:g} times are needed"
    return (
        f"precision auto: {chosen}; a step in bfloat16 is {times.gain:.2f} times as fast on this "
        f"machine ({1000 * times.bfloat16:.3g} ms, float32 {1000 * times.float32:.3g} ms{limit})"
    )


def _place(state: State, task: Task, images: Images) -> Path:
    """The file in the cache, named by everything that affects the time of a step."""
    (member,), settings = state.learner.members, task.settings
    described = getattr(task.objective, "describe", lambda: repr(task.objective))
    parts = (
        torch.__version__,
        str(torch.cpu.get_capabilities().get("cpu_name")),
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


def _remembered(place: Path) -> StepTimes | None:
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
        return StepTimes(float(found["float32"]), float(found["bfloat16"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
