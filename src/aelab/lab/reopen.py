"""A stored run as a living model again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aelab.errors import StoreError
from aelab.runs.store import Store

if TYPE_CHECKING:
    from torch import nn


def reopen(
    reference: str,
    store: Store,
    *,
    folders: Sequence[Path] = (),
    trust: bool = False,
    device: str = "cpu",
) -> nn.Module:
    """See `lab.open_model`."""
    import safetensors.torch

    from aelab import config
    from aelab.lab.build import build
    from aelab.lab.record import stored_calls
    from aelab.lab.start import weights_prefix
    from aelab.train import load_weights

    run, checkpoint = store.resolve(reference)
    if run.record.get("trust") and not trust:
        raise StoreError(
            f"run {run.folder} was made with --trust: opening it evaluates plain Python",
            hint="if the file is your own: trust=True, or --trust on the command line",
        )
    (spec,) = config.load(run.path / "resolved.yml", trust=trust).runs()
    # Data sets of the text are described again and never read; theirs were relative to the file.
    folders = (run.path, *folders)
    parts = build(spec, trust=trust, folders=folders, calls=stored_calls(run), device=device)
    tensors = safetensors.torch.load(checkpoint.read()[0])
    load_weights(parts.model, tensors, weights_prefix(tensors))
    return parts.model.to(parts.device).eval()
