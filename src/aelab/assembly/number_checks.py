"""Checks of a run's settings: batch sizes, warm-ups, learning rates, the latent."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from aelab.assembly.parts import Parts
from aelab.config import RunSpec
from aelab.errors import Where
from aelab.findings import Finding
from aelab.inspect import Adapted, bounded_output, refused_batch
from aelab.ops.look import TOLERANCE
from aelab.ops.value_range import UNIT, limits, range_words
from aelab.train.optimizers import usual_learnrate
from aelab.train.validation import validation_of

if TYPE_CHECKING:
    from torch import nn

    from aelab.inspect import Trial
    from aelab.train import FitSettings
    from aelab.types import Images

#: A learning rate above this multiple of the optimiser's usual one gets a note.
FAR_ABOVE = 100
#: Arguments of schedules that give the length of a warm-up in images.
_WARMUP = re.compile(r"warm_?up_images\Z")


def oddities(
    spec: RunSpec,
    parts: Parts,
    settings: FitSettings,
    shape: Sequence[int],
    counts: tuple[Sequence[int | None], Sequence[int | None]],
) -> list[Finding]:
    """Findings about a run's settings, given its numbers of images.

    Args:
        spec: spec of the run.
        parts: model, objective and descriptions of the sets.
        settings: settings of the training loop.
        shape: (C, H, W) of the images.
        counts: sizes of the training sets and of the validation sets; None where not known.
    """
    train, _ = counts
    total = _images_in_all(settings, train)
    return [
        *_batches_of_one(spec, parts.model, settings, shape, counts, total),
        *_batch_above_set(spec, settings, train),
        *_warmups(spec, parts, settings, total),
        *_learnrate(spec, settings),
        *_end_by_loss(spec, parts, settings),
    ]


def out_of_reach(spec: RunSpec, model: nn.Module, images: Images) -> list[Finding]:
    """A note if the model's last activation cannot produce the values of its images."""
    if images.value_range == UNIT:
        return []
    found = bounded_output(model, images.shape)
    low, high = limits(images.value_range)
    slack = TOLERANCE * (high - low)
    if found is None or (found[1][0] <= low + slack and found[1][1] >= high - slack):
        return []
    name, (least, most) = found
    return [
        Finding(
            "note",
            "output-out-of-reach",
            f"the model ends with {name}, which gives {least:g}..{most:g} only; images are in "
            f"{range_words(images.value_range)}",
            "tanh for -1..1, no last activation for other ranges, or images in 0..1",
            spec.blocks["model"].where,
        )
    ]


def empty_latent(model: nn.Module, trial: Trial) -> list[Finding]:
    """A problem if the latent has no numbers; modules that do not show their latent are skipped."""
    if isinstance(model, Adapted) or trial.output.latent.numel():
        return []
    return [
        Finding(
            "problem",
            "latent-empty",
            "the latent has size 0: no information can pass",
            "give the encoder and the decoder a code_size of at least 1",
        )
    ]


def _images_in_all(settings: FitSettings, train: Sequence[int | None]) -> int | None:
    """The number of images the run will train on; None if not known."""
    by_epochs = None
    if settings.max_epochs is not None and train and train[0] is not None:
        by_epochs = settings.max_epochs * train[0]
    known = [count for count in (settings.max_images, by_epochs) if count is not None]
    return min(known) if known else None


def _batches_of_one(
    spec: RunSpec,
    model: nn.Module,
    settings: FitSettings,
    shape: Sequence[int],
    counts: tuple[Sequence[int | None], Sequence[int | None]],
    total: int | None,
) -> list[Finding]:
    """Problems of batches with one image, if the model's statistics need more."""
    places = _single_images(settings, counts, total)
    first = next(places, None)
    if first is None:
        return []
    refused = refused_batch(model, shape, 1)
    if not refused:
        return []
    name, count, size, key = first
    less, more = _other_size(count, size), f"{name}: .limit({count - 1})"
    ways = [f"{key}: {less}", *([more] if count > 1 else []), "a norm without batch statistics: "
            "GroupNorm, LayerNorm"]  # fmt: skip
    batches = "every batch is of 1 image" if size == 1 or count == 1 else (
        f"{count:,} images in batches of {size:,} leave a last batch of 1 image"
    )  # fmt: skip
    return [
        Finding(
            "problem",
            "batch-of-one",
            f"{name}: {batches}, too few for the statistics of {refused}",
            ", or ".join(ways),
            spec.places.get(key) or spec.places.get("batch_size") or Where(spec.file, key=key),
        )
    ]


def _single_images(
    settings: FitSettings,
    counts: tuple[Sequence[int | None], Sequence[int | None]],
    total: int | None,
) -> Iterator[tuple[str, int, int, str]]:
    """(set, size, batch size, key of the batch size) for sets with a batch of one image."""
    kinds = [("train_set", counts[0], settings.batch_size, "batch_size")]
    if validation_of(settings).training_mode:
        size = settings.validation_batch_size
        key = "validation_batch_size" if size else "batch_size"
        kinds.append(("validation_set", counts[1], size or settings.batch_size, key))
    for name, known, size, key in kinds:
        for count in known:
            if count is None:
                continue
            if name == "train_set" and total is not None and size > 1 and total < count:
                continue  # the run ends before the last batch of the set
            if size == 1 or count % size == 1:
                yield name, count, size, key


