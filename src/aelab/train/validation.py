"""How a validation is computed: the default way, and the table of all ways."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.parts import Table
from aelab.settings import FitSettings
from aelab.train.batches import Draws
from aelab.train.forward import ObjectiveLike

#: Validation noise is drawn for this many images at once, so it does not depend on batch sizes.
NOISE_BLOCK = 64


class Validation(ABC):
    """One way to measure a model on held-out images. It holds no state.

    Attributes:
        training_mode: whether the model is in training mode; else in evaluation mode.
        after_first_batch: whether the first validation comes right after the first training
            batch, where validations are due by images.
        any_size: whether the size of batches changes only the last bits.
    """

    training_mode: ClassVar[bool] = False
    after_first_batch: ClassVar[bool] = False
    any_size: ClassVar[bool] = False

    def batch_size(self, objective: ObjectiveLike, settings: FitSettings) -> int:
        """Images that are computed at once."""
        return settings.validation_batch_size or settings.batch_size

    @abstractmethod
    def noise(
        self,
        model: nn.Module,
        objective: ObjectiveLike,
        draws: Draws,
        part: slice,
        images_seen: int,
    ) -> Tensor | None:
        """The noise of one batch's latents.

        Args:
            part: which images of the set are in the batch.
            images_seen: training images so far.

        Returns:
            (B, *noise shape of the model), or None where the latent is its mean.
        """

    @abstractmethod
    def counted(self, sums: Tensor, count: int) -> tuple[Tensor, int]:
        """The contribution of one batch to the mean over the set.

        Args:
            sums: of each term over the batch.
            count: images in the batch.

        Returns:
            The addends of the sums, and the addend of the divisor.
        """


class EvaluationMode(Validation):
    """The default validation: evaluation mode, and the same weight for every image.

    The latent is its mean. A likelihood bound (`objective.bounds`) holds only for sampled
    latents, so there each image has its own noise. It is keyed by the seed and the image's place
    in the set: the same at every validation and for any batch size.
    """

    any_size = True

    def batch_size(self, objective: ObjectiveLike, settings: FitSettings) -> int:
        """Images at once; for a bound at most those of training, as it draws as many latents."""
        size = super().batch_size(objective, settings)
        return min(size, settings.micro_batch_size or size) if _bounds(objective) else size

    def noise(
        self,
        model: nn.Module,
        objective: ObjectiveLike,
        draws: Draws,
        part: slice,
        images_seen: int,
    ) -> Tensor | None:
        """For a bound the noise of each image, the same at every validation; else None."""
        shape = noise_shape_of(model)
        if shape is None or not _bounds(objective):
            return None
        blocks = range(part.start // NOISE_BLOCK, -(-part.stop // NOISE_BLOCK))
        drawn = [draws.normal((NOISE_BLOCK, *shape), "validation", block) for block in blocks]
        # Whole blocks are drawn, then cut to the batch.
        return torch.cat(drawn)[part.start % NOISE_BLOCK :][: part.stop - part.start]

    def counted(self, sums: Tensor, count: int) -> tuple[Tensor, int]:
        """The unchanged sums; the divisor is the number of images."""
        return sums, count


#: Ways to validate by name.
VALIDATIONS: Table[Validation] = Table(
    "validation", "aelab.validations", {"evaluation_mode": EvaluationMode()}
)


def validation_of(settings: FitSettings) -> Validation:
    """The way of validation named by the settings.

    Raises:
        ConfigError: there is none of that name.
    """
    return VALIDATIONS.find(settings.validation)


def noise_shape_of(model: nn.Module) -> tuple[int, ...] | None:
    """The shape of one image's noise, or None where the model needs none."""
    return getattr(model, "noise_shape", None)


def _bounds(objective: ObjectiveLike) -> bool:
    return bool(getattr(objective, "bounds", ()))
