"""Document 002's autoencoder of ASCII art at each commit: network, initialisation, objective."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import nn

from aelab.ascii.models.characters import (
    NUM_CHARACTERS,
    CharacterAutoencoder,
    GumbelSoftmax,
    Softmax,
    checked_grid_shape,
)
from aelab.errors import ConfigError, did_you_mean, one_of
from aelab.models.bottlenecks import Gaussian
from aelab.models.reshaping import FlattenPixels, UnflattenPixels
from aelab.types import TermSpec

_Row = TypeVar("_Row")

_NAME = "ascii_autoencoder_2022"

#: Two unpadded convolutions of kernel 5 reduce a map by 8 cells. Below this size the document's
#: 8x8 map is only reached with padding.
_UNPADDED_FROM = 16


class Network(NamedTuple):
    """The settings in which the networks of the commits differ.

    Attributes:
        latent_dims: D, which at 64x64 is also the size of the smallest map.
        channels: channels of the encoder's five convolutions; the decoder reverses them.
        act_fn: activation after each convolution and linear layer.
        extra_linear: one more linear layer on both sides of the latent.
        flat_norm: BatchNorm on the flattened map.
        deep_head: two convolutions to the characters and LogSoftmax, instead of one without.
        simplex_variance: LogSoftmax on the logarithm of the variance, so that an image's variances
            sum to 1.
        weight_std: standard deviation of the initial values of all parameters, biases included.
    """

    latent_dims: int
    channels: tuple[int, ...]
    act_fn: type[nn.Module] = nn.ReLU
    extra_linear: bool = False
    flat_norm: bool = False
    deep_head: bool = False
    simplex_variance: bool = False
    weight_std: float = 0.1


class Wish(NamedTuple):
    """The settings in which the objectives of the commits differ.

    Attributes:
        characters: the loss on characters.
        picture: the loss on drawn pictures.
        options: options of `picture`.
        relaxation: `softmax`, `soft` (Gumbel, constant temperature) or `hard` (straight-through).
        floor: lower bound of a `hard` relaxation's temperature.
    """

    characters: str
    picture: str
    options: Mapping[str, Any]
    relaxation: str
    floor: float = 0.0


_NARROW, _WIDE = (64, 32, 16, 8, 4), (64, 48, 32, 16, 8)
_FIRST = Network(256, _NARROW, nn.LeakyReLU, flat_norm=True, weight_std=0.15)
_LINEAR = Network(512, _WIDE, extra_linear=True)
_DEEP = Network(512, _WIDE, deep_head=True)

#: The network of each commit. Not recorded: those of 4dfffc0 and 66ea1d6, which are those of the
#: previous commit, and the standard deviation of 469523a's initial weights.
NETWORKS: dict[str, Network] = {
    "cb2c7dd": _FIRST,
    "4dfffc0": _FIRST,
    "469523a": _FIRST._replace(act_fn=nn.ReLU),
    "9b3168b": _FIRST._replace(act_fn=nn.ReLU, weight_std=0.01),
    "20717f2": _LINEAR,
    "66ea1d6": _LINEAR,
    "2e13fa9": _DEEP,
    "f27fb91": _DEEP,
    "928930d": _DEEP._replace(simplex_variance=True),
}

_HARD = Wish("legacy_character_ce", "rendered_l2", {}, "hard", 0.5)

#: The objective of each commit of `NETWORKS`, and of commits whose network is not recorded.
WISHES: dict[str, Wish] = {
    "cb2c7dd": Wish("character_ce", "rendered_l1", {}, "softmax"),
    "4dfffc0": Wish("character_ce", "rendered_l1", {}, "soft"),
    "469523a": Wish("character_ce", "rendered_l2", {"reduction": "sum"}, "soft"),
    "9b3168b": Wish("character_ce", "rendered_l2", {"reduction": "sum"}, "soft"),
    "20717f2": Wish("character_ce", "rendered_l2", {}, "soft"),
    "66ea1d6": Wish("character_ce", "rendered_edges", {"size": 15, "sigma_pixels": 0.2}, "soft"),
    "76478ad": _HARD._replace(floor=0.25),
    "2e13fa9": _HARD,
    "f27fb91": _HARD._replace(characters="character_nll"),
    "928930d": _HARD,
}


def ascii_autoencoder_2022(
    commit: str = "2e13fa9",
    shape: Sequence[int] = (64, 64),
    *,
    objective: str | None = None,
    relaxation: nn.Module | None = None,
    gumbel_tau: float = 0.9,
    gumbel_tau_r: float = 7e-5,
    character_weight: float = 0.1,
    image_weight: float = 1.0,
    kl_weight: float = 1.0,
    character_options: Mapping[str, Any] | None = None,
    image_options: Mapping[str, Any] | None = None,
    legacy_init: bool = True,
) -> CharacterAutoencoder:
    """Document 002's variational autoencoder of ASCII art at a commit.

    Five convolutions of kernel 5, two with stride 2 and the last two unpadded, reduce 64x64
    characters to 8x8; a linear layer and bilinear upsampling lead back. BatchNorm follows every
    activation, so evaluation differs from training: the document's pictures became black in
    evaluation while the training loss looked normal.

    Args:
        commit: a commit of `NETWORKS`; may be longer.
        shape: (H, W) of the grid in characters; (1, H, W) is the same. The document's is 64x64.
            If a quarter of a side is below 16, the last two convolutions are padded, so that 32x32
            also has the document's 8x8 map, linear layers and numbers of parameters.
        objective: a commit of `WISHES` whose objective and relaxation to use; None: the same.
        relaxation: replaces that of the commit.
        gumbel_tau: the constant temperature, if the commit has one (`--gumbel-tau`).
        gumbel_tau_r: rate per epoch of a falling temperature (`--gumbel-tau-r`).
        character_weight, image_weight, kl_weight: weights of the terms; a term of weight 0 is left
            out (`--ce-recon-loss-scale`, `--image-recon-loss-coeff`, `--kl-coeff`).
        character_options: options of the loss on characters: `frequency_power`
            (`--char-weights-scaling`), `space_deemph`, `label_smoothing`.
        image_options: options of the loss on pictures: `font_res` and `font_zoom`, 16 and 20 as in
            the document.
        legacy_init: initialise all parameters, including biases and scales, with normal numbers of
            the commit's standard deviation; False uses torch's own initialisation.

    Raises:
        ConfigError: an unknown commit.
        ShapeError: the shape is no grid.

    Source: founding document 002 and the history of its program, 2022.
    """
    network = _of_commit(commit, NETWORKS, "commit")
    wish = _of_commit(objective or commit, WISHES, "objective")
    sides = checked_grid_shape(shape, _NAME)
    weights = (character_weight, image_weight, kl_weight)
    terms = _terms(wish, character_options or {}, image_options or {}, weights)
    relaxation = relaxation or _relaxation(wish, gumbel_tau, gumbel_tau_r)
    model = CharacterAutoencoder(*_parts(network, sides), relaxation=relaxation, terms=terms)
    model.note = (
        f"{_NAME} {commit[:7]}: the document drew its latents and characters in validation too; "
        "here validation is without noise"
    )
    if legacy_init:
        _draw_all(model, network.weight_std)
    return model


def _parts(
    network: Network, sides: tuple[int, int]
) -> tuple[nn.Sequential, Gaussian, nn.Sequential]:
    """Makes encoder, bottleneck and decoder."""
    sizes = _sizes(sides)
    flat = network.channels[-1] * math.prod(sizes[-1])
    bottleneck = Gaussian(flat, network.latent_dims, log_variance=True)
    if network.simplex_variance:
        bottleneck.linear_sigma = nn.Sequential(bottleneck.linear_sigma, nn.LogSoftmax(1))
    return _encoder(network, sides, flat), bottleneck, _decoder(network, sizes, flat)


def _encoder(network: Network, sides: tuple[int, int], flat: int) -> nn.Sequential:
    """(B, 95, H, W) -> features (B, flat)."""
    layers: list[nn.Module] = []
    before = NUM_CHARACTERS
    height, width = (0 if side >= _UNPADDED_FROM else 2 for side in _halved(sides)[-1])
    paddings = [(2, 2), (2, 2), (2, 2), (height, width), (height, width)]
    for after, stride, padding in zip(network.channels, (1, 2, 2, 1, 1), paddings, strict=True):
        convolution = nn.Conv2d(before, after, 5, stride, padding)
        layers += [convolution, network.act_fn(), nn.BatchNorm2d(after)]
        before = after
    layers.append(FlattenPixels())
    if network.flat_norm:
        layers.append(nn.BatchNorm1d(flat))
    if network.extra_linear:
        layers += [nn.Linear(flat, flat), network.act_fn(), nn.BatchNorm1d(flat)]
    return nn.Sequential(*layers)


def _decoder(network: Network, sizes: Sequence[tuple[int, int]], flat: int) -> nn.Sequential:
    """Latent (B, D) -> logits (B, 95, H, W), back through the encoder's `sizes`."""
    layers: list[nn.Module] = []
    before = network.latent_dims
    for _ in range(2 if network.extra_linear else 1):
        layers += [nn.Linear(before, flat), network.act_fn(), nn.BatchNorm1d(flat)]
        before = flat
    widths = network.channels[::-1]
    layers.append(UnflattenPixels((widths[0], *sizes[-1])))
    for width, after, size in zip(widths, widths[1:], sizes[-2::-1], strict=False):
        layers.append(nn.Upsample(size=size, mode="bilinear"))
        layers.append(nn.Conv2d(width, after, 5, padding=2))
        layers += [network.act_fn(), nn.BatchNorm2d(after)]
    layers.append(nn.Conv2d(widths[-1], NUM_CHARACTERS, 5, padding=2))
    if network.deep_head:
        layers += [network.act_fn(), nn.BatchNorm2d(NUM_CHARACTERS)]
        layers.append(nn.Conv2d(NUM_CHARACTERS, NUM_CHARACTERS, 5, padding=2))
        layers.append(nn.LogSoftmax(1))
    return nn.Sequential(*layers)


