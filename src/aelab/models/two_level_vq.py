"""A quantized autoencoder with codes on a coarse and on a fine map (VQ-VAE-2)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.activations import Activation, make_activation
from aelab.models.quantizers import VQ, commitment_terms
from aelab.models.residual import (
    ResidualBlock,
    Upsample,
    halved_sizes,
    keep_variance,
    make_per_image_norm,
)
from aelab.models.shapes import image_shape
from aelab.posteriors import TwoLevelCodePosterior
from aelab.types import Output, TermSpec


class TwoLevelVQAutoencoder(nn.Module):
    """The coarse map is quantized first; what it says is known when the fine map is quantized.

    The latent of an image is both quantized maps, flattened, the coarse one first; they are what
    the decoder gets. `two_level_vq` builds the model.

    Args:
        encoder: images -> maps at the size of the fine codes.
        coarser: these maps -> maps at the size of the coarse codes.
        to_top: maps -> features of the coarse codes.
        top_up: coarse codes -> maps at the size of the fine ones; used by encoder and decoder.
        to_bottom: fine maps and enlarged coarse codes, joined -> features of the fine codes.
        bottleneck: `top` and `bottom`, a `VQ` each.
        decoder: enlarged coarse codes and fine codes, joined -> images.
        top_shape, bottom_shape: (dims, h, w) of both codes; None: those of square images, by the
            length of a latent.
        commitment: weight of the term `commitment`.
        top_to_fine: enlarges the coarse codes for the encoder alone; None: by `top_up`.
        reconstruction: default term that compares with the images; None: the file chooses one.

    Attributes:
        codebooks: `top` and `bottom` -> number of entries.

    Source: Razavi et al. 2019, arXiv:1906.00446, figure 2 and algorithm 1.
    """

    noise_shape: tuple[int, ...] | None = None

    def __init__(
        self,
        encoder: nn.Module,
        coarser: nn.Module,
        to_top: nn.Module,
        top_up: nn.Module,
        to_bottom: nn.Module,
        bottleneck: nn.ModuleDict,
        decoder: nn.Module,
        top_shape: tuple[int, int, int] | None = None,
        bottom_shape: tuple[int, int, int] | None = None,
        commitment: float = 0.25,
        top_to_fine: nn.Module | None = None,
        reconstruction: TermSpec | None = None,
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleDict(
            {"fine": encoder, "coarse": coarser, "to_top": to_top, "to_bottom": to_bottom}
        )
        if top_to_fine is not None:
            self.encoder["top_to_fine"] = top_to_fine
        self.bottleneck = bottleneck
        self.decoder = nn.ModuleDict({"top_up": top_up, "picture": decoder})
        first = () if reconstruction is None else (reconstruction,)
        self.terms: tuple[TermSpec, ...] = (*first, *commitment_terms(commitment))
        self._top_shape, self._bottom_shape = top_shape, bottom_shape
        self.codebooks: Mapping[str, int] = {
            name: part.codebook_size  # type: ignore[misc]
            for name, part in bottleneck.items()
        }

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) -> `Output`; there is no noise."""
        fine = self.encoder["fine"](images)
        top, of_top = self.bottleneck["top"](self.encoder["to_top"](self.encoder["coarse"](fine)))
        known = self.decoder["top_up"](top)
        of_encoder = self.encoder["top_to_fine"](top) if "top_to_fine" in self.encoder else known
        joined = self.encoder["to_bottom"](torch.cat([fine, of_encoder], 1))
        bottom, of_bottom = self.bottleneck["bottom"](joined)
        posterior = TwoLevelCodePosterior(
            of_top.index, of_bottom.index, of_top.commitment + of_bottom.commitment
        )
        latent = torch.cat([top.flatten(1), bottom.flatten(1)], 1)
        return Output(self.decoder["picture"](torch.cat([known, bottom], 1)), latent, posterior)

    def encode(self, images: Tensor) -> Tensor:
        """Both quantized maps, flattened, (B, D)."""
        latent: Tensor = self(images).latent
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, H, W) of latents (B, D)."""
        top_shape, bottom_shape = self._shapes_of(latent)
        top, bottom = torch.split(latent, [math.prod(top_shape), math.prod(bottom_shape)], 1)
        known = self.decoder["top_up"](top.view(-1, *top_shape))
        both = torch.cat([known, bottom.view(-1, *bottom_shape)], 1)
        images: Tensor = self.decoder["picture"](both)
        return images

    def _shapes_of(self, latent: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of both codes in a latent: as given, or those of square maps."""
        if self._top_shape is not None and self._bottom_shape is not None:
            return self._top_shape, self._bottom_shape
        dims: list[int] = [
            self.bottleneck[name].dims  # type: ignore[misc]
            for name in ("top", "bottom")
        ]
        # The fine map has four times the places of the coarse one.
        side = math.isqrt(latent.shape[1] // (dims[0] + 4 * dims[1]))
        if side**2 * (dims[0] + 4 * dims[1]) != latent.shape[1]:
            raise ShapeError(
                f"{latent.shape[1]} numbers are not the codes of a square image",
                hint="use square images, or build the model with two_level_vq(shape)",
            )
        return (dims[0], side, side), (dims[1], 2 * side, 2 * side)

    def after_step(self) -> None:
        """Called after every optimiser step; updates both codebooks."""
        for part in self.bottleneck.values():
            part.after_step()  # type: ignore[operator]


def two_level_vq(
    shape: Sequence[int],
    codebook_size: int = 128,
    dims: int = 8,
    channels: int = 48,
    blocks: int = 1,
    halvings: int = 2,
    commitment: float = 0.25,
    activation_last_layer: Activation = "sigmoid",
) -> TwoLevelVQAutoencoder:
    """VQ-VAE-2 for small images: codes on a fine map, and on one of half its size.

    Args:
        shape: (C, H, W) of the images.
        codebook_size: entries of each codebook.
        dims: numbers of an entry; each place of a map holds one.
        channels: of all maps between.
        blocks: residual blocks at each size.
        halvings: of the image down to the fine map.
        commitment: weight of the term `commitment`.
        activation_last_layer: of the image.

    Raises:
        ConfigError: `halvings` or `blocks` below 1.

    Source: Razavi et al. 2019, arXiv:1906.00446, figure 2.
    """
    colours, height, width = image_shape(shape, "two_level_vq")
    for name, value in (("halvings", halvings), ("blocks", blocks)):
        if value < 1:
            raise ConfigError(f"two_level_vq: {name} is {value}; possible: 1, 2..")
    places = halved_sizes((height, width), halvings + 1)
    fine, coarse = places[halvings], places[halvings + 1]

    def stage(before: int) -> list[nn.Module]:
        """A convolution of stride 2 and residual blocks."""
        halved = nn.Conv2d(before, channels, 3, 2, 1)
        return [halved, *(ResidualBlock(channels) for _ in range(blocks))]

    encoder = nn.Sequential(
        *(layer for number in range(halvings) for layer in stage(channels if number else colours))
    )
    # Layers before a quantizer end in a norm of unit scale, so that no code starts far away.
    to_top = nn.Sequential(make_per_image_norm("rms", channels), nn.Conv2d(channels, dims, 1))
    to_bottom = nn.Sequential(
        nn.Conv2d(2 * channels, channels, 1),
        make_per_image_norm("rms", channels),
        nn.Conv2d(channels, dims, 1),
    )
    top_up = nn.Sequential(
        nn.Conv2d(dims, channels, 1), ResidualBlock(channels), Upsample(channels, channels, fine)
    )
    layers: list[nn.Module] = [nn.Conv2d(channels + dims, channels, 3, padding=1)]
    for number in range(halvings, 0, -1):
        layers += [ResidualBlock(channels) for _ in range(blocks)]
        after = channels if number > 1 else colours
        norm = make_per_image_norm("rms", channels)
        layers += [norm, Upsample(channels, after, places[number - 1])]
    last = make_activation(activation_last_layer)
    decoder = nn.Sequential(*layers, *([last] if last is not None else []))
    coarser = nn.Sequential(*stage(channels))
    for part in (encoder, coarser, to_top, to_bottom, top_up, decoder):
        keep_variance(part)
    return TwoLevelVQAutoencoder(
        encoder,
        coarser,
        to_top,
        top_up,
        to_bottom,
        nn.ModuleDict({"top": VQ(codebook_size, dims), "bottom": VQ(codebook_size, dims)}),
        decoder,
        (dims, *coarse),
        (dims, *fine),
        commitment,
    )
