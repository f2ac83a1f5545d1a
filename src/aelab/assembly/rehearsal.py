"""A run is built once: what looks whether it can be trained hands what it built to the training."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from aelab.assembly.parts import Parts, build, users_code
from aelab.assembly.recorded import stored_calls
from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.errors import AelabError, ConfigError, Mistakes, StoreError, Where
from aelab.train import rehearse_optimizer, rehearse_schedule

if TYPE_CHECKING:
    from torch import nn

    from aelab.train import FitSettings


@dataclass(frozen=True)
class Built:
    """A run that was built to be looked at, and is then trained as it is.

    Attributes:
        spec: its text.
        parts: on the CPU, with the weights that training begins with.
        calls: call log of an earlier session, from which left-out arguments came.
        restored: all weights come from a stored state afterwards.
        random_state: of the default generator after the weights were drawn.
    """

    spec: RunSpec
    parts: Parts
    calls: list[dict[str, Any]] | None
    restored: bool
    random_state: Tensor

    @classmethod
    def of(cls, spec: RunSpec, workspace: Workspace) -> Built:
        """Builds a run as its training will.

        Raises:
            ConfigError: see `build`.
        """
        calls, restored = None, False
        with contextlib.suppress(StoreError):  # of a new run; damage is told by the training
            run = workspace.store.open(spec.folder)
            if run.record.get("identity") == spec.identity:
                calls, restored = stored_calls(run), bool(run.checkpoints())
        parts = build(spec, workspace, calls=calls, restored=restored)
        return cls(spec, parts, calls, restored, torch.get_rng_state())

    def taken(self, calls: list[dict[str, Any]] | None, restored: bool) -> Parts | None:
        """The parts, if the directory of the run still says what it said when they were built."""
        if (calls, restored) != (self.calls, self.restored):
            return None
        torch.set_rng_state(self.random_state)
        return self.parts


class Rehearsed(NamedTuple):
    """What a look at some runs found.

    Attributes:
        megabytes: that the first run that can be trained needs for its model and a batch.
        built: this run; None where it was only looked at.
    """

    megabytes: float = 0.0
    built: Built | None = None


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
