"""Modules that start from the training images."""

from __future__ import annotations

from torch import nn

from aelab.types import Images


def start_from_images(model: nn.Module, images: Images) -> None:
    """Calls `start_from(images)` of each module of the model that has this method.

    Called once, before the first batch of a new run; a continued run has what it stored.

    Args:
        model: of the run.
        images: the training images.
    """
    for module in model.modules():
        start = getattr(module, "start_from", None)
        if start is not None:
            start(images)
