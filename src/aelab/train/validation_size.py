"""How many images a validation computes at once, where the settings do not say.

Small batches are slow: every operation has a fixed cost, and weights are read once a batch. Large
ones are slow where their values leave the processor's cache. No clock is read: the same run gets
the same number on every machine and beside any other work, and so the same last bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from aelab.settings import FitSettings
from aelab.train.batches import Batches
from aelab.train.evaluate import held_out_batches, mode_of
from aelab.train.forward import ObjectiveLike, forward
from aelab.train.validation import validation_of

#: No more images than this gained anything measurable (benchmarks/records.md).
MOST_IMAGES = 256

#: Bytes of the largest value of a layer over a batch. A 28-pixel VAE is fastest with 11 to 22 MB
#: and a third slower with 44.
LARGEST_VALUE_BYTES = 16 << 20

#: Losses of an image that differ by more than this share of the largest depend on its batch.
_OWN_SHARE = 1e-4


@torch.no_grad()
def choose_validation_size(
    model: nn.Module,
    objective: ObjectiveLike,
    images: Batches,
    settings: FitSettings,
    images_seen: int,
) -> int:
    """Images at once for all validations of a run; found by passing four images.

    Args:
        model: as it is evaluated; it is left as it was.
        images: the held-out set.

    Returns:
        A power of two up to 256, or `batch_size` where that is larger, where the losses of an image
        depend on the batch that it is in, and on a GPU (there nothing was measured).
    """
    as_trained, device = settings.batch_size, next(model.parameters()).device
    if (
        device.type != "cpu"
        or images.augment  # drawn batch by batch
        or settings.input_transforms
        or not validation_of(settings).any_size
        or min(len(images), settings.validation_limit or len(images)) <= as_trained
        or len(images) < 4
    ):
        return as_trained
    with mode_of(model, training=False), _default_generator_kept():
        inputs, target, noise = next(
            held_out_batches(model, objective, images, settings, images_seen)
        )
        batch = inputs[:4], target[:4], None if noise is None else noise[:4]
        with _largest_value(model) as largest:
            together = _values(model, objective, *batch, images_seen)
        halves = [
            _values(model, objective, inputs[rows], target[rows],
                    None if noise is None else noise[rows], images_seen)
            for rows in (slice(0, 2), slice(2, 4))
        ]  # fmt: skip
    for whole, *parts in zip(together, *halves, strict=True):
        apart = torch.cat(parts)
        if (whole - apart).abs().max() > _OWN_SHARE * whole.abs().max().clamp(min=1e-6):
            return as_trained
    room = LARGEST_VALUE_BYTES * 4 // max(1, largest[0])
    size = min(MOST_IMAGES, 1 << max(0, room.bit_length() - 1))
    return max(as_trained, size)


def _values(
    model: nn.Module,
    objective: ObjectiveLike,
    inputs: Tensor,
    target: Tensor,
    noise: Tensor | None,
    images_seen: int,
) -> list[Tensor]:
    """What a batch gives for each image: reconstruction, total and terms."""
    output, values, total = forward(
        model, objective, inputs, target, noise, images_seen=images_seen
    )
    return [output.reconstruction.float(), total, *values.values()]


@contextmanager
def _largest_value(model: nn.Module) -> Iterator[list[int]]:
    """Bytes of the largest tensor that any layer returns while this is open."""
    found = [0]

    def look(module: nn.Module, given: object, returned: object) -> None:
        if isinstance(returned, Tensor):
            found[0] = max(found[0], returned.numel() * 4)

    hooks = [module.register_forward_hook(look) for module in model.modules()]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def _default_generator_kept() -> Iterator[None]:
    """A model may draw from torch's own generator."""
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)
