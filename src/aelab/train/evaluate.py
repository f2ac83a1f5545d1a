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
from aelab.types import Images, Output


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
        `loss` (the weighted total) and the unweighted terms by name; where the posterior has an
        `index` into a codebook, also `codebook_usage` and `codebook_perplexity`, see
        `codebook_facts`.

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
    counts: Tensor | None = None
    with _mode(model, training=legacy):
        for start in range(0, count, size):
            target = images.gather(slice(start, min(start + size, count)))
            inputs, target = _changed(images, target, draws, settings, images_seen, start)
            noise = _noise(model, len(target), draws, images_seen, start) if legacy else None
            output, values, total = forward(
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
            counts = _counted(counts, model, output)
            names = list(values)
    weight = math.ceil(count / size) if legacy else count
    assert sums is not None  # an empty set is refused by Batches
    facts = {} if counts is None else codebook_facts(counts)
    numbers = torch.stack([*(sums / weight), *(fact.to(sums.dtype) for fact in facts.values())])
    # The only wait for the device in a validation.
    return dict(zip(["loss", *names, *facts], numbers.tolist(), strict=True))


def codebook_facts(counts: Tensor) -> dict[str, Tensor]:
    """How a codebook is used.

    Args:
        counts: (K,), how often each entry was chosen; some at least once.

    Returns:
        `codebook_usage`, the share of entries that were chosen at all, 0..1; and
        `codebook_perplexity`, exp of the entropy of the choices: 1 if always the same entry was
        chosen, K if all equally often.

    Source: van den Oord et al. 2017, arXiv:1711.00937, reports them; perplexity as in Sonnet.
    """
    shares = counts / counts.sum()
    return {
        "codebook_usage": (counts > 0).float().mean(),
        "codebook_perplexity": torch.exp(-torch.xlogy(shares, shares).sum()),
    }


def _counted(counts: Tensor | None, model: nn.Module, output: Output) -> Tensor | None:
    """`counts` (K,) with the choices of a batch added; None where the model makes none."""
    size: int | None = getattr(model, "codebook_size", None)
    if size is None or "index" not in output.posterior:
        return None
    index = output.posterior["index"].reshape(-1)
    if counts is None:
        counts = torch.zeros(size, dtype=torch.int64, device=index.device)
    # Not bincount, which makes a GPU wait for the largest index.
    return counts.scatter_add(0, index, torch.ones_like(index))


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
