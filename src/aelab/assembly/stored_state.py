"""Finds the stored state that a run starts from: `load: RUN[@images]`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError

from aelab.assembly.workspace import Workspace
from aelab.config import RunSpec
from aelab.config.load import option_of
from aelab.errors import ConfigError, RefusedError, StoreError, Where
from aelab.roots import lies_inside
from aelab.runs.checkpoints import Checkpoint
from aelab.runs.record import Run
from aelab.runs.store import Store
from aelab.train import refuse_other_shapes

if TYPE_CHECKING:
    from torch import Tensor, nn


def state_to_load(spec: RunSpec, model: nn.Module, workspace: Workspace) -> tuple[Run, Checkpoint]:
    """The run and state given by `load`, after checking that its weights fit the model.

    A file may only name runs of the store; the command line and trusted files any run directory.

    Raises:
        ConfigError: no such run or state, or another model's weights.
        RefusedError: the file names a run outside the store.
    """
    reference = str(spec.settings.load)
    where = spec.places.get("load")
    store = workspace.store
    try:
        run, checkpoint = store.resolve(reference)
    except StoreError as error:
        raise ConfigError(error.message, where=where, hint=error.hint) from error
    given_by_hand = where == Where(option_of("load"))  # only files have lines
    files = (checkpoint.tensors_path, checkpoint.json_path)
    inside = all(lies_inside(path, store.root) for path in files)
    if inside or workspace.trust or given_by_hand:
        _refuse_another_model(run, checkpoint, model, where)
        return run, checkpoint
    raise RefusedError(
        f"given {reference!r}; a file can only load runs that are in {store.root}/",
        where=where,
        hint=f"if you want it: aelab ... --load {reference}",
    )


def is_begun(spec: RunSpec, store: Store) -> bool:
    """Whether this run has a stored state with all weights, so files of weights are not needed."""
    try:
        run = store.stored(spec.folder)
    except StoreError:
        return False
    if run is None or run.record.get("identity") != spec.identity:
        return False
    return bool(run.checkpoints())


def furthest_intact_state(run: Run) -> tuple[Checkpoint, bytes, dict[str, Any]] | None:
    """The latest readable state, with its tensors file and its numbers.

    `latest` may have fewer images than others, because `on_nan: rollback` goes back. Damaged states
    are noted in the run's log and skipped: an older one costs only some repeated training.

    Returns:
        None if the run has no state yet.

    Raises:
        StoreError: every state is damaged.
    """
    damage: StoreError | None = None
    states: list[tuple[int, Checkpoint]] = []
    for checkpoint in run.checkpoints():
        try:
            states.append((checkpoint.images, checkpoint))
        except StoreError as error:
            damage = error
    order = sorted(states, key=lambda state: (state[1].name == "latest", state[0]), reverse=True)
    for _, checkpoint in order:
        try:
            tensors, numbers = checkpoint.read()
        except StoreError as error:
            run.log(f"skipped: {error.message}")
            damage = damage or error
        else:
            return checkpoint, tensors, numbers
    if damage is not None:
        raise damage
    return None


def tensors_of(checkpoint: Checkpoint, content: bytes) -> dict[str, Tensor]:
    """Parses the tensors from the bytes of a state.

    Raises:
        StoreError: the bytes are no safetensors file, although their hash is correct.
    """
    try:
        return dict(safetensors.torch.load(content))
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _damaged(checkpoint, error) from error


@contextlib.contextmanager
def damage_told(checkpoint: Checkpoint) -> Iterator[None]:
    """Context manager: reports missing or wrong numbers of a state as damage of that state.

    Raises:
        StoreError: in place of Python's own exception.
    """
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise _damaged(checkpoint, error) from error


def _damaged(checkpoint: Checkpoint, error: Exception) -> StoreError:
    return StoreError(
        f"{checkpoint.json_path} or its tensors are damaged: {type(error).__name__}: {error}",
        hint="use another checkpoint of the run (RUN@images), or train again with --restart",
    )


def weights_prefix(tensors: Iterable[str]) -> str:
    """The prefix of the weights to use: the averaged ones (`ema.`) if the state has them."""
    return "ema." if any(name.startswith("ema.") for name in tensors) else "model."


def _refuse_another_model(
    run: Run, checkpoint: Checkpoint, model: nn.Module, where: Where | None
) -> None:
    """Raises if names or shapes of the weights differ; does not read the weights."""
    try:
        shapes = checkpoint.shapes()
    except StoreError as error:
        raise ConfigError(error.message, where=where, hint=error.hint) from error
    try:
        refuse_other_shapes(model, shapes)
    except StoreError as error:
        hint = f"it takes a run of the same model; {run.folder} has another"
        raise ConfigError(error.message, where=where, hint=hint) from error
