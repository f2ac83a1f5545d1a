"""An autoencoder of ASCII art for small machines: embedded characters and residual blocks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn

from aelab.ascii.models.characters import (
    NUM_CHARACTERS,
    CharacterAutoencoder,
    CharacterEmbedding,
    checked_grid_shape,
)
from aelab.errors import ConfigError
from aelab.models.activations import Activation
from aelab.models.bottlenecks import Gaussian, GaussianMap, Identity
from aelab.models.reshaping import FlattenPixels, UnflattenPixels
from aelab.models.residual import (
    DecoderResidual,
    EncoderResidual,
    ResidualBlock,
    check_stages,
    doubling_stages,
    halved_sizes,
    halving_stages,
    keep_variance,
    make_per_image_norm,
)
from aelab.types import TermSpec

_NAME = "small_ascii_ae"

#: Factor of the initial weights of the logits against those that keep the variance: small, so that
#: the first output is nearly the character frequencies alone.
_LOGITS_START = 0.1


class _Sizes(NamedTuple):
    """Checked arguments of `small_ascii_ae`, shared by encoder and decoder."""

    shape: tuple[int, int]
    stages: list[tuple[int, int]]
    text_width: int
    text_blocks: int
    kernel_size: int
    norm: str | None
    act_fn: Activation

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """(H, W) of the grid and after each halving."""
        return halved_sizes(self.shape, len(self.stages))

    @property
    def top(self) -> tuple[int, int, int]:
        """(C, h, w) of the smallest feature map."""
        return (self.stages[-1][0], *self.sizes[-1])


def small_ascii_ae(
    shape: Sequence[int] = (24, 24),
    latent_channels: int = 8,
    latent_dims: int | None = None,
    embedding: int = 24,
    channels: Sequence[int] = (48, 96),
    blocks: int | Sequence[int] = 1,
    text_blocks: int = 1,
    hidden: Sequence[int] = (256,),
    beta: float | None = None,
    relaxation: nn.Module | None = None,
    terms: Sequence[TermSpec] | None = None,
    space_share: float = 0.75,
    kernel_size: int = 3,
    norm: str | None = "rms",
    act_fn: Activation = "relu",
) -> CharacterAutoencoder:
    """An autoencoder of ASCII art for grids of any size, much cheaper than the document's.

    Characters are embedded instead of one-hot in 95 channels, convolutions of stride 2 with
    residual blocks lead to the latent and back, and a 1x1 convolution gives the logits. All
    normalisation is within one picture, without running statistics, so evaluation computes the
    same as training (the document's network became black only in evaluation).

    The bias of the logits is initialised with the frequencies of ASCII art: `space_share` for the
    space, the rest uniform. With equal logits, training would first only learn that everything is a
    space, with hardly any gradient for the features because each cell's error is the same, and
    could stay there. With the frequencies it starts where that plateau ends.

    Args:
        shape: (H, W) of the grid in characters, of any size; (1, H, W) is the same.
        latent_channels: channels of the smallest map, which, flattened, is the latent: by default
            8 for each 4x4 characters; with three stages, as in the document, for each 8x8.
        latent_dims: instead, D numbers after linear layers, for a latent without places.
        embedding: features of a character, and of the map before the logits.
        channels: channels of each stage, from the grid on; every stage halves height and width.
        blocks: residual blocks in each stage: one integer, or one for each stage.
        text_blocks: residual blocks at the full size of the grid, before the logits.
        hidden: widths of the linear layers beside the latent; with `latent_dims` only.
        beta: a Gaussian latent with the term `kl`, in nats per image, of weight beta / (H * W):
            with `character_ce`, a mean over cells, 1 is the evidence bound per cell. None: no
            noise.
        relaxation: `Softmax` by default, or `GumbelSoftmax(...)`; used only by losses that draw
            the characters.
        terms: None is `character_ce`.
        space_share: initial probability of the space, above 0 and below 1.
        kernel_size, norm, act_fn: as in `EncoderResidual`.

    Raises:
        ConfigError, ShapeError: an argument out of range.
    """
    sides = checked_grid_shape(shape, _NAME)
    _check(space_share, embedding, latent_channels, text_blocks)
    stages = check_stages(channels, blocks, kernel_size, _NAME)
    parts = _Sizes(sides, stages, embedding, text_blocks, kernel_size, norm, act_fn)
    latent = (latent_channels, latent_dims, hidden)
    halves = _halves(parts, *latent, variational=beta is not None)
    _guess_frequencies(halves[2][-1], space_share)
    reading, terms = CharacterEmbedding(embedding), _terms(terms, beta, math.prod(sides))
    return CharacterAutoencoder(*halves, reading, relaxation, terms)


def _check(space_share: float, embedding: int, latent_channels: int, text_blocks: int) -> None:
    if not 0 < space_share < 1 or embedding < 1 or latent_channels < 1 or text_blocks < 0:
        raise ConfigError(
            f"{_NAME}: space_share={space_share}, embedding={embedding}, "
            f"latent_channels={latent_channels}, text_blocks={text_blocks}; space_share must be "
            "above 0 and below 1, the others positive"
        )


def _terms(
    terms: Sequence[TermSpec] | None, beta: float | None, cells: int
) -> tuple[TermSpec, ...]:
    if terms is None:
        terms = (TermSpec("character_ce", "character_ce"),)
    if beta is None:
        return tuple(terms)
    return (*terms, TermSpec("kl", "gaussian_kl", beta / cells))


def _halves(
    parts: _Sizes,
    latent_channels: int,
    latent_dims: int | None,
    hidden: Sequence[int],
    *,
    variational: bool,
) -> tuple[nn.Module, nn.Module, nn.Sequential]:
    """Makes encoder, bottleneck and decoder around the chosen latent."""
    if latent_dims is None:
        return _map_halves(parts, latent_channels, variational)
    return _vector_halves(parts, latent_dims, hidden, variational)


def _map_halves(
    parts: _Sizes, latent_channels: int, variational: bool
) -> tuple[nn.Module, nn.Module, nn.Sequential]:
    """Makes encoder, bottleneck and decoder around a latent that is the smallest map."""
    options = (parts.kernel_size, parts.norm, parts.act_fn)
    width = parts.top[0]
    encoder = halving_stages(parts.text_width, parts.stages, *options)
    encoder.append(make_per_image_norm(parts.norm, width))
    latent_shape = (latent_channels, *parts.top[1:])
    bottleneck: nn.Module = Identity()
    if variational:
        bottleneck = GaussianMap(parts.top, latent_channels)
    else:
        encoder.append(nn.Conv2d(width, latent_channels, 1)).append(FlattenPixels())
    decoder = nn.Sequential(
        UnflattenPixels(latent_shape),
        nn.Conv2d(latent_channels, width, 1),
        doubling_stages(parts.stages[::-1], parts.text_width, parts.sizes[-2::-1], *options),
        *_text_layers(parts),
    )
    keep_variance(encoder)
    keep_variance(decoder)
    return encoder, bottleneck, decoder


def _vector_halves(
    parts: _Sizes, latent_dims: int, hidden: Sequence[int], variational: bool
) -> tuple[nn.Module, nn.Module, nn.Sequential]:
    """Makes encoder, bottleneck and decoder around a latent vector."""
    shape = (parts.text_width, *parts.shape)
    widths = [width for width, _ in parts.stages]
    counts = [count for _, count in parts.stages]
    options = (parts.kernel_size, parts.norm, parts.act_fn)
    encoder = EncoderResidual(shape, latent_dims, widths, counts, hidden, *options)
    bottleneck = Gaussian(latent_dims, latent_dims) if variational else Identity()
    back = DecoderResidual(shape, latent_dims, widths[::-1], counts[::-1], hidden[::-1], *options)
    text = nn.Sequential(*_text_layers(parts))
    keep_variance(text)
    return encoder, bottleneck, nn.Sequential(back, *text)


def _text_layers(parts: _Sizes) -> list[nn.Module]:
    """The layers from the map at the full size of the grid to the logits."""
    width = parts.text_width
    options = (parts.kernel_size, parts.norm, parts.act_fn)
    blocks: list[nn.Module] = [ResidualBlock(width, *options) for _ in range(parts.text_blocks)]
    norm = make_per_image_norm(parts.norm, width)
    return [*blocks, norm, nn.Conv2d(width, NUM_CHARACTERS, 1)]


@torch.no_grad()
def _guess_frequencies(last: nn.Module, space_share: float) -> None:
    """Initialises the logits near the logarithm of the characters' frequencies."""
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    last.weight.mul_(_LOGITS_START)
    last.bias.fill_(math.log((1 - space_share) / (NUM_CHARACTERS - 1)))
    last.bias[0] = math.log(space_share)
