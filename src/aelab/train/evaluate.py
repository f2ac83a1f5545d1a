"""One pass over held-out images; the settings select how (`aelab.train.validation`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from aelab.ops.given import as_images
from aelab.ops.look import refuse_not_finite
from aelab.ops.random import keyed_seed
from aelab.settings import FitSettings
from aelab.train.batches import Batches, Draws
from aelab.train.forward import Batch, ObjectiveLike, forward, sums_of
from aelab.train.judging import final_total
from aelab.train.mode import mode_of
from aelab.train.tally import Tally
from aelab.train.validation import validation_of


class Evaluation(NamedTuple):
    """The results of one pass over an image set.

    Attributes:
        terms: as `evaluate` returns them.
        looks: values for warnings only, not shown in tables; see `Tally.looks`.
    """

    terms: dict[str, float]
    looks: dict[str, float]


def evaluate(
    model: nn.Module,
    objective: ObjectiveLike,
    images: Any,
    settings: FitSettings,
    *,
    images_seen: int = 0,
    channels_last: bool = False,
    bfloat16: bool = False,
) -> dict[str, float]:
    """Mean loss and mean of every term over an image set.

    By default the model is in evaluation mode, the latent is its mean and every image has the
    same weight (`EvaluationMode`); `settings.validation` selects another way. Mode and buffers
    are restored afterwards.

    Random augmentation of the set, if it has any, is drawn anew for each `images_seen`, or
    once for the whole run with `freeze_validation_set`.

    Returns:
        `loss` (the weighted total, with the final weights of the run) and the unweighted terms
        by name. `loss_now`, with the weights at `images_seen`, where it differs from `loss`.
        `codebook_usage` and `codebook_perplexity` where the model has codebooks, see
        `aelab.train.tally`. The counts of the model's medium.
    """
    if not isinstance(images, Batches):
        images = as_images(images, "images")
        refuse_not_finite(images, "images")
        images = Batches(images, next(model.parameters()).device, channels_last)
    return evaluate_with_health(model, objective, images, settings, images_seen, bfloat16).terms


@torch.no_grad()
def evaluate_with_health(
    model: nn.Module,
    objective: ObjectiveLike,
    images: Batches,
    settings: FitSettings,
    images_seen: int,
    bfloat16: bool,
) -> Evaluation:
    """As `evaluate`, with the values that warnings need, read in the same transfer."""
    validation = validation_of(settings)
    sums: Tensor | None = None
    names: list[str] = []
    weight, tally = 0, Tally(model, objective)
    with mode_of(model, training=validation.training_mode):
        for batch in held_out_batches(model, objective, images, settings, images_seen):
            target = batch.target
            with gradients_for(objective, settings, images_seen):
                output, values, total = forward(
                    model, objective, *batch, images_seen=images_seen, bfloat16=bfloat16
                )
            # `total` has the weights of this moment; the best state is chosen by the final ones.
            final = final_total(objective, values, settings, images_seen)
            batch_sums = sums_of({"loss_now": total, **values}, final)
            counted, share = validation.counted(batch_sums, len(target))
            sums = counted if sums is None else sums + counted
            tally.add(output, target)
            names, weight = ["loss_now", *values], weight + share
    assert sums is not None  # an empty set is refused by Batches
    facts, looks = tally.facts(), tally.looks()
    more = [fact.to(sums.dtype) for fact in (*facts.values(), *looks.values())]
    # The only wait for the device in a validation.
    numbers = torch.stack([*(sums / weight), *more]).tolist()
    shown = len(numbers) - len(looks)
    terms = dict(zip(["loss", *names, *facts], numbers[:shown], strict=True))
    if terms["loss_now"] == terms["loss"]:
        del terms["loss_now"]
    return Evaluation(terms, dict(zip(looks, numbers[shown:], strict=True)))


@contextlib.contextmanager
def gradients_for(
    objective: ObjectiveLike, settings: FitSettings, images_seen: int
) -> Iterator[None]:
    """Context manager: enables gradients if the objective's `needs_gradients` says so.

    Random numbers of its terms then are those of this key.
    """
    if not getattr(objective, "needs_gradients", False):
        yield
        return
    torch.manual_seed(keyed_seed(settings.seed, "validation", images_seen))
    with torch.enable_grad():
        yield


def held_out_batches(
    model: nn.Module,
    objective: ObjectiveLike,
    images: Batches,
    settings: FitSettings,
    images_seen: int,
) -> Iterator[Batch]:
    """The batches of a validation."""
    count = min(len(images), settings.validation_limit or len(images))
    validation = validation_of(settings)
    size = validation.batch_size(objective, settings)
    draws = Draws(settings.seed, next(model.parameters()).device)
    rows = images.drawn(count) if count < len(images) else None
    for start in range(0, count, size):
        part = slice(start, min(start + size, count))
        index = part if rows is None else rows[part]
        if validation.training_mode:  # a model of pairs then expects them
            index = images.paired(model, index, settings.seed, start)
        target = images.gather(index)
        inputs, target = _changed(images, target, draws, settings, images_seen, start)
        noise = validation.noise(model, objective, draws, part, images_seen)
        yield Batch(
            inputs,
            target,
            noise,
            images.labels_for(model, index),
            images.factors_for(objective, index),
        )


def _changed(
    images: Batches,
    target: Tensor,
    draws: Draws,
    settings: FitSettings,
    images_seen: int,
    start: int,
) -> tuple[Tensor, Tensor]:
    """The input and the target of one batch, after the random changes."""
    key = 0 if settings.freeze_validation_set else images_seen
    target = images.transformed(target, images.augment, draws, f"validation-augment-{start}", key)
    transforms = settings.input_transforms
    return images.transformed(target, transforms, draws, f"validation-input-{start}", key), target
