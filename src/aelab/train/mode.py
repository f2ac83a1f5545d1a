"""Training and evaluation mode of a model for a while."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from torch import nn


@contextlib.contextmanager
def mode_of(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Context manager: sets the mode of a model, and restores mode and buffers afterwards."""
    before = model.training
    # In training mode BatchNorm and codebooks write buffers in the forward pass.
    kept = [(buffer, buffer.clone()) for buffer in model.buffers()] if training else []
    model.train(training)
    try:
        yield
    finally:
        model.train(before)
        for buffer, value in kept:
            buffer.copy_(value)
