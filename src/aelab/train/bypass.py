"""Whether pictures need the code, where feature maps of a model also pass beside it.

Such a model has the attribute `bypasses` and a method `with_code(images, latent)`: reconstructions
with other codes, while what passes beside the code stays that of the images.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from aelab.findings import Finding
from aelab.train.forward import Batch, ObjectiveLike, forward

#: The code counts as hardly used if codes of other images multiply the loss by less than this, and
#: what passes beside them multiplies it by more.
HARDLY = 1.5

WAY_OUT = (
    "fewer skips, or none (UNet(..., skips=0)), if the code is wanted; encode() and decode(), "
    "samples and maps use the code alone"
)


class CodeLosses(NamedTuple):
    """The loss of a batch with parts of other images.

    Attributes:
        own: with the code of each image, and what passes beside it.
        others: with the code of another image of the batch.
        zeros: with codes of zeros.
        beside: with the code of each image, and what passes beside the code of another.
    """

    own: float
    others: float
    zeros: float
    beside: float

    @property
    def hardly_needs_code(self) -> bool:
        """Whether codes of other images are nearly as good, and what passes beside them is not.

        At the start of training neither matters.
        """
        return self.others < HARDLY * self.own < self.beside

    def __str__(self) -> str:
        return (
            f"the loss is {self.own:.4g}, with the codes of other images {self.others:.4g}, with "
            f"codes of zeros {self.zeros:.4g}, with the maps of other images {self.beside:.4g}"
        )


def bypasses(model: nn.Module) -> bool:
    """Whether something of an image reaches the model's picture beside the code."""
    return bool(getattr(model, "bypasses", False))


@torch.no_grad()
def code_losses(
    model: nn.Module, objective: ObjectiveLike, batch: Batch, images_seen: int
) -> CodeLosses:
    """The losses of a batch of at least two images, in evaluation mode.

    Args:
        model: one that `bypasses`.
    """
    before = model.training
    model.eval()
    try:
        output, _, total = forward(model, objective, *batch, images_seen=images_seen)
        found = [total]
        swaps = (
            (batch.inputs, output.latent.roll(1, 0)),
            (batch.inputs, torch.zeros_like(output.latent)),
            (batch.inputs.roll(1, 0), output.latent),
        )
        for images, latent in swaps:
            made: Tensor = model.with_code(images, latent)  # type: ignore[operator]
            swapped = output._replace(reconstruction=made)
            values = objective(swapped, batch.target, images_seen, *batch.factors_given)
            found.append(objective.total(values, images_seen))
    finally:
        model.train(before)
    return CodeLosses(*(float(total.mean()) for total in found))


def bypassed_code(
    model: nn.Module, objective: ObjectiveLike, batch: Batch, images_seen: int, when: str = ""
) -> Finding:
    """What a batch says of a model that `bypasses`: a warning if it hardly needs its code.

    Args:
        batch: at least two images.
        when: what was done before, for the message, for instance `after 40 steps `.
    """
    losses = code_losses(model, objective, batch, images_seen)
    so = ""
    if losses.hardly_needs_code:
        so = ", so that pictures hardly need the code and a small loss says nothing about it"
    return Finding(
        "warning" if so else "note",
        "code-bypassed",
        f"feature maps pass beside the code: {when}{losses}{so}",
        WAY_OUT,
    )