def _other_size(count: int, size: int) -> int:
    """A batch size near `size` whose last batch has more than one image."""
    return next(
        (near for near in (size + 1, size - 1, size + 2, size - 2)
         if near > 1 and count % near != 1), size + 3,
    )  # fmt: skip


def _batch_above_set(
    spec: RunSpec, settings: FitSettings, train: Sequence[int | None]
) -> list[Finding]:
    known = [count for count in train if count is not None]
    if not known or settings.batch_size <= max(known):
        return []
    return [
        Finding(
            "note",
            "batch-above-set",
            f"batch_size: {settings.batch_size:,} is more than the {max(known):,} images of the "
            "train_set: each batch is the whole set",
            f"for instance batch_size: {max(1, min(64, max(known) // 4))}",
            spec.places.get("batch_size"),
        )
    ]


def _warmups(
    spec: RunSpec, parts: Parts, settings: FitSettings, total: int | None
) -> list[Finding]:
    """Findings about warm-ups that are longer than the run."""
    if total is None:
        return []
    found: list[tuple[str, float]] = [
        (f"{term.name}: warmup_images", term.course.warmup_images) for term in parts.objective.terms
    ]
    if settings.scheduler is not None:
        for key, value in settings.scheduler.arguments.items():
            if _WARMUP.match(key) and isinstance(value, int | float):
                found.append((f"scheduler {settings.scheduler.name}: {key}", value))
        found += _batches_of_warmup(settings)
    return [
        Finding(
            "note",
            "warmup-too-long",
            f"{name} is {images:,.0f}, and the run sees {total:,} images: the warm-up never ends",
            f"at most {total // 2:,}, or a longer run",
        )
        for name, images in found
        if total < images < 2**63  # larger numbers are refused where they are given
    ]


def _batches_of_warmup(settings: FitSettings) -> list[tuple[str, float]]:
    """The warm-ups of torch's `LinearLR`, converted from batches to images."""
    assert settings.scheduler is not None
    name, arguments = settings.scheduler.name, settings.scheduler.arguments
    batches = arguments.get("total_iters", 5)
    if name != "LinearLR" or not isinstance(batches, int | float):
        return []
    return [("scheduler LinearLR: total_iters times batch_size", batches * settings.batch_size)]


def steps_by_gradient(optimizer: str) -> bool:
    """Whether steps are as large as the gradient: then no rate is odd without the model's loss.

    Means over pixels have small gradients, so that SGD may need a rate far above the usual one.
    """
    return optimizer in ("ASGD", "SGD")


def _learnrate(spec: RunSpec, settings: FitSettings) -> list[Finding]:
    usual = usual_learnrate(settings.optimizer.name)
    if settings.learnrate <= FAR_ABOVE * usual or steps_by_gradient(settings.optimizer.name):
        return []
    return [
        Finding(
            "note",
            "learnrate-high",
            f"learnrate: {settings.learnrate:g} is {settings.learnrate / usual:,.0f} times the "
            f"usual one of {settings.optimizer.name}",
            f"for instance learnrate: {usual:g}",
            spec.places.get("learnrate"),
        )
    ]


def _end_by_loss(spec: RunSpec, parts: Parts, settings: FitSettings) -> list[Finding]:
    """Findings about `min_loss`, which ends a run only at a validation that reaches it."""
    if settings.min_loss is None:
        return []
    is_only_end = settings.max_images is None and settings.max_epochs is None
    where = spec.places.get("min_loss")
    if not parts.validation:
        return [
            Finding(
                "problem" if is_only_end else "note",
                "min-loss-unmeasured",
                "min_loss: there is no validation_set, so no loss is ever compared with it",
                "add a validation_set, or use max_images: 1_000_000 as the end",
                where,
            )
        ]
    if not is_only_end:
        return []
    return [
        Finding(
            "note",
            "end-by-loss-only",
            f"min_loss: {settings.min_loss:g} is the only end: if no validation loss gets that "
            "low, training goes on until you stop it",
            "add max_images: 1_000_000 as a second end",
            where,
        )
    ]


def placed(findings: Sequence[Finding], where: Where | None) -> list[Finding]:
    """Gives findings without a place in the file this one."""
    return [found if found.where else replace(found, where=where) for found in findings]


def unfrozen_validation(name: str, augment: Sequence[Any], settings: FitSettings) -> list[Finding]:
    """A note if random changes draw the held-out images anew at each validation."""
    if not augment or settings.freeze_validation_set:
        return []
    if validation_of(settings).training_mode:  # draws more than that anew
        return []
    return [
        Finding(
            "note",
            "validation-drawn-anew",
            f"{name}: its random changes are drawn anew in each validation, so the best state is "
            "partly chance",
            "freeze_validation_set: true, or .freeze()",
        )
    ]
