"""A stored run as a living model again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aelab.errors import StoreError
from aelab.runs.record import Run
from aelab.runs.store import Store

if TYPE_CHECKING:
    from torch import nn

    from aelab.config import RunSpec
    from aelab.lab.build import Parts


class Reopened(NamedTuple):
    """A stored run, built again from its own text.

    Attributes:
        run: its directory.
        spec: its text, resolved.
        parts: the trained model in evaluation mode, and the data sets, of which nothing is read.
        folders: what its data may be read from.
        images: how many the model had seen.
    """

    run: Run
    spec: RunSpec
    parts: Parts
    folders: tuple[Path, ...]
    images: int


def reopen(
    reference: str,
    store: Store,
    *,
    folders: Sequence[Path] = (),
    trust: bool = False,
    device: str = "cpu",
) -> nn.Module:
    """See `lab.open_model`."""
    return reopen_run(reference, store, folders=folders, trust=trust, device=device).parts.model


def reopen_run(
    reference: str,
    store: Store,
    *,
    folders: Sequence[Path] = (),
    trust: bool = False,
    device: str = "cpu",
) -> Reopened:
    """As `lab.open_model`, with all that the run's text describes.

    Data whose paths are relative to the experiment file are looked for below `folders[0]`.
    """
    import safetensors.torch

    from aelab import config
    from aelab.lab.build import build
    from aelab.lab.record import stored_calls
    from aelab.lab.start import weights_prefix
    from aelab.train import load_weights, set_clock

    run, checkpoint = store.resolve(reference)
    if run.record.get("trust") and not trust:
        raise StoreError(
            f"run {run.folder} was made with --trust: opening it evaluates plain Python",
            hint="if the file is your own: trust=True, or --trust on the command line",
        )
    (spec,) = config.load(run.path / "resolved.yml", trust=trust).runs()
    if folders:
        spec = replace(spec, file=str(folders[0] / "resolved.yml"))
    folders = (run.path, *folders)
    parts = build(
        spec, trust=trust, folders=folders, calls=stored_calls(run), device=device, restored=True
    )
    content, numbers = checkpoint.read()
    tensors = safetensors.torch.load(content)
    load_weights(parts.model, tensors, weights_prefix(tensors))
    parts.model = parts.model.to(parts.device).eval()
    set_clock(parts.model, int(numbers["images"]), int(numbers["epoch"]))
    return Reopened(run, spec, parts, folders, int(numbers["images"]))
