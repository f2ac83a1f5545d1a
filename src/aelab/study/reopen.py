"""Rebuilds the trained model of a stored run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from aelab import config
from aelab.assembly.parts import build
from aelab.assembly.place import place_of, reading_of
from aelab.assembly.recorded import stored_calls
from aelab.assembly.stored_state import damage_told, tensors_of, weights_prefix
from aelab.assembly.workspace import Workspace
from aelab.errors import ConfigError, Problems, StoreError
from aelab.ops.value_range import as_given
from aelab.runs.files import is_regular
from aelab.study.opened import OpenedRun
from aelab.train import load_weights, set_clock

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aelab.roots import Roots
    from aelab.types import ValueRange


def take_bytes(model: nn.Module, value_range: ValueRange) -> None:
    """Makes `model(...)` and `model.encode` accept uint8 images as well as floats.

    uint8 is converted to the value range of the model; floats must be in it already.
    """
    encode = model.encode

    def of_bytes(images: Tensor) -> Tensor:
        """The latent of images (B, C, H, W), uint8 or float."""
        return encode(as_given(images, value_range))  # type: ignore[operator,no-any-return]

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of the model, with its images converted to floats."""
        return (as_given(inputs[0], value_range), *inputs[1:]) if inputs else inputs

    model.encode = of_bytes  # type: ignore[assignment]
    model.register_forward_pre_hook(before)


def reopen_run(reference: str, workspace: Workspace) -> OpenedRun:
    """Opens a stored run with its trained model, objective and data sets.

    Its text is evaluated again under the same restriction as at training. Arguments that the text
    leaves out come from the run's record, so later defaults do not change it. Data with paths
    relative to the experiment file are searched in the folder of that file at training (see
    `assembly.place`), then in the folders of the workspace.

    Args:
        reference: RUN, RUN@best, RUN@latest or RUN@images; RUN alone means the best state.
        workspace: folder of runs, folders that may be read, and the device.

    Raises:
        StoreError: no such run or state, or it needs `trust`.
    """
    run, checkpoint = workspace.store.resolve(reference)
    if run.record.get("trust") and not workspace.trust:
        raise StoreError(
            f"run {run.folder} was made with --trust: opening it evaluates plain Python",
            hint="if the file is your own: trust=True, or --trust on the command line",
        )
    place = place_of(run, trust=workspace.trust)
    reading = workspace.with_runs(reading_of(run, place, workspace.data))
    text = run.path / "resolved.yml"
    if not is_regular(text, run.path):
        raise StoreError(
            f"cannot open run {run.folder}: {text} is not a file of this run, or is missing",
            hint="restore it from a copy; the tables and pictures of the run can still be read",
        )
    described = config.load(text, trust=workspace.trust, home=reading.base).runs()
    if len(described) != 1:
        raise StoreError(
            f"cannot open run {run.folder}: {text} describes {len(described)} runs, not one",
            hint="restore it from a copy, or train the run again with --restart",
        )
    spec = described[0]
    with _told_where_modules_were(reading):
        parts = build(spec, workspace, reading=reading, calls=stored_calls(run), restored=True)
    content, numbers = checkpoint.read()
    tensors = tensors_of(checkpoint, content)
    load_weights(parts.model, tensors, weights_prefix(tensors))
    parts.model = parts.model.to(parts.device).eval()
    with damage_told(checkpoint):
        set_clock(parts.model, int(numbers["images"]), int(numbers["epoch"]))
    state = reference.partition("@")[2] or checkpoint.name
    opened = OpenedRun(
        run,
        spec,
        parts,
        reading,
        int(numbers["images"]),
        state,
        int(numbers["epoch"]),
        partial(reopen_run, workspace=workspace),
    )
    opened.medium.refuse_stored(run.record, run.folder)
    return opened


@contextlib.contextmanager
def _told_where_modules_were(reading: Roots) -> Iterator[None]:
    """Context manager: adds a hint about folders to errors about modules that are not found."""
    try:
        yield
    except (ConfigError, Problems) as error:
        for each in error.errors if isinstance(error, Problems) else [error]:
            if isinstance(each.__cause__, ModuleNotFoundError):
                each.hint = "\n  ".join(filter(None, (each.hint, reading.way_out)))
        if isinstance(error, Problems):
            raise Problems(error.errors) from error.__cause__
        raise
