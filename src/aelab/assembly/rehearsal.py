"""A few steps of optimiser and schedule on a tiny model: wrong arguments are found in a moment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from aelab.assembly.parts import users_code
from aelab.config import RunSpec
from aelab.errors import AelabError, ConfigError, Mistakes, Where
from aelab.train import rehearse_optimizer, rehearse_schedule

if TYPE_CHECKING:
    from torch import nn

    from aelab.train import FitSettings


def refuse_wrong_arguments(spec: RunSpec, model: nn.Module | None, settings: FitSettings) -> None:
    """Optimiser and schedule make a few steps on a tiny model, also beside a wrong one.

    Raises:
        AelabError: a wrong name, argument or value; both as `Problems`.
    """
    mistakes = Mistakes()
    with mistakes.collected(), at_argument(spec, "optimizer", settings.optimizer.name):
        rehearse_optimizer(settings)
        if model is not None and not any(p.requires_grad for p in model.parameters()):
            raise ConfigError("the model has no trainable parameter")
    with (
        mistakes.collected(),
        at_argument(spec, "scheduler", settings.scheduler and settings.scheduler.name),
    ):
        rehearse_schedule(settings)
    mistakes.tell()


@contextlib.contextmanager
def at_argument(spec: RunSpec, key: str, name: str | None) -> Iterator[None]:
    """Errors of an optimiser or schedule at the line of the argument, or of the key."""
    try:
        with users_code(spec, None):
            yield
    except AelabError as error:
        argument = error.where.key if error.where and not error.where.file else None
        paths = (f"{key}.{name}.{argument}", f"{key}.arguments.{argument}", f"{key}.{name}", key)
        known = (spec.places[path] for path in paths if path in spec.places)
        error.where = next(known, Where(spec.file, key=key))
        raise
