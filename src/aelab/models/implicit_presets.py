"""Implicit decoders of the literature and of our own: settings of `ImageManifoldDecoder`.

All take (shape, code_size) first, as the other decoders do, and can `render` any size.
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
    """Random Fourier features of the position instead of two frequencies along the axes.

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
    """Sines as activations, the weights drawn for them; no normalisation, no identity paths.

    Args:
        shape: (C, H, W) of the default grid.
        code_size: D.
        num_hidden: width of every layer.
        num_layers: hidden layers after the first.
        mixing: as in `ImageManifoldDecoder`; `film` gives the layers of pi-GAN (Chan et al. 2021,
            arXiv:2012.00926).
        anti_alias: weakens the first layer's sines by what a pixel's area leaves of them.
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
    """The latent scales and shifts every hidden layer, besides entering the first one.

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
    """Octaves of waves, each weakened by what the area of a rendered pixel leaves of it.

    Waves that the grid cannot show vanish from the code instead of appearing as others, and one
    decoder can be trained on several sizes, since it is told the size of its pixels. Trained on
    one size alone it has never seen the stronger waves of a finer grid.

    Args:
        shape: (C, H, W) of the default grid.
        code_size: D.
        num_octaves: waves of pi/2 * 2^k radians per unit for k below it: a quarter of a cycle to
            both sides of the centre, and its multiples. 6 octaves end at 50, a little beyond what
            32 pixels can show.
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
    """A small network per pixel on a coarse feature map made of the latent: for CPU budgets.

    What is global happens once an image, in one linear layer from the latent to the map; the
    network asked at each pixel only has to be local, and can be narrow.

    Args:
        shape: (C, H, W) of the default grid.
        code_size: D.
        num_hidden: width of every layer.
        num_layers: residual blocks of one layer each.
        grid_shape, grid_channels: of the feature map.
        pos_embedding_freqs, activation, activation_out, chunk: as in `ImageManifoldDecoder`; the
            backward pass of `gelu` alone would be a fifth of the time.

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
    """Normalised over the features of a pixel; `sizes` are width, blocks, layers of a block."""
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
