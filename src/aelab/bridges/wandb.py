"""Exports to Weights & Biases, with its usual names: `train_loss`, `val_kld`, `iteration`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aelab.bridges.following import settings_of
from aelab.errors import MissingExtra, UserError
from aelab.runs.record import Run

if TYPE_CHECKING:
    from PIL.Image import Image

_NOT_CURVES = frozenset({"split", "images"})
#: Our names of splits -> those usual in Weights & Biases.
_SPLITS = {"validation": "val", "train": "train"}
_TERMS = {"kl": "kld", "legacy_kl": "kld"}


class WeightsAndBiases:
    """Logs runs to Weights & Biases: `train_loss`, `val_loss`, `val_kld`, ... and `iteration`.

    Each run becomes one run there, with an id from its identity and place, so that a second export
    continues it. `iteration` is the number of images, the x axis of every curve.

    Args:
        project: name of the project.
        mode: `offline` writes files that `wandb sync` uploads; `online` needs an account.
        out: folder for the files; wandb makes a subfolder in it.

    Raises:
        MissingExtra: the package wandb is not installed.
        UserError: an unknown mode.
    """

    def __init__(
        self,
        project: str = "aelab",
        mode: Literal["offline", "online"] = "offline",
        out: Path | str = "wandb-files",
    ) -> None:
        if mode not in ("offline", "online"):
            raise UserError(f"unknown mode '{mode}'", hint="possible: offline, online")
        try:
            import wandb
        except ImportError:
            raise MissingExtra("the Weights & Biases bridge", "wandb", "wandb") from None
        self._wandb = wandb
        self.project, self.out = project, Path(out)
        self.mode: Literal["offline", "online"] = mode
        self._runs: dict[str, Any] = {}

    def begin(self, run: Run) -> None:
        """Opens the run in wandb, named after the folder, with our settings as config."""
        self.out.mkdir(parents=True, exist_ok=True)
        theirs = self._wandb.init(
            project=self.project,
            name=run.folder,
            group=str(run.record.get("experiment") or "") or None,
            id=id_of(run),
            resume="allow" if self.mode == "online" else None,
            config=settings_of(run),
            dir=str(self.out),
            mode=self.mode,
            reinit="create_new",
            settings=self._wandb.Settings(silent=True, console="off"),
        )
        theirs.define_metric("iteration")
        theirs.define_metric("*", step_metric="iteration")
        self._runs[run.folder] = theirs

    def scalars(self, run: Run, images: int, row: Mapping[str, Any]) -> None:
        """See `Bridge`."""
        split = _SPLITS.get(str(row["split"]), str(row["split"]))
        values = {
            name if name == "epoch" else f"{split}_{_TERMS.get(name, name)}": value
            for name, value in row.items()
            if name not in _NOT_CURVES and isinstance(value, int | float) and not math.isnan(value)
        }
        self._runs[run.folder].log({**values, "iteration": images})

    def picture(self, run: Run, images: int, tag: str, picture: Image) -> None:
        """See `Bridge`."""
        shown = self._wandb.Image(picture)
        self._runs[run.folder].log({tag: shown, "iteration": images})

    def rewound(self, run: Run, images: int) -> None:
        """Logs the restart, because wandb's history cannot be cut; the curves show both parts."""
        self._runs[run.folder].log({"continued_from": images, "iteration": images})

    def end(self, run: Run) -> None:
        """Finishes the run: waits until all is written (offline) or uploaded."""
        ended_well = run.state in ("finished", "running", "waiting")
        self._runs.pop(run.folder).finish(exit_code=0 if ended_well else 1)
        if not self._runs:
            self._wandb.teardown()  # waits for the process that writes the files


def id_of(run: Run) -> str:
    """A stable id of at most 16 characters; differs for the same text in another place."""
    text = f"{run.record.get('identity')} {run.folder}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
