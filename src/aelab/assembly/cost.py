"""A run's model at the end of its clock, and what it costs on the way there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aelab.inspect import model_facts
from aelab.train import set_clock
from aelab.train.clocked_modules import find_clocked
from aelab.train.horizon import NEVER

if TYPE_CHECKING:
    from torch import nn

    from aelab.train import FitSettings

#: Adam keeps two moments; with weight and gradient four numbers a parameter.
NUMBERS_PER_PARAMETER = 4
#: Models that change with the clock are looked at in the middle of so many equal parts of a run.
MOMENTS = 8


def set_to_end(model: nn.Module, settings: FitSettings, num_images: int | None) -> None:
    """Tells the model the time at which the run will end.

    Args:
        num_images: of the training set that the run begins with, if that is known.
    """
    set_clock(model, *_end(settings, num_images))


def mean_flops(
    model: nn.Module,
    shape: Sequence[int],
    settings: FitSettings,
    num_images: int | None,
    flops_at_end: int,
) -> float:
    """FLOPs of a forward pass an image, the mean over the run; the model is left at its end."""
    images, epochs = _end(settings, num_images)
    if not find_clocked(model):
        return flops_at_end
    total = 0
    for moment in range(MOMENTS):
        past = (2 * moment + 1, 2 * MOMENTS)
        set_clock(model, images * past[0] // past[1], epochs * past[0] // past[1])
        total += model_facts(model, shape).flops_per_image
    set_clock(model, images, epochs)
    return total / MOMENTS


def planned_images(settings: FitSettings, num_images: int | None) -> int | None:
    """Images after which a run ends by its settings; None where only a loss ends it.

    Args:
        settings: of the run.
        num_images: of its training set, where that is known.
    """
    ends = [settings.max_images] if settings.max_images else []
    if settings.max_epochs and num_images:
        ends.append(settings.max_epochs * num_images)
    return min(ends, default=None)


def memory_mb(parameters: int, activations_per_image: float, batch_size: int) -> float:
    """Megabytes for weights, gradients, two moments and the activations of one batch."""
    numbers = NUMBERS_PER_PARAMETER * parameters
    return 4 * (numbers + 2 * activations_per_image * batch_size) / 1e6


def _end(settings: FitSettings, num_images: int | None) -> tuple[int, int]:
    """(images, whole epochs) at the end of a run, as far as they follow from its settings."""
    images = planned_images(settings, num_images) or NEVER
    epochs = images // num_images if num_images else settings.max_epochs or NEVER
    return images, epochs
