"""Implicit decoders from papers and our own: presets of `ImageManifoldDecoder`.

All take (shape, code_size) first, like the other decoders, and can `render` any size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from aelab.models.activations import Activation
from aelab.models.coordinates import (
    AntiAlias,
    FourierPositions,
    LinearPositions,
    PositionCode,
    SinePositions,
)
from aelab.models.implicit import ImageManifoldDecoder
from aelab.models.shapes import image_shape


def fourier_decoder(
    shape: Sequence[int],
    code_size: int,
    num_hidden: int = 128,
    num_blocks: int = 4,
    num_layers_per_block: int = 2,
    num_frequencies: int = 64,
    scale: float = 4.0,
    anti_alias: AntiAlias = None,
    seed: int = 0,
    activation_out: Activation = "sigmoid",
    chunk: int | None = None,
) -> ImageManifoldDecoder:
    """An implicit decoder with random Fourier features as position code.

    Args:
        shape: (C, H, W) of the default grid.
        code_size: D.
        num_hidden, num_blocks, num_layers_per_block, activation_out, chunk: as in
            `ImageManifoldDecoder`; the normalisation is over the features of a pixel.
        num_frequencies, scale, anti_alias, seed: of `FourierPositions`.

    Source: Tancik et al. 2020, arXiv:2006.10739.
    """
    return _layer_normalized(
        "fourier_decoder",
        shape,
        code_size,
        (num_hidden, num_blocks, num_layers_per_block),
        FourierPositions(num_frequencies, scale, seed, anti_alias),
        activation_out,
        chunk,
    )


def siren_decoder(
    shape: Sequence[int],
    code_size: int,
    num_hidden: int = 128,
    num_layers: int = 4,
    mixing: str | Sequence[str] = "concat",
    anti_alias: AntiAlias = None,
    activation_out: Activation = "sigmoid",
    chunk: int | None = None,
) -> ImageManifoldDecoder:
    """An implicit decoder with sine activations (SIREN); no normalisation, no identity paths.

    Args:
        shape: (C, H, W) of the default grid.
        code_size: D.
        num_hidden: width of every layer.
        num_layers: hidden layers after the first.
        mixing: as in `ImageManifoldDecoder`; `film` gives the layers of pi-GAN (Chan et al. 2021,
            arXiv:2012.00926).
        anti_alias: weakens the sines of the first layer as averaging over a pixel would.
        activation_out, chunk: as in `ImageManifoldDecoder`.

    Source: Sitzmann et al. 2020, arXiv:2006.09661.
    """
    channels, height, width = image_shape(shape, "siren_decoder")
    return ImageManifoldDecoder(
        code_size,
        channels,
        num_hidden,
        1,
        num_layers,
        batch_norm=False,
        default_shape=(height, width),
        activation="siren",
        activation_out=activation_out,
        pos_embedding=LinearPositions(anti_alias),
        mixing=mixing,
        residual=False,
        chunk=chunk,
    )


def film_decoder(
    shape: Sequence[int],
    code_size: int,
    num_hidden: int = 128,
    num_blocks: int = 4,
    num_layers_per_block: int = 2,
    pos_embedding_freqs: Sequence[float] = (3, 7, 17, 31),
    anti_alias: AntiAlias = None,
    activation_out: Activation = "sigmoid",
    chunk: int | None = None,
) -> ImageManifoldDecoder:
    """An implicit decoder in which the latent also scales and shifts every hidden layer (FiLM).

    Args:
        shape: (C, H, W) of the default grid.
        code_size: D.
        num_hidden, num_blocks, num_layers_per_block, pos_embedding_freqs, anti_alias,
            activation_out, chunk: as in `ImageManifoldDecoder`; the normalisation is over the
            features of a pixel.

    Source: Perez et al. 2018, arXiv:1709.07871.
    """
    return _layer_normalized(
        "film_decoder",
        shape,
        code_size,
        (num_hidden, num_blocks, num_layers_per_block),
        SinePositions(tuple(pos_embedding_freqs), anti_alias=anti_alias),
        activation_out,
        chunk,
        mixing=("concat", "film"),
    )


def anti_aliased_decoder(
    shape: Sequence[int],
    code_size: int,
    num_hidden: int = 128,
    num_blocks: int = 4,
    num_layers_per_block: int = 2,
    num_octaves: int = 6,
    anti_alias: AntiAlias = "gaussian",
    activation_out: Activation = "sigmoid",
    chunk: int | None = None,
) -> ImageManifoldDecoder:
    """An implicit decoder with an anti-aliased position code in octaves.

    Each wave is weakened as averaging over a rendered pixel would, so waves beyond the grid's
    resolution vanish instead of causing aliasing. The code depends on the pixel size, so one
    decoder can be trained on several sizes. Trained on only one size, it has not learned the
    stronger waves of a finer grid.

    Args:
        shape: (C, H, W) of the default grid.
        code_size: D.
        num_octaves: number of waves, with pi/2 * 2^k radians per unit for k = 0, 1, ... The first
            has a quarter of a cycle on each side of the centre. 6 octaves end at 50 radians per
            unit, slightly above the highest that 32 pixels can show.
        num_hidden, num_blocks, num_layers_per_block, anti_alias, activation_out, chunk: as in
            `ImageManifoldDecoder`; the normalisation is over the features of a pixel.

    Source: Barron et al. 2021, arXiv:2103.13415, section 3.1 (integrated positional encoding).
    """
    octaves = [math.pi / 2 * 2**k for k in range(num_octaves)]
    return _layer_normalized(
        "anti_aliased_decoder",
        shape,
        code_size,
        (num_hidden, num_blocks, num_layers_per_block),
        SinePositions(octaves, anti_alias=anti_alias),
        activation_out,
        chunk,
    )


def fast_implicit_decoder(
    shape: Sequence[int],
    code_size: int,
    num_hidden: int = 48,
    num_layers: int = 2,
    grid_shape: Sequence[int] = (8, 8),
    grid_channels: int = 16,
    pos_embedding_freqs: Sequence[float] = (7, 17, 31),
    activation: Activation = "relu",
    activation_out: Activation = "sigmoid",
    chunk: int | None = None,
) -> ImageManifoldDecoder:
    """A fast implicit decoder for CPUs: a small network on an interpolated feature map.

    Global structure is computed once per image, by one linear layer from the latent to a coarse
    feature map. The network for each pixel only adds local detail and can be narrow.

    Args:
        shape: (C, H, W) of the default grid.
        code_size: D.
        num_hidden: width of every layer.
        num_layers: number of residual blocks, with one layer each.
        grid_shape, grid_channels: of the feature map.
        pos_embedding_freqs, activation, activation_out, chunk: as in `ImageManifoldDecoder`; the
            backward pass of `gelu` alone would take a fifth of the time.

    Source: ours; the feature map read at the position is Chen et al. 2021, arXiv:2012.09161.
    """
    channels, height, width = image_shape(shape, "fast_implicit_decoder")
    return ImageManifoldDecoder(
        code_size,
        channels,
        num_hidden,
        num_layers,
        1,
        pos_embedding_freqs=pos_embedding_freqs,
        batch_norm=False,
        default_shape=(height, width),
        activation=activation,
        activation_out=activation_out,
        mixing="grid",
        grid_shape=grid_shape,
        grid_channels=grid_channels,
        chunk=chunk,
    )


def _layer_normalized(
    owner: str,
    shape: Sequence[int],
    code_size: int,
    sizes: tuple[int, int, int],
    positions: PositionCode,
    activation_out: Activation,
    chunk: int | None,
    mixing: str | Sequence[str] = "concat",
) -> ImageManifoldDecoder:
    """A decoder with normalisation per pixel; `sizes`: width, blocks, layers per block."""
    channels, height, width = image_shape(shape, owner)
    return ImageManifoldDecoder(
        code_size,
        channels,
        *sizes,
        default_shape=(height, width),
        activation_out=activation_out,
        pos_embedding=positions,
        mixing=mixing,
        normalization="layer",
        chunk=chunk,
    )
