"""What `fit` is given, looked at once: sets, model, and batches that are too small."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import nn

from aelab.errors import AelabError, ConfigError, DataError, Problems
from aelab.ops.given import as_images
from aelab.ops.look import findings_in_images, input_findings, loss_findings, pair_findings
from aelab.settings import FitSettings
from aelab.types import Images

Sets = list[tuple[int, Images]]

_AS_MODEL = "wrap it: aelab.models.as_model(module)"


def as_sets(given: Any, name: str) -> Sets:
    """(first epoch, images) pairs of one set, or of a schedule of them.

    Raises:
        ConfigError: what is given is not a set of images.
    """
    pairs = isinstance(given, list | tuple) and all(
        isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], int)
        for pair in given
    )
    if pairs:
        return [(int(epoch), as_images(images, name)) for epoch, images in given]
    return [(0, as_images(given, name))]


def refuse_wrong(train: Sets, validation: Sets, objective: Any, settings: FitSettings) -> None:
    """Raises what cannot be right about sets; facts of a set that was seen before cost nothing.

    Raises:
        ConfigError: nothing would end the training.
        DataError: pixels that are not finite, of another unit than 0..1, or not what the
            objective can be given; sets of different shapes. Several as `Problems`.
    """
    if not validation and settings.max_images is None and settings.max_epochs is None:
        raise ConfigError(
            "min_loss is the only end, and there are no validation images to measure a loss on",
            hint="give validation images, or set max_images: 1_000_000",
        )
    ranges = getattr(objective, "target_ranges", {})
    found = []
    for name, sets in (("train", train), ("validation", validation)):
        for _, images in sets:
            mine = findings_in_images(images, name)
            if not any(finding.level == "problem" for finding in mine):
                mine += loss_findings(images, name, ranges)
                mine += input_findings(images, "input_transforms", settings.input_transforms)
            found += mine
    if not any(finding.level == "problem" for finding in found):
        for _, ours in train:
            for _, theirs in validation:
                found += pair_findings(ours, theirs, ("train", "validation"))
    errors: list[AelabError] = [
        DataError(finding.message, hint=finding.way_out)
        for finding in found
        if finding.level == "problem"
    ]
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise Problems(errors)


def refuse_no_model(model: Any) -> None:
    """Raises for what does not take (images, noise), as models do.

    Raises:
        ConfigError: with what to write.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"a model must be an nn.Module, not {type(model).__name__}")
    with contextlib.suppress(ValueError):  # forward has no signature that can be read
        try:
            inspect.signature(model.forward).bind(torch.empty(0), None)
        except TypeError as error:
            raise ConfigError(
                f"the model {type(model).__name__} does not take (images, noise): {error}",
                hint=_AS_MODEL,
            ) from None


def no_output(model: Any, output: Any) -> ConfigError:
    """The error of a model that returns something else than `types.Output`."""
    return ConfigError(
        f"the model {type(model).__name__} returns a {type(output).__name__}, not an "
        "aelab.types.Output",
        hint=_AS_MODEL,
    )


@contextlib.contextmanager
def small_batches_told(sizes: Sequence[int], settings: FitSettings) -> Iterator[None]:
    """Turns torch's refusal of a batch too small for its statistics into a message."""
    try:
        yield
    except ValueError as error:
        if "Expected more than 1" not in str(error):
            raise
        counts = ", ".join(f"{size:,}" for size in sizes)
        cut = f"batches of {settings.batch_size:,}"
        if settings.micro_batch_size:
            cut += f", cut into pieces of {settings.micro_batch_size:,},"
        raise ConfigError(
            f"{counts} images in {cut} leave a batch of 1 image, of which a normalisation can take "
            f"no statistics: {error}",
            hint="another batch_size, one image less, or GroupNorm instead of BatchNorm",
        ) from error
