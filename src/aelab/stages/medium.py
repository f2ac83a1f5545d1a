"""The media of second stages: latents of a run, and indices of its codebooks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from aelab.errors import ConfigError, StoreError
from aelab.medium import PIXELS, Medium
from aelab.ops.nearest import nearest_rows
from aelab.ops.value_range import to_unit
from aelab.stages.first import (
    CodeValues,
    FirstStage,
    images_to_latents,
    index_shape,
    indices_of_grid,
    latent_image_shape,
)


@dataclass(frozen=True)
class OfRun(Medium):
    """Images that are codes of a run; they are shown as the pictures that the run decodes.

    Args:
        first: the run; None for a model, which takes the codes of any.
    """

    first: FirstStage | None = None

    name: ClassVar[str] = "latents"
    is_brightness: ClassVar[bool] = False
    gap: ClassVar[str] = "white"
    why_not: ClassVar[str] = "would change codes as if they were pictures"

    @property
    def first_stage(self) -> str:  # type: ignore[override]
        """The run and the images its state has seen, `vae@20000`; empty without a run."""
        return "" if self.first is None else self.first.reference

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width in pixels that one code has in a picture."""
        _, height, width = self._size_of_codes()
        _, rows, columns = self._of().dataset("train").shape
        return -(-rows // height), -(-columns // width)

    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """The decoded pictures (B, 1 or 3, h, w) uint8, padded to whole cells."""
        opened = self._of().opened()
        parts = torch.split(self.to_latents(images), 250)
        decoded = torch.cat([opened.decode(part) for part in parts])
        unit = to_unit(decoded.float().cpu(), opened.value_range)
        shown = opened.medium.picture(unit, checker=checker)
        _, height, width = self._size_of_codes()
        down, right = (
            cell * count - size
            for cell, count, size in zip(self.cell, (height, width), shown.shape[2:], strict=True)
        )
        # An extra border only where the picture is no multiple of the grid of codes.
        padded: Tensor = torch.nn.functional.pad(
            shown, (0, max(0, right), 0, max(0, down)), value=255
        )
        return padded

    def drawn(self, stored: Tensor) -> Tensor:
        """Stored codes (N, C, H, W) as pictures."""
        return self.picture(stored)

    def record(self) -> dict[str, Any]:
        """The first stage, and the size of a code in the run's pictures."""
        return {"first_stage": self._of().record(), "cell": list(self.cell)}

    def refuse_stored(self, record: Mapping[str, Any], folder: str) -> None:
        """Raises if the first stage has changed since a run was trained on its codes.

        Raises:
            StoreError: it has.
        """
        stored, now = record.get("first_stage"), self._of().record()
        if isinstance(stored, Mapping) and dict(stored) != now:
            raise _another_first(folder, stored, now)

    def allows(self, change: Any) -> bool:
        """Allows no change of pixels."""
        return False

    def possible_changes(self, of_input: bool) -> str:
        """Only changes of the number and order of images."""
        return "possible: .limit, .skip, .sample, .shuffle, .repeat"

    def refuse_model(self, model: Medium) -> None:
        """Raises unless the model is one of such codes, or of any numbers.

        Raises:
            ConfigError: the model is of another kind.
        """
        if type(model) is not type(self) and not (self.fits_any_model and model == PIXELS):
            super().refuse_model(model)

    def other_kind(self, model: Medium) -> ConfigError:
        """The error for indices where a model takes numbers, or the reverse."""
        return ConfigError(
            f"the images are {self.images_are}, but the model takes {model.images_are}",
            hint=f"{self.a_model}; or change the argument values of latents_of",
        )

    #: Whether a model of ordinary images can learn them.
    fits_any_model: ClassVar[bool] = False

    @abstractmethod
    def _size_of_codes(self) -> tuple[int, int, int]:
        """(C, H, W) of one image of codes."""

    def _of(self) -> FirstStage:
        if self.first is None:
            raise ConfigError(
                "these codes belong to no run, so that they have no picture",
                hint="train on latents_of('RUN')",
            )
        return self.first


@dataclass(frozen=True)
class Latents(OfRun):
    """Latents of a run, each channel brought to mean 0 and standard deviation 1.

    Args:
        first: the run.
        values: `mean` or `drawn`, see `latents_of`.
        standardize: whether channels were brought to mean 0 and deviation 1.
        seed: of drawn ones.
    """

    values: CodeValues = "mean"
    standardize: bool = True
    seed: int = 0

    sets_hold: ClassVar[str] = "latents"
    images_are: ClassVar[str] = "latents of a run"
    misread: ClassVar[str] = "it takes pictures or indices, not numbers of any size"
    a_model: ClassVar[str] = "use FlowMatching(shape), LatentDiffusion(shape), or an autoencoder"
    from_others: ClassVar[str] = "encode the images with a run: latents_of('RUN')"
    fits_any_model: ClassVar[bool] = True

    def to_latents(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> latents of the run, (B, ...)."""
        first = self._of()
        if self.standardize:
            mean, std = first.scale(self.values, self.seed)
            images = images * std[:, None, None] + mean[:, None, None]
        return images_to_latents(images, first.shape().latent)

    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """The mean squared error over an image's latents."""
        return "L2", (made - images).square().flatten(1).mean(1)

    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """The nearest by Euclidean distance of the latents."""
        return nearest_rows(images.flatten(1), among.flatten(1)).rows[:, 0]

    def _size_of_codes(self) -> tuple[int, int, int]:
        return latent_image_shape(self._of().shape().latent)


@dataclass(frozen=True)
class Codes(OfRun):
    """Indices of the entries of a run's codebooks, 0, 1, .. as floats."""

    sets_hold: ClassVar[str] = "codes"
    images_are: ClassVar[str] = "indices of codebooks"
    misread: ClassVar[str] = "it would read the indices as brightness"
    a_model: ClassVar[str] = "use PixelCNN(shape, codebook_size) or CodeTransformer(...)"
    from_others: ClassVar[str] = "encode the images with a quantised run: latents_of('RUN')"
    a_loss: ClassVar[str] = "use the term code_nll"

    def to_latents(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> latents of the run, (B, ...)."""
        first = self._of()
        return first.latent_of_indices(indices_of_grid(images.round().long(), first.shape()))

    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """The share of an image's indices that are wrong."""
        return "wrong", (made.round() != images.round()).float().flatten(1).mean(1)

    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """The one with most equal indices."""
        given, known = images.flatten(1).round(), among.flatten(1).round()
        return torch.stack([(known != one).sum(1).argmin() for one in given])

    def _size_of_codes(self) -> tuple[int, int, int]:
        return index_shape(self._of().shape())


def _another_first(folder: str, stored: Mapping[str, Any], now: Mapping[str, Any]) -> StoreError:
    """The error for a second stage whose first one is not the same any more."""
    return StoreError(
        f"{folder} was trained on the codes of {stored.get('run')} at {stored.get('images')} "
        f"images with weights {str(stored.get('weights_sha256'))[:12]}; now these are "
        f"{now['run']} at {now['images']} with {str(now['weights_sha256'])[:12]}",
        hint="restore the first run, or train the second again with --restart",
    )
