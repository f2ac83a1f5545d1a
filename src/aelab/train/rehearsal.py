"""Tries an optimiser and a schedule for a few steps on a model of 14 numbers, before a training.

Many wrong arguments fail only at the first steps: a division by a step size of 0, a learning rate
below 0, an option that torch refuses in `step`.
"""

from __future__ import annotations

import contextlib
import math
import warnings
from collections.abc import Iterator

import torch
from torch import nn

from aelab.errors import ConfigError
from aelab.settings import Choice, FitSettings
from aelab.train import optimizers, schedules

#: Steps of the optimiser; a second step uses what the first one stored.
STEPS = 3
#: Validations; more than the default patience of ReduceLROnPlateau, which is 10.
VALIDATIONS = 12
#: Number of image counts at which a closed form is evaluated.
PLACES = 20


def rehearse_optimizer(settings: FitSettings) -> None:
    """Makes the optimiser and takes a few steps.

    Raises:
        ConfigError: unknown name or argument, a wrong value, or weights that are not finite.
    """
    part = optimizers.OPTIMIZERS.get(settings.optimizer.name)
    with _once((part,), (settings.optimizer, settings.learnrate)) as is_new:
        if is_new:
            _rehearse_optimizer(settings)


def _rehearse_optimizer(settings: FitSettings) -> None:
    model = _stand_in()
    with optimizers.optimizer_errors(settings.optimizer), _quiet():
        optimizer = optimizers.make_optimizer(model, settings.optimizer, settings.learnrate)
        for _ in range(STEPS):
            _step(model, optimizer)
        if not all(bool(p.isfinite().all()) for p in model.parameters()):
            raise ValueError("makes weights that are not finite at its first steps")


def rehearse_schedule(settings: FitSettings) -> None:
    """Makes the schedule and checks its learning rates over the whole run.

    Raises:
        ConfigError: unknown name or argument, a wrong value, or a learning rate that is negative
            or not finite.
    """
    if settings.scheduler is None:
        return
    choice, optimizer = settings.scheduler, settings.optimizer
    parts = schedules.SCHEDULES.get(choice.name), optimizers.OPTIMIZERS.get(optimizer.name)
    ends = settings.max_images, settings.max_epochs
    values = choice, optimizer, settings.learnrate, settings.batch_size, *ends
    with _once(parts, values) as is_new, _quiet():
        if is_new:
            _rehearse_schedule(settings, choice)


#: What was tried without a mistake: parts, and values as text. Many rows of a matrix share it.
_SOUND: set[tuple[object, str]] = set()
#: Its limit, for processes that check files without end.
_MOST_KEPT = 4096


@contextlib.contextmanager
def _once(parts: tuple[object, ...], values: tuple[object, ...]) -> Iterator[bool]:
    """Context manager: whether this is new; it is remembered if nothing is raised."""
    try:
        key = parts, repr(values)
    except ValueError:  # a number of thousands of digits has no text
        yield True
        return
    yield key not in _SOUND
    if len(_SOUND) >= _MOST_KEPT:
        _SOUND.clear()
    _SOUND.add(key)


def _rehearse_schedule(settings: FitSettings, choice: Choice) -> None:
    model = _stand_in()
    # Schedules with a cycle of momentum need an optimiser that has one; the file's may be wrong.
    try:
        optimizer = optimizers.make_optimizer(model, settings.optimizer, settings.learnrate)
    except ConfigError:
        optimizer = optimizers.make_optimizer(model, Choice("Adam"), settings.learnrate)
    schedule = schedules.make_schedule(
        optimizer,
        choice,
        max_images=settings.max_images,
        batch_size=settings.batch_size,
        max_epochs=settings.max_epochs,
    )
    name = choice.name
    with schedules.schedule_errors(name, choice.arguments):
        for images in _places(settings):
            schedule.before_batch(images)
            _refuse_odd_rate(optimizer, name, images)
        for _ in range(STEPS):
            _step(model, optimizer)
            schedule.after_batch()
            _refuse_odd_rate(optimizer, name, None)
        for loss in range(VALIDATIONS):
            schedule.after_validation(float(loss + 1))
            _refuse_odd_rate(optimizer, name, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: hides torch's warnings, which the run itself will show."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _stand_in() -> nn.Module:
    """A matrix, a convolution and biases: every kind of weight that optimisers distinguish."""
    return nn.Sequential(nn.Linear(2, 2), nn.Conv1d(1, 2, 3))


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 0.5)
    optimizer.step()


def _places(settings: FitSettings) -> list[int]:
    """Image counts from the first batch to the last."""
    end = settings.max_images or PLACES * settings.batch_size
    return [0, settings.batch_size, *(end * place // PLACES for place in range(1, PLACES + 1))]


def _refuse_odd_rate(optimizer: torch.optim.Optimizer, name: str, images: int | None) -> None:
    for group in optimizer.param_groups:
        rate = float(group["lr"])
        if not math.isfinite(rate) or rate < 0:
            when = "" if images is None else f" at {images:,} images"
            raise ConfigError(
                f"scheduler {name} makes the learning rate {rate:.6g}{when}; "
                "possible are finite rates of at least 0"
            )
