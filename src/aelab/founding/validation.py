"""Validation as in the founding documents' program, for comparison with their tables."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from aelab.train.batches import Draws
from aelab.train.forward import ObjectiveLike
from aelab.train.validation import Validation, noise_shape_of


class LegacyValidation(Validation):
    """Uses training mode and drawn latents; all batches have equal weight, even a smaller last one.

    Statistics of BatchNorm are restored afterwards, because a validation must not train.

    Source: behaviour of nn-experiments, described in docs/training.md.
    """

    training_mode: ClassVar[bool] = True
    after_first_batch: ClassVar[bool] = True

    def noise(
        self,
        model: nn.Module,
        objective: ObjectiveLike,
        draws: Draws,
        part: slice,
        images_seen: int,
    ) -> Tensor | None:
        """The random numbers of training mode: the latent's noise, and dropout by reseeding."""
        draws.reseed_default(images_seen + part.start)
        shape = noise_shape_of(model)
        if shape is None:
            return None
        size = part.stop - part.start
        return draws.normal((size, *shape), f"validation-latent-{part.start}", images_seen)

    def counted(self, sums: Tensor, count: int) -> tuple[Tensor, int]:
        """The batch's means, counted as 1, so that the divisor is the number of batches."""
        return sums / count, 1


LEGACY = LegacyValidation()
