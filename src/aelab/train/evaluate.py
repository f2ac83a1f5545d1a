"""Validation: evaluation mode, without noise, weighted by image; and the old way on request."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from aelab.train.batches import Batches, Draws
from aelab.train.settings import FitSettings
from aelab.train.step import ObjectiveLike, forward, sums_of
from aelab.types import Images


@torch.no_grad()
def evaluate(
    model: nn.Module,
    objective: ObjectiveLike,
    images: Images | Batches,
    settings: FitSettings,
    *,
    images_seen: int = 0,
    channels_last: bool = False,
    bfloat16: bool = False,
) -> dict[str, float]:
    """Mean loss and mean of every term over an image set.

    The model is in evaluation mode, without noise (the latent is its mean), and every image counts
    the same; the mode is put back afterwards. With `legacy_validation` instead: training mode,
    sampled latents, every batch counts the same (a smaller last batch fully); statistics of
    BatchNorm are put back afterwards, because a validation must not train.

    Random augmentation of the set, where it has any, is drawn anew for each `images_seen`, or
    once for the whole run with `freeze_validation_set`.

    Returns:
        `loss` (the weighted total) and the unweighted terms by name.

    Source: legacy: behaviour of nn-experiments, described in docs/training.md.
    """
    device = next(model.parameters()).device
    if isinstance(images, Images):
        images = Batches(images, device, channels_last)
    count = min(len(images), settings.validation_limit or len(images))
    size = settings.validation_batch_size or settings.batch_size
    draws = Draws(settings.seed, device)
    legacy = settings.legacy_validation
    sums: Tensor | None = None
    names: list[str] = []
    with _mode(model, training=legacy):
        for start in range(0, count, size):
            target = images.gather(slice(start, min(start + size, count)))
            inputs, target = _changed(images, target, draws, settings, images_seen, start)
            noise = _noise(model, len(target), draws, images_seen, start) if legacy else None
            values, total = forward(
                model,
                objective,
                inputs,
                target,
                noise,
                images_seen=images_seen,
                bfloat16=bfloat16,
            )
            batch_sums = sums_of(values, total)
            if legacy:
                batch_sums /= len(target)
            sums = batch_sums if sums is None else sums + batch_sums
            names = list(values)
    weight = math.ceil(count / size) if legacy else count
    assert sums is not None  # an empty set is refused by Batches
    # The only wait for the device in a validation.
    return dict(zip(["loss", *names], (sums / weight).tolist(), strict=True))


def noise_shape_of(model: nn.Module) -> tuple[int, ...] | None:
    """The shape of one image's noise, or None where the model needs none."""
    return getattr(model, "noise_shape", None)


def _changed(
    images: Batches,
    target: Tensor,
    draws: Draws,
    settings: FitSettings,
    images_seen: int,
    start: int,
) -> tuple[Tensor, Tensor]:
    """Augmented target, and the input made of it."""
    key = 0 if settings.freeze_validation_set else images_seen
    target = images.transformed(target, images.augment, draws, f"validation-augment-{start}", key)
    transforms = settings.input_transforms
    return images.transformed(target, transforms, draws, f"validation-input-{start}", key), target


def _noise(
    model: nn.Module, size: int, draws: Draws, images_seen: int, start: int
) -> Tensor | None:
    """What a model in training mode draws: the latent's noise, and dropout's by reseeding."""
    draws.reseed_default(images_seen + start)
    shape = noise_shape_of(model)
    if shape is None:
        return None
    return draws.normal((size, *shape), f"validation-latent-{start}", images_seen)


@contextlib.contextmanager
def _mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Switch the mode, and put mode and buffers back."""
    before = model.training
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()] if training else []
    model.train(training)
    try:
        yield
    finally:
        model.train(before)
        for buffer, value in kept:
            buffer.copy_(value)
