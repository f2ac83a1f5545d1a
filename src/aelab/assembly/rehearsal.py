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
from aelab.train import rehearse_optimizer, rehearse_schedule, settings_of_player

if TYPE_CHECKING:
    from aelab.train import FitSettings


@dataclass(frozen=True)
class Built:
    """A run that was built for a check and can then be trained without building it again.

    Attributes:
        spec: its spec.
        parts: its parts on the CPU, with the initial weights of the training.
        calls: call log of an earlier session, which supplied left-out arguments.
        restored: a stored state will replace all weights.
        random_state: state of the default generator after the weights were drawn.
    """

    spec: RunSpec
    parts: Parts
    calls: list[dict[str, Any]] | None
    restored: bool
    random_state: Tensor

    @classmethod
    def of(cls, spec: RunSpec, workspace: Workspace) -> Built:
        """Builds a run in the same way as its training.

        Raises:
            ConfigError: see `build`.
        """
        calls, restored = None, False
        with contextlib.suppress(StoreError):
            run = workspace.store.stored(spec.folder)
            if run is not None and run.record.get("identity") == spec.identity:
                calls, restored = stored_calls(run), bool(run.checkpoints())
        parts = build(spec, workspace, calls=calls, restored=restored)
        return cls(spec, parts, calls, restored, torch.get_rng_state())

    def taken(self, calls: list[dict[str, Any]] | None, restored: bool) -> Parts | None:
        """The parts, if the run's directory has not changed since they were built."""
        if (calls, restored) != (self.calls, self.restored):
            return None
        torch.set_rng_state(self.random_state)
        return self.parts


class Rehearsed(NamedTuple):
    """The result of checking some runs.

    Attributes:
        megabytes: memory of the first trainable run for its model and a batch.
        built: that run; None if it was only checked.
    """

    megabytes: float = 0.0
    built: Built | None = None


def refuse_wrong_arguments(spec: RunSpec, parts: Parts | None, settings: FitSettings) -> None:
    """Tries every player's optimiser and schedule for a few steps on a tiny model.

    Args:
        parts: of the run; None if they could not be built.

    Raises:
        AelabError: a wrong name, argument or value; both as `Problems`.
    """
    mistakes = Mistakes()
    with mistakes.collected(), at_argument(spec, "optimizer", settings.optimizer.name):
        rehearse_optimizer(settings)
        if parts and not any(p.requires_grad for p in parts.model.parameters()):
            raise ConfigError("the model has no trainable parameter")
    with (
        mistakes.collected(),
        at_argument(spec, "scheduler", settings.scheduler and settings.scheduler.name),
    ):
        rehearse_schedule(settings)
    for name, player in parts.objective.players.items() if parts else ():
        own = settings_of_player(player.learning, settings)
        for rehearse in (rehearse_optimizer, rehearse_schedule):
            with mistakes.collected(), _of_term(spec, name):
                rehearse(own)
    mistakes.tell()


@contextlib.contextmanager
def _of_term(spec: RunSpec, name: str) -> Iterator[None]:
    """Context manager: gives errors of a critic's optimiser or schedule the line of its term."""
    try:
        with users_code(spec, None):
            yield
    except AelabError as error:
        paths = (f"objective.{name}", "objective")
        known = (spec.places[path] for path in paths if path in spec.places)
        error.where = next(known, Where(spec.file, key=f"objective.{name}"))
        raise


@contextlib.contextmanager
def at_argument(spec: RunSpec, key: str, name: str | None) -> Iterator[None]:
    """Context manager: gives errors of an optimiser or schedule the line in the file."""
    try:
        with users_code(spec, None):
            yield
    except AelabError as error:
        argument = error.where.key if error.where and not error.where.file else None
        paths = (f"{key}.{name}.{argument}", f"{key}.arguments.{argument}", f"{key}.{name}", key)
        known = (spec.places[path] for path in paths if path in spec.places)
        error.where = next(known, Where(spec.file, key=key))
        raise
