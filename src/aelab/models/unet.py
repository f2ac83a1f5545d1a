"""A U-Net: an autoencoder whose feature maps also pass to the decoder beside the code."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.activations import Activation, make_activation
from aelab.models.reshaping import FlattenPixels, UnflattenPixels
from aelab.models.residual import (
    UNBOUNDED_START,
    ResidualBlock,
    Upsample,
    check_stages,
    halved_sizes,
    keep_variance,
    make_per_image_norm,
)
from aelab.models.shapes import image_shape
from aelab.types import Output, TermSpec


class _Contracting(nn.Module):
    """The encoder: a map for each stage, and the code of the last one."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        code_size: int,
        widths: Sequence[tuple[int, int]],
        norm: str | None,
        act_fn: Activation,
    ) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        channels = [shape[0], *(width for width, _ in widths)]
        for stage, (width, count) in enumerate(widths):
            first = nn.Conv2d(channels[stage], width, 3, stride=2 if stage else 1, padding=1)
            more = [ResidualBlock(width, norm=norm, act_fn=act_fn) for _ in range(count)]
            stages.append(nn.Sequential(first, *more))
        self.stages = nn.ModuleList(stages)
        last = channels[-1] * math.prod(halved_sizes(shape, len(widths) - 1)[-1])
        self.norm = make_per_image_norm(norm, channels[-1])
        self.act = make_activation(act_fn) or nn.Identity()
        self.head = nn.Sequential(FlattenPixels(), nn.Linear(last, code_size))

    def forward(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """(B, C, H, W) -> code (B, D), and the maps of all stages but the last."""
        maps = []
        for stage in self.stages:
            images = stage(images)
            maps.append(images)
        return self.head(self.act(self.norm(images))), maps[:-1]


class _Expanding(nn.Module):
    """The decoder: from the code upwards, with the map of a stage beside its own."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        code_size: int,
        widths: Sequence[tuple[int, int]],
        skips: int,
        norm: str | None,
        act_fn: Activation,
        activation_last_layer: Activation,
    ) -> None:
        super().__init__()
        sizes = halved_sizes(shape, len(widths) - 1)
        channels, blocks = zip(*widths, strict=True)
        first = (channels[-1], *sizes[-1])
        self.head = nn.Sequential(nn.Linear(code_size, math.prod(first)), UnflattenPixels(first))
        ups, mixes, stages = [], [], []
        # Coarsest first. `skips` of the stages, from the coarsest on, get a map.
        for step, (above, stage) in enumerate(itertools.pairwise(reversed(range(len(channels))))):
            width = channels[stage]
            ups.append(Upsample(channels[above], width, sizes[stage]))
            if step < skips:
                mixes.append(nn.Conv2d(2 * width, width, 3, padding=1))
            more = [ResidualBlock(width, norm=norm, act_fn=act_fn) for _ in range(blocks[stage])]
            stages.append(nn.Sequential(*more))
        self.ups, self.mixes = nn.ModuleList(ups), nn.ModuleList(mixes)
        self.stages = nn.ModuleList(stages)
        last = make_activation(activation_last_layer, in_place=True)
        self.out = nn.Sequential(
            make_per_image_norm(norm, channels[0]),
            make_activation(act_fn, in_place=True) or nn.Identity(),
            nn.Conv2d(channels[0], shape[0], 3, padding=1),
            *([] if last is None else [last]),
        )

    def forward(self, latent: Tensor, maps: Sequence[Tensor] | None = None) -> Tensor:
        """Latent (B, D), and maps of all stages but the last or None (zeros) -> (B, C, H, W)."""
        x = self.head(latent)
        for step, (up, stage) in enumerate(zip(self.ups, self.stages, strict=True)):
            x = up(x)
            if step < len(self.mixes):
                beside = torch.zeros_like(x) if maps is None else maps[-1 - step]
                x = self.mixes[step](torch.cat([x, beside], dim=1))
            x = stage(x)
        images: Tensor = self.out(x)
        return images


class UNet(nn.Module):
    """A U-Net: feature maps of the encoder pass to the decoder beside the code.

    With such skips a model reproduces images without its code: a small loss says nothing about the
    code. `encode` and `decode`, and so samples, walks and maps, use the code alone, with zeros in
    place of the maps. `aelab check` and validations warn of it, with the loss for the codes of
    other images. For tasks with other targets than the input, such as denoising, skips are useful.

    Args:
        shape: (C, H, W) of the images, any size; halves are rounded up.
        code_size: D, length of the code.
        channels: of each stage from the image on; the map is halved between two stages.
        blocks: residual blocks of each stage, in encoder and decoder; one integer, or one for each.
        skips: number of stages whose map passes, from the coarsest on; None: all but the last
            stage, as in the paper; 0: an ordinary autoencoder.
        norm: one of `PER_IMAGE_NORMS`.
        act_fn: of the blocks.
        activation_last_layer: of the image; None leaves it unbounded.

    Attributes:
        bypasses: whether something passes beside the code.

    Raises:
        ConfigError: more skips than stages above the last.

    Source: Ronneberger et al. 2015, arXiv:1505.04597, figure 1; it has no code.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"bypasses", "decode", "decoder", "encode", "encoder", "noise_shape"}
    )

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        channels: Sequence[int] = (16, 32, 32),
        blocks: int | Sequence[int] = 1,
        skips: int | None = None,
        norm: str | None = "rms",
        act_fn: Activation = "relu",
        activation_last_layer: Activation = None,
    ) -> None:
        super().__init__()
        images = image_shape(shape, "UNet")
        most = len(channels) - 1
        number = most if skips is None else int(skips)
        if not 0 <= number <= most:
            raise ConfigError(
                f"UNet: {len(channels)} stages have {most} maps to pass, and skips is {number}; "
                f"possible: 0 to {most}"
            )
        sizes = (images, int(code_size), check_stages(channels, blocks, 3, "UNet"))
        self.encoder = _Contracting(*sizes, norm, act_fn)
        self.decoder = _Expanding(*sizes, number, norm, act_fn, activation_last_layer)
        keep_variance(self)
        if activation_last_layer is None:
            with torch.no_grad():  # after `keep_variance`, which would overwrite it
                self.decoder.out[2].weight.mul_(UNBOUNDED_START)  # type: ignore[operator]
        self.bypasses = number > 0
        self.noise_shape: tuple[int, ...] | None = None
        self.codebooks: Mapping[str, int] = {}
        self.terms: tuple[TermSpec, ...] = ()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) -> images and code."""
        latent, maps = self.encoder(images)
        return Output(self.decoder(latent, maps), latent)

    def encode(self, images: Tensor) -> Tensor:
        """Codes of images, (B, D)."""
        latent: Tensor = self.encoder(images)[0]
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, H, W) of codes alone."""
        images: Tensor = self.decoder(latent)
        return images

    def with_code(self, images: Tensor, latent: Tensor) -> Tensor:
        """The reconstructions of images (B, C, H, W) with other codes (B, D) than their own."""
        made: Tensor = self.decoder(latent, self.encoder(images)[1])
        return made
