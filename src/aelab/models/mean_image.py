"""A decoder whose first pictures are the mean image of the training set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.shapes import image_shape, shape_words
from aelab.ops.augmented import chosen_images
from aelab.ops.subset import draw_order
from aelab.types import Images

#: The mean of a pixel is kept this far from 0 and 1, whose logits are infinite (Burda 2016).
LEAST_SHARE = 0.001
#: At most this many training images make the mean: its error is below 0.005 then.
MOST_IMAGES = 10_000
_CHUNK = 1_000


class FromMeanImage(nn.Module):
    """A decoder plus one learned number for each pixel, which starts at the mean training image.

    Without it a decoder starts at grey. The quickest way to the mean brightness is then through the
    latent, whose constant part becomes an offset of the picture; units saturate, and the latent
    may never carry anything else. A prior that is learned does not hold the latent back.

    Args:
        decoder: latent to images (B, C, H, W), without a last activation.
        shape: (C, H, W) of the images.
        activation: `sigmoid`: applied to the sum, for images in 0..1; `logits`: the sum is the
            logit of the image, for `bce_logits`; `none`: the sum is the image.

    Attributes:
        offset: (C, H, W), learned; before the activation.
        start_from: called with the training images before the first batch.

    Raises:
        ConfigError: another activation.
        ShapeError: in `forward` or `start_from`, if the images have another shape.

    Source: Burda et al. 2016, arXiv:1509.00519, in the authors' code.
    """

    def __init__(
        self,
        decoder: nn.Module,
        shape: Sequence[int],
        activation: Literal["sigmoid", "logits", "none"] = "sigmoid",
    ) -> None:
        super().__init__()
        if activation not in ("sigmoid", "logits", "none"):
            raise ConfigError(
                f"FromMeanImage: activation is {activation!r}; possible: logits, none, sigmoid"
            )
        self.decoder, self.activation = decoder, activation
        self.offset = nn.Parameter(torch.zeros(image_shape(shape, "FromMeanImage")))

    @torch.no_grad()
    def start_from(self, images: Images) -> None:
        """Sets the offset to the mean of the training images, or of 10,000 drawn ones."""
        rows = draw_order(len(images))[:MOST_IMAGES]
        total = torch.zeros(self.offset.shape, dtype=torch.float64)
        for part in torch.split(rows, _CHUNK):
            pictures = chosen_images(images, part)
            self._check(pictures)
            total += pictures.sum(0, dtype=torch.float64)
        mean = total / max(1, len(rows))
        if self.activation != "none":
            mean = torch.logit(mean.clamp(LEAST_SHARE, 1 - LEAST_SHARE))
        self.offset.copy_(mean)

    def forward(self, latent: Tensor) -> Tensor:
        """Latents (B, ...) -> images (B, C, H, W)."""
        made = self.decoder(latent)
        self._check(made)
        images: Tensor = made + self.offset
        return images.sigmoid() if self.activation == "sigmoid" else images

    def extra_repr(self) -> str:
        """The activation, for `print(model)`."""
        return f"activation={self.activation!r}"

    def _check(self, images: Tensor) -> None:
        if images.shape[1:] != self.offset.shape:
            raise ShapeError(
                f"FromMeanImage: images of {shape_words(images.shape[1:])}, but "
                f"{shape_words(self.offset.shape)} were declared",
                hint=f"use {tuple(images.shape[1:])} as shape",
            )
