"""Writes TensorBoard event files with the tags of the documents."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ruamel.yaml import YAML

from aelab.bridges.following import settings_of
from aelab.errors import MissingExtra, UserError, visible
from aelab.runs.record import Run

if TYPE_CHECKING:
    from PIL.Image import Image

#: Entries of a row that are not curves over images.
_NOT_CURVES = frozenset({"split", "images", "epoch", "seconds"})


class TensorBoard:
    """Writes `OUT/<run>/events.out.tfevents.*`: curves, pictures, settings.

    Tags are `train_loss`, `validation_loss`, `train_<term>`, `validation_<term>`,
    `train_learnrate_0_<optimiser>` and `validation_reconstruction`, as in documents 000 to 003; the
    step is the number of images. Earlier event files of this bridge in a run's folder are replaced.

    Args:
        out: folder for `tensorboard --logdir`.

    Raises:
        MissingExtra: the package tensorboard is not installed.
    """

    def __init__(self, out: Path | str = "tensorboard") -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtra("the TensorBoard bridge", "tensorboard", "tensorboard") from None
        self._make = SummaryWriter
        self.out = Path(out)
        self._writers: dict[str, Any] = {}

    def begin(self, run: Run) -> None:
        """Starts a new event file and stores the settings for TensorBoard's HPARAMS page."""
        folder = self.out / run.folder
        try:
            for old in folder.glob("events.out.tfevents.*.aelab"):
                old.unlink()
            self._writers[run.folder] = self._make(str(folder), filename_suffix=".aelab")
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror or error}") from error
        self._settings(run)

    def scalars(self, run: Run, images: int, row: Mapping[str, Any]) -> None:
        """See `Bridge`."""
        writer = self._writers[run.folder]
        for name, value in row.items():
            if name in _NOT_CURVES or not isinstance(value, int | float):
                continue
            if math.isnan(value):
                continue  # TensorBoard draws nothing for it
            writer.add_scalar(tag_of(run, str(row["split"]), name), value, images)

    def picture(self, run: Run, images: int, tag: str, picture: Image) -> None:
        """See `Bridge`."""
        import numpy as np

        self._writers[run.folder].add_image(tag, np.asarray(picture), images, dataformats="HWC")

    def rewound(self, run: Run, images: int) -> None:
        """Starts a new file that invalidates the steps from `images` on."""
        self._writers[run.folder].close()
        self._writers[run.folder] = self._make(
            str(self.out / run.folder), purge_step=images, filename_suffix=".aelab"
        )

    def end(self, run: Run) -> None:
        """Closes the file."""
        self._writers[run.folder].close()

    def _settings(self, run: Run) -> None:
        from torch.utils.tensorboard.summary import hparams

        plain = {
            key: value if isinstance(value, bool | int | float | str) else str(value)
            for key, value in settings_of(run).items()
        }
        # One metric is enough: the page offers every tag of the run.
        for summary in hparams(plain, {"validation_loss": 0.0}):  # type: ignore[no-untyped-call]
            self._writers[run.folder].file_writer.add_summary(summary)


def tag_of(run: Run, split: str, name: str) -> str:
    """The tag of a logged value in the documents."""
    if name == "learnrate":
        return f"train_learnrate_0_{optimizer_of(run)}"
    return f"{split}_{name}"


def optimizer_of(run: Run) -> str:
    """The optimiser's name from the run's text, `Adam` by default."""
    try:
        content = YAML(typ="safe").load(visible(run.read_text("resolved.yml") or "")) or {}
    except Exception:  # the text may come from a stranger: any nesting, numbers of any length
        return "unknown"
    given = content.get("optimizer", "Adam") if isinstance(content, dict) else "Adam"
    return str(next(iter(given)) if isinstance(given, dict) and given else given)
