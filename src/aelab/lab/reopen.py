"""A stored run as a living model again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from aelab.errors import ConfigError, Problems, StoreError
from aelab.runs.files import is_regular
from aelab.runs.record import Run
from aelab.runs.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn

    from aelab.config import RunSpec
    from aelab.data.roots import Roots
    from aelab.lab.build import Parts
    from aelab.types import ValueRange


class Reopened(NamedTuple):
    """A stored run, built again from its own text.

    Attributes:
        run: its directory.
        spec: its text, resolved.
        parts: the trained model in evaluation mode, and the data sets, of which nothing is read.
        reading: what its data may be read from, and where its relative paths start.
        images: how many the model had seen.
    """

    run: Run
    spec: RunSpec
    parts: Parts
    reading: Roots
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
    from aelab.lab.record import recorded_range

    opened = reopen_run(reference, store, folders=folders, trust=trust, device=device)
    take_bytes(opened.parts.model, recorded_range(opened.run.record))
    return opened.parts.model


def take_bytes(model: nn.Module, value_range: ValueRange) -> None:
    """Lets `model(...)` and `model.encode` take images as a set holds them: uint8, or floats.

    Bytes are brought to what the model learned as black and white; floats must be in it already.
    """
    from aelab.ops.value_range import as_given

    encode = model.encode

    def of_bytes(images: Tensor) -> Tensor:
        """The latent of (B, C, H, W), uint8 or float."""
        return encode(as_given(images, value_range))  # type: ignore[operator,no-any-return]

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the model is called with, its images as floats."""
        return (as_given(inputs[0], value_range), *inputs[1:]) if inputs else inputs

    model.encode = of_bytes  # type: ignore[assignment]
    model.register_forward_pre_hook(before)


def reopen_run(
    reference: str,
    store: Store,
    *,
    folders: Sequence[Path] = (),
    trust: bool = False,
    device: str = "cpu",
) -> Reopened:
    """As `lab.open_model`, with all that the run's text describes.

    Data whose paths are relative to the experiment file are looked for where that file stood when
    the run was trained (see `lab.place`), then below each of `folders`.
    """
    from aelab import config
    from aelab.lab.build import build
    from aelab.lab.place import place_of, reading_of
    from aelab.lab.record import stored_calls
    from aelab.lab.start import damage_told, tensors_of, weights_prefix
    from aelab.train import load_weights, set_clock

    run, checkpoint = store.resolve(reference)
    if run.record.get("trust") and not trust:
        raise StoreError(
            f"run {run.folder} was made with --trust: opening it evaluates plain Python",
            hint="if the file is your own: trust=True, or --trust on the command line",
        )
    place = place_of(run, trust=trust)
    reading = reading_of(run, place, folders)
    text = run.path / "resolved.yml"
    if not is_regular(text, run.path):
        raise StoreError(
            f"cannot open run {run.folder}: {text} is no file of this run, or missing",
            hint="restore it from a copy; the tables and pictures of the run can still be read",
        )
    described = config.load(text, trust=trust, home=reading.base).runs()
    if len(described) != 1:
        raise StoreError(
            f"cannot open run {run.folder}: {text} describes {len(described)} runs, not one",
            hint="restore it from a copy, or train the run afresh with --restart",
        )
    spec = described[0]
    with _told_where_modules_were(reading):
        parts = build(
            spec,
            trust=trust,
            reading=reading,
            calls=stored_calls(run),
            device=device,
            restored=True,
        )
    content, numbers = checkpoint.read()
    tensors = tensors_of(checkpoint, content)
    load_weights(parts.model, tensors, weights_prefix(tensors))
    parts.model = parts.model.to(parts.device).eval()
    with damage_told(checkpoint):
        set_clock(parts.model, int(numbers["images"]), int(numbers["epoch"]))
    return Reopened(run, spec, parts, reading, int(numbers["images"]))


@contextlib.contextmanager
def _told_where_modules_were(reading: Roots) -> Iterator[None]:
    """A module that lay beside the experiment file is not found without that folder."""
    try:
        yield
    except (ConfigError, Problems) as error:
        for each in error.errors if isinstance(error, Problems) else [error]:
            if isinstance(each.__cause__, ModuleNotFoundError):
                each.hint = "\n  ".join(filter(None, (each.hint, reading.way_out)))
        if isinstance(error, Problems):
            raise Problems(error.errors) from error.__cause__
        raise
