"""Computes batches in halves when memory does not suffice, if the result is the same.

The effective batch stays the same: the gradients of the parts add up to those of the batch, so only
the last bits change. The mean of a validation stays, too. If a model or a loss depends on the batch
as a whole, halves would compute something else.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from aelab.errors import RunFailed
from aelab.train.batches import Batches
from aelab.train.clock import Clock
from aelab.train.evaluate import held_out_batches
from aelab.train.forward import Batch, Task, forward
from aelab.train.learner import SoloLearner
from aelab.train.mode import mode_of
from aelab.train.validation import validation_of

#: Texts of torch's errors for lack of CPU memory; they have no class of their own.
_SAID = ("alloc_cpu", "can't allocate memory", "not enough memory", "cannot allocate memory")
#: Relative difference above which a loss depends on the other images of its batch.
_ALIKE = 1e-3


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, is a lack of memory on the CPU or another device."""
    seen = 0
    while error is not None and seen < 10:
        if isinstance(error, MemoryError | torch.OutOfMemoryError):
            return True
        if isinstance(error, RuntimeError) and any(s in str(error).lower() for s in _SAID):
            return True
        error, seen = error.__cause__, seen + 1
    return False


def buffer_versions(model: nn.Module) -> list[int]:
    """How often each buffer was written; a failed batch must not have written any."""
    return [buffer._version for buffer in model.buffers()]


def halve(
    member: SoloLearner, task: Task, batch: Batch, clock: Clock, written: bool, error: Exception
) -> None:
    """Makes a learner compute smaller parts of a batch, after one did not fit.

    Args:
        clock: the clock before the batch.
        written: whether the failed pass has written buffers.
        error: the out-of-memory error.

    Raises:
        RunFailed: parts would compute something else; the hint says what to do instead.
        Exception: `error`, if smaller parts are impossible or would not help.
    """
    size = len(batch[1])
    present = min(member.micro_batch or size, task.settings.micro_batch_size or size, size)
    if present < 2 or member.is_stepping or clock.accumulated_images:
        raise error
    member.clear_gradients()
    reason = "the model writes buffers in its forward pass" if written else ""
    reason = reason or _whole_batch(member.model, task, batch, clock.images, training=True)
    if reason:
        raise RunFailed(
            f"out of memory with batches of {present:,} images, and computing them in parts would "
            f"change the result: {reason}",
            hint=f"lower batch_size (now {task.settings.batch_size:,}), or use a normalisation of "
            "each image (GroupNorm) and losses of each image",
        ) from error
    member.micro_batch = -(-present // 2)
    if member.device.type == "cuda":
        torch.cuda.empty_cache()


def halved_validation(
    model: nn.Module, task: Task, held_out: Batches, images_seen: int, error: Exception
) -> int:
    """The batch size of later validations, after one did not fit into memory.

    Args:
        model: the evaluated model.
        task: with the settings of that validation.
        error: the out-of-memory error.

    Raises:
        RunFailed: smaller batches would give another loss; the hint says what to do instead.
        Exception: `error`, if there is one image at a time already.
    """
    settings = task.settings
    validation = validation_of(settings)
    count = min(len(held_out), settings.validation_limit or len(held_out))
    present = min(validation.batch_size(task.objective, settings), count)
    if present < 2:
        raise error
    half = -(-present // 2)
    few = replace(settings, validation_batch_size=min(4, half))
    batch = next(held_out_batches(model, task.objective, held_out, few, images_seen))
    reason = ""
    if settings.freeze_validation_set and (held_out.augment or settings.input_transforms):
        reason = "the frozen random changes are drawn batch by batch"
    reason = reason or _whole_batch(
        model, task, batch, images_seen, training=validation.training_mode
    )
    if reason:
        raise RunFailed(
            f"out of memory in a validation with batches of {present:,} images, and smaller ones "
            f"would give another loss: {reason}",
            hint=f"validation_batch_size: {half} from the first image on (--restart)",
        ) from error
    if next(model.parameters()).device.type == "cuda":
        torch.cuda.empty_cache()
    return half


def _whole_batch(
    model: nn.Module, task: Task, batch: Batch, images_seen: int, *, training: bool
) -> str:
    """Names what depends on the batch as a whole; empty if each image's loss is its own.

    Args:
        training: in training mode, else in evaluation mode.
    """
    for name, module in model.named_modules():
        if training and isinstance(module, nn.modules.batchnorm._BatchNorm):
            return f"'{name}' ({type(module).__name__}) takes statistics of the batch"
    few = min(4, len(batch[1]))
    dropouts = [m for m in model.modules() if isinstance(m, nn.modules.dropout._DropoutNd)]

    def total(part: slice) -> torch.Tensor:
        """Losses of some images, without dropout."""
        cut: Any = tuple(None if tensor is None else tensor[part] for tensor in batch)
        with torch.no_grad(), mode_of(model, training=training):
            for dropout in dropouts:
                dropout.eval()
            _, _, losses = forward(model, task.objective, *cut, images_seen=images_seen)
        return losses

    try:
        together = total(slice(0, few))
        alone = torch.cat([total(slice(n, n + 1)) for n in range(few)])
    except Exception as error:  # such as a norm that refuses a batch of one image
        if is_out_of_memory(error):
            return ""  # smaller parts do not fit either, which is reported later
        return f"a batch of one image fails ({type(error).__name__})"
    if (together - alone).abs().max() <= _ALIKE * together.abs().max() + 1e-6:
        return ""
    return "the loss of an image depends on the other images of its batch"
