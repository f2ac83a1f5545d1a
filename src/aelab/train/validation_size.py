"""Chooses the batch size of validations if the settings do not set it.

Small batches are slow: every operation has a fixed cost, and weights are read once in each batch.
Large ones are slow if their values exceed the processor's cache. Nothing is timed, so the same run
gets the same size, and the same last bits, on every machine.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from aelab.settings import FitSettings
from aelab.train.batches import Batches
from aelab.train.evaluate import held_out_batches
from aelab.train.forward import Batch, ObjectiveLike, forward
from aelab.train.mode import mode_of
from aelab.train.validation import validation_of

#: More images than this gave no measurable gain (benchmarks/records.md).
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
    """The batch size for all validations of a run, found by a pass of four images.

    Args:
        model: the evaluated model, which is not changed.
        images: the held-out set.

    Returns:
        A power of two up to 256; or `batch_size` if that is larger, if the losses of an image
        depend on its batch, and on a GPU (not measured there).
    """
    as_trained, device = settings.batch_size, next(model.parameters()).device
    if (
        device.type != "cpu"
        or images.augment  # random changes are drawn batch by batch
        or settings.input_transforms
        or not validation_of(settings).any_size
        or min(len(images), settings.validation_limit or len(images)) <= as_trained
        or len(images) < 4
    ):
        return as_trained
    with mode_of(model, training=False), _default_generator_kept():
        batches = held_out_batches(model, objective, images, settings, images_seen)
        batch = next(batches).part(slice(0, 4))
        with _largest_value(model) as largest:
            together = _values(model, objective, batch, images_seen)
        halves = [
            _values(model, objective, batch.part(rows), images_seen)
            for rows in (slice(0, 2), slice(2, 4))
        ]
    for whole, *parts in zip(together, *halves, strict=True):
        apart = torch.cat(parts)
        if (whole - apart).abs().max() > _OWN_SHARE * whole.abs().max().clamp(min=1e-6):
            return as_trained
    room = LARGEST_VALUE_BYTES * 4 // max(1, largest[0])
    size = min(MOST_IMAGES, 1 << max(0, room.bit_length() - 1))
    return max(as_trained, size)


def _values(
    model: nn.Module, objective: ObjectiveLike, batch: Batch, images_seen: int
) -> list[Tensor]:
    """Reconstruction, total loss and terms for each image of a batch."""
    output, values, total = forward(model, objective, *batch, images_seen=images_seen)
    return [output.reconstruction.float(), total, *values.values()]


@contextmanager
def _largest_value(model: nn.Module) -> Iterator[list[int]]:
    """Context manager: the bytes of the largest tensor returned by a layer inside it."""
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
    """Context manager: restores torch's default generator, from which a model may draw."""
    before = torch.get_rng_state()
    try:
        yield
    finally:
        torch.set_rng_state(before)