def _halved(sides: tuple[int, int]) -> list[tuple[int, int]]:
    """(H, W), and the size after one and two convolutions of stride 2."""
    first = ((sides[0] + 1) // 2, (sides[1] + 1) // 2)
    return [sides, first, ((first[0] + 1) // 2, (first[1] + 1) // 2)]


def _sizes(sides: tuple[int, int]) -> list[tuple[int, int]]:
    """(H, W), and the size after each of the four convolutions that may reduce the map."""
    sizes = _halved(sides)
    lost = [4 if side >= _UNPADDED_FROM else 0 for side in sizes[-1]]
    for _ in range(2):
        sizes.append((sizes[-1][0] - lost[0], sizes[-1][1] - lost[1]))
    return sizes


def _relaxation(wish: Wish, tau: float, rate: float) -> nn.Module:
    if wish.relaxation == "softmax":
        return Softmax()
    if wish.relaxation == "soft":
        return GumbelSoftmax(tau, hard=False)
    return GumbelSoftmax(1.0, rate_per_epoch=rate, floor=wish.floor)


def _terms(
    wish: Wish,
    character_options: Mapping[str, Any],
    image_options: Mapping[str, Any],
    weights: tuple[float, float, float],
) -> tuple[TermSpec, ...]:
    """The commit's objective without terms of weight 0; given options replace its own."""
    characters, image, kl = weights
    character_options = {"normalize": "batch", **character_options}
    image_options = {"font_res": 16, "font_zoom": 20, **wish.options, **image_options}
    terms = (
        TermSpec(wish.characters, wish.characters, float(characters), character_options),
        TermSpec(wish.picture, wish.picture, float(image), image_options),
        TermSpec("kl", "gaussian_kl", float(kl), {"reduction": "mean"}),
    )
    return tuple(term for term in terms if term.weight)


@torch.no_grad()
def _draw_all(model: nn.Module, std: float) -> None:
    """Initialises all parameters with normal numbers, including those of normalisations."""
    for parameter in model.parameters():
        if not parameter.is_meta:  # drawing on the meta device costs seconds of imports
            parameter.normal_(0.0, std)


def _of_commit(commit: str, table: Mapping[str, _Row], what: str) -> _Row:
    """The entry of a commit; the given hash may be longer than that in the table."""
    found = table.get(str(commit)[:7])
    if found is None:
        raise ConfigError(
            f"{_NAME}: unknown {what} {commit!r}{did_you_mean(str(commit)[:7], table)}",
            hint=f"possible: {one_of(table)}",
        )
    return found
