"""Samples of an opened run, with as little data as its sampler needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aelab.errors import UserError
from aelab.metrics import Subject
from aelab.metrics.distances import draw_images, draw_of_class
from aelab.ops.labels import label_classes
from aelab.study.evaluation import subject_of
from aelab.study.inputs import class_number
from aelab.types import Images

if TYPE_CHECKING:
    from aelab.study.opened import OpenedRun


def sampled_images(
    opened: OpenedRun,
    sampler: str,
    count: int,
    seed: int = 0,
    of_class: str | int | None = None,
) -> Tensor:
    """Sampled images (count, C, H, W) in 0..1, not clamped.

    A prior needs no images, so the data of the run need not be there. Other samplers are fitted to
    the codes of its training images; a validation set is not needed.

    Args:
        opened: the run.
        sampler: of `metrics.samplers.SAMPLERS`, `auto`, or `run:RUN`, see `latents_of`.
        count: number of images.
        seed: another seed draws other images.
        of_class: only images of this class, by name or number; this needs the run's images.

    Raises:
        UserError: an unknown sampler or class.
        DataError: it must be fitted, and the run's images cannot be read.
    """
    if of_class is not None:
        number = class_number(opened, of_class)
        return draw_of_class(subject_of(opened, or_train=True), number, sampler, count, seed)
    by_run = sampler.startswith("run:")
    # A model that knows classes draws them as often as its images have them.
    is_prior = sampler in ("auto", "prior") and label_classes(opened.model) is None
    if is_prior or by_run:
        shape = tuple(int(size) for size in opened.run.record["shape"])
        blank = Subject(
            opened.model,
            Images(
                torch.zeros(1, *shape, dtype=torch.uint8),
                medium=opened.medium,
                value_range=opened.value_range,
            ),
            seed=opened.spec.seed,
            device=opened.parts.device,
            second_stage=opened.codes_of_other,
        )
        if by_run:
            return draw_images(blank, sampler, count, seed)
        if sampler == "prior" or blank.prior is not None:
            return draw_images(blank, "prior", count, seed)
    return draw_images(subject_of(opened, or_train=True), sampler, count, seed)


def latents_of_second_stage(opened: OpenedRun, reference: str, count: int, seed: int) -> Tensor:
    """Latents (count, ...) for the decoder of a run, drawn from a run trained on its codes.

    Args:
        opened: the first stage.
        reference: the second one: RUN, RUN@best, RUN@latest or RUN@images.
        count, seed: of the draw.

    Raises:
        UserError: that run was trained on something else.
        StoreError: there is no such run, or the first stage has changed since.
    """
    if opened.open_other is None:
        raise UserError(f"run:{reference} needs a run that was opened from a folder of runs")
    second = opened.open_other(reference)
    mine = f"{opened.run.folder}@{opened.images}"
    if second.medium.first_stage != mine:
        on = second.medium.first_stage
        raise UserError(
            f"{second.run.folder} was not trained on the codes of {mine}"
            + (f" but on those of {on}" if on else ", but on ordinary images"),
            hint=f"sample {on} with it" if on else f"make one: train_set: latents_of('{mine}')",
        )
    return second.medium.to_latents(sampled_images(second, "auto", count, seed))
