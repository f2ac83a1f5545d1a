"""The cost of a run: FLOPs, images and memory at the end of its clock, and errors about memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aelab.errors import RunFailed
from aelab.inspect import model_facts
from aelab.train import set_clock
from aelab.train.clocked_modules import find_clocked
from aelab.train.horizon import NEVER

if TYPE_CHECKING:
    from torch import nn

    from aelab.config import RunSpec
    from aelab.train import FitSettings

#: Weight, gradient and the two moments of Adam: four numbers for each parameter.
NUMBERS_PER_PARAMETER = 4
#: A model that changes over time is measured in the middle of each of this many parts of a run.
MOMENTS = 8


def set_to_end(model: nn.Module, settings: FitSettings, num_images: int | None) -> None:
    """Sets the model's clock to the end of the run.

    Args:
        num_images: size of the first training set, if known.
    """
    set_clock(model, *_end(settings, num_images))


def mean_flops(
    model: nn.Module,
    shape: Sequence[int],
    settings: FitSettings,
    num_images: int | None,
    flops_at_end: int,
) -> float:
    """FLOPs of a forward pass for one image, averaged over the run; leaves the model at the end."""
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
    """The number of images after which a run ends by its settings; None if only a loss ends it.

    Args:
        settings: of the run.
        num_images: size of its training set, if known.
    """
    ends = [settings.max_images] if settings.max_images else []
    if settings.max_epochs and num_images:
        ends.append(settings.max_epochs * num_images)
    return min(ends, default=None)


def memory_mb(parameters: int, activations_per_image: float, batch_size: int) -> float:
    """Megabytes for weights, gradients, two moments and the activations of one batch."""
    numbers = NUMBERS_PER_PARAMETER * parameters
    return 4 * (numbers + 2 * activations_per_image * batch_size) / 1e6


def out_of_memory(error: BaseException, spec: RunSpec, parameters: int | None) -> RunFailed:
    """The error as a `RunFailed` that names the settings to lower.

    Args:
        error: as raised.
        spec: of the run.
        parameters: of its model; None if it was not built yet.
    """
    keys = spec.settings.fit
    where = "the GPU" if "CUDA" in str(error) else "this machine"
    size = ""
    if parameters:
        size = (
            f"; its {parameters:,} parameters alone take {memory_mb(parameters, 0, 0):,.0f} MB in "
            "training"
        )
    ways = [f"lower batch_size (now {keys.batch_size:,}), and keep the same optimiser step with "
            "gradient_accumulation"]  # fmt: skip
    if keys.validation_batch_size and keys.validation_batch_size > keys.batch_size:
        ways.append(f"lower validation_batch_size (now {keys.validation_batch_size:,})")
    ways += ["make the model or the images smaller", "`aelab check` estimates the memory"]
    return RunFailed(f"out of memory on {where}{size}", hint="; ".join(ways))


def _end(settings: FitSettings, num_images: int | None) -> tuple[int, int]:
    """(images, whole epochs) at the end of a run, as far as they follow from its settings."""
    images = planned_images(settings, num_images) or NEVER
    epochs = images // num_images if num_images else settings.max_epochs or NEVER
    return images, epochs
