"""The first layer of an implicit decoder, which combines position and latent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, did_you_mean, one_of
from aelab.models.activations import Activation
from aelab.models.coordinates import (
    LinearPositions,
    PositionCode,
    attenuation,
    bilinear_weights,
)
from aelab.models.implicit_layers import Sine, make_pixel_activation

#: Ways in which the latent enters; several can be combined.
MIXINGS = ("concat", "film", "grid")


class PositionShare(NamedTuple):
    """The contribution of the positions of a pass, which is the same for all images.

    Attributes:
        hidden: (P, F), the positions' part of the first layer, before its activation.
        cells: (P, rows*columns), interpolation weights of the coarse grid; None without `grid`.
        left: (F,), anti-aliasing factors of the first layer's sines, or None.
    """

    hidden: Tensor
    cells: Tensor | None
    left: Tensor | None


class PixelInputs(nn.Module):
    """linear(concat(latent, position code, grid features)) and its activation, by parts.

    A linear map of a concatenation is a sum of linear maps. The latent's part is computed once per
    image, that of the positions once per pass, instead of for every pixel of every image.

    Args:
        latent_dims: D.
        num_hidden: F.
        positions: the position code.
        mixing: of `MIXINGS`; `film` does not affect this layer.
        cells: (rows, columns) of the coarse grid.
        grid_channels: features of each of its cells.
        activation: after the layer.
        attention_heads: of the documents' cross-attention before the layer, which then has no
            activation; 0: no attention.

    Attributes:
        linear: its input columns are latent, position code, grid features, in this order.
    """

    def __init__(
        self,
        latent_dims: int,
        num_hidden: int,
        positions: PositionCode,
        mixing: Sequence[str],
        cells: tuple[int, int],
        grid_channels: int,
        activation: Activation,
        attention_heads: int,
    ) -> None:
        super().__init__()
        self.cells, self.positions = cells, positions
        num_latent = latent_dims if "concat" in mixing else 0
        num_grid = int(grid_channels) if "grid" in mixing else 0
        # Columns of `linear`; unused parts have width 0, so `split` below always works.
        self.widths = [num_latent, positions.num_features, num_grid]
        self.linear = nn.Linear(sum(self.widths), num_hidden)
        self.activation = (
            nn.Identity() if attention_heads else make_pixel_activation(activation, in_place=False)
        )
        self.grid: nn.Linear | None = None
        if num_grid:
            # (B, D) -> (B, rows * columns * G), the coarse map of all cells.
            self.grid = nn.Linear(latent_dims, cells[0] * cells[1] * num_grid)
        self.upscale_pos: nn.Linear | None = None
        self.cross_atn: nn.MultiheadAttention | None = None
        if attention_heads:
            if latent_dims % attention_heads:
                raise ConfigError(
                    f"ImageManifoldDecoder: {attention_heads} cross_attention_heads do not divide "
                    f"{latent_dims} num_input_channels"
                )
            self.upscale_pos = nn.Linear(positions.num_features, latent_dims)
            self.cross_atn = nn.MultiheadAttention(latent_dims, attention_heads)
        if isinstance(self.activation, Sine):
            self._initialise_sines(self.activation)
        elif isinstance(positions, LinearPositions) and positions.anti_alias is not None:
            raise ConfigError(
                "ImageManifoldDecoder: linear positions have no waves that anti_alias could weaken",
                hint='use pos_embedding="sin_cos", or activation="siren"',
            )

    def of_positions(self, positions: Tensor, size: tuple[float, float]) -> PositionShare:
        """The contribution of positions (P, 2), with the size (width, height) of a pixel."""
        _, weight, _ = torch.split(self.linear.weight, self.widths, dim=1)  # (F, E)
        hidden = F.linear(self.positions(positions, size), weight, self.linear.bias)
        cells = None if self.grid is None else bilinear_weights(positions, self.cells)
        left = None
        if isinstance(self.activation, Sine) and isinstance(self.positions, LinearPositions):
            waves = weight * self.activation.frequency  # (F, 2) radians per unit
            left = attenuation(waves, size, self.positions.anti_alias)
        return PositionShare(hidden, cells, left)

    def forward(self, latent: Tensor, share: PositionShare) -> Tensor:
        """Latents (B, D) and the contribution of P positions -> (P, B, F)."""
        of_latent, _, of_grid = torch.split(self.linear.weight, self.widths, dim=1)
        hidden = share.hidden[:, None]  # (P, 1, F)
        if self.widths[0]:
            hidden = hidden + F.linear(self._attend(latent), of_latent)  # (P, B, F)
        if self.grid is not None and share.cells is not None:
            features = self.grid(latent).view(latent.shape[0], -1, self.widths[2])  # (B, cells, G)
            cells = features.transpose(0, 1).flatten(1)  # (cells, B*G)
            # Bilinear interpolation as a matrix product: P x cells times cells x (B G).
            here = (share.cells @ cells).view(-1, latent.shape[0], self.widths[2])  # (P, B, G)
            hidden = hidden + F.linear(here, of_grid)
        hidden = self.activation(hidden)
        if share.left is not None:
            hidden = hidden * share.left
        pixels: Tensor = hidden.expand(-1, latent.shape[0], -1)
        return pixels

    def _attend(self, latent: Tensor) -> Tensor:
        # All keys are equal, so all weights are equal, with sum 1: the result is the value itself.
        # Query and key layers exist only because the documents have them; they have no effect.
        if self.cross_atn is None:
            return latent
        size = latent.shape[1]
        weight, bias = self.cross_atn.in_proj_weight, self.cross_atn.in_proj_bias
        # Rows 2D to 3D of torch's packed projection: query, key, value.
        value = F.linear(latent, weight[2 * size :], bias[2 * size :])
        answer: Tensor = self.cross_atn.out_proj(value)
        return answer

    def _initialise_sines(self, sine: Sine) -> None:
        weight = self.linear.weight.detach()
        of_latent, of_positions, of_grid = torch.split(weight, self.widths, dim=1)
        is_linear = isinstance(self.positions, LinearPositions)
        sine.initialise(of_positions, is_first=is_linear)
        for weight in (of_latent, of_grid):
            if weight.shape[1]:
                sine.initialise(weight)


def make_mixing(mixing: str | Sequence[str], *, with_attention: bool) -> tuple[str, ...]:
    """The names in `mixing`, checked.

    Raises:
        ConfigError: no name, an unknown one, or attention without `concat`, where it has no effect.
    """
    names = (mixing,) if isinstance(mixing, str) else tuple(mixing)
    for name in names:
        if name not in MIXINGS:
            raise ConfigError(
                f"unknown mixing {name!r}{did_you_mean(name, MIXINGS)}",
                hint=f"possible: {one_of(MIXINGS)}, or several of them",
            )
    if not names:
        raise ConfigError(
            "ImageManifoldDecoder: without mixing the latent has no effect",
            hint=f"possible: {one_of(MIXINGS)}",
        )
    if with_attention and "concat" not in names:
        raise ConfigError('ImageManifoldDecoder: cross_attention needs mixing="concat"')
    return names
