"""Validation as the founding documents' program made it, for comparison with their tables."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from aelab.train.batches import Draws
from aelab.train.forward import ObjectiveLike
from aelab.train.validation import Validation, noise_shape_of


class LegacyValidation(Validation):
    """Training mode, drawn latents, and every batch counts the same, a smaller last one too.

    Statistics of BatchNorm are put back afterwards, because a validation must not train.

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
        """What a model in training mode draws: the latent's noise, and dropout's by reseeding."""
        draws.reseed_default(images_seen + part.start)
        shape = noise_shape_of(model)
        if shape is None:
            return None
        size = part.stop - part.start
        return draws.normal((size, *shape), f"validation-latent-{part.start}", images_seen)

    def counted(self, sums: Tensor, count: int) -> tuple[Tensor, int]:
        """The batch's means; the divisor is the number of batches."""
        return sums / count, 1


LEGACY = LegacyValidation()
