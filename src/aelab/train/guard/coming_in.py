"""Checks of the arguments of `fit`: image sets, model, and batches that are too small."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from aelab.errors import AelabError, ConfigError, DataError, Problems, one_of
from aelab.ops.given import as_images
from aelab.ops.look import findings_in_images, input_findings, loss_findings, pair_findings
from aelab.settings import FitSettings
from aelab.types import Images

if TYPE_CHECKING:
    from aelab.train.forward import ObjectiveLike
    from aelab.train.learner import SoloLearner

Sets = list[tuple[int, Images]]

_AS_MODEL = "wrap it: aelab.inspect.as_model(module)"


def as_sets(given: Any, name: str) -> Sets:
    """(first epoch, images) pairs, from one set or from a list of such pairs.

    Raises:
        ConfigError: `given` is not a set of images.
    """
    pairs = isinstance(given, list | tuple) and all(
        isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], int)
        for pair in given
    )
    if pairs:
        return [(int(epoch), as_images(images, name)) for epoch, images in given]
    return [(0, as_images(given, name))]


def refuse_strangers(member: SoloLearner, objective: ObjectiveLike) -> None:
    """Checks that the players of an objective learn.

    Raises:
        ConfigError: the state was made without the objective.
    """
    players = list(getattr(objective, "players", {}))
    if players != [opponent.name for opponent in member.opponents]:
        raise ConfigError(
            f"{one_of(players) if players else 'the objective'} brings a network that learns, and "
            "this state was made without it",
            hint="call objective.prepare(images), then make_state(model, settings, "
            "objective=objective)",
        )


def refuse_wrong(train: Sets, validation: Sets, objective: Any, settings: FitSettings) -> None:
    """Checks image sets, and that something ends the training.

    The facts of a set are cached, so a second call with the same set is cheap.

    Raises:
        ConfigError: nothing would end the training.
        DataError: pixels that are not finite, not in 0..1, or outside the range that the
            objective accepts; sets of different shapes. Several errors as `Problems`.
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
                # Only for sound pixels: on broken ones these checks would repeat the same fault.
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
    """Checks that the model is an nn.Module whose `forward` takes (images, noise).

    Raises:
        ConfigError: it does not; the hint shows how to wrap it.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(f"a model must be an nn.Module, not {type(model).__name__}")
    with contextlib.suppress(ValueError):  # no readable signature, as of a function written in C
        try:
            inspect.signature(model.forward).bind(torch.empty(0), None)
        except TypeError as error:
            raise ConfigError(
                f"the model {type(model).__name__} does not take (images, noise): {error}",
                hint=_AS_MODEL,
            ) from None


def no_output(model: Any, output: Any) -> ConfigError:
    """The error for a model that does not return `types.Output`."""
    return ConfigError(
        f"the model {type(model).__name__} returns a {type(output).__name__}, not an "
        "aelab.types.Output",
        hint=_AS_MODEL,
    )


@contextlib.contextmanager
def small_batches_told(sizes: Sequence[int], settings: FitSettings) -> Iterator[None]:
    """Context manager: explains torch's error about a batch too small for BatchNorm."""
    try:
        yield
    except ValueError as error:
        # torch raises a plain ValueError here, so only its text identifies it.
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
