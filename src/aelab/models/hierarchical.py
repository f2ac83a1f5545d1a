"""Variational autoencoders with latents on several levels, each with a prior from those above.

The latent of the model is the concatenation of the levels, top first. It decodes like any other:
walks, sliders and interpolations work on all levels together.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.activations import Activation, make_activation
from aelab.models.reshaping import Reshape
from aelab.models.residual import (
    ResidualBlock,
    Upsample,
    halved_sizes,
    keep_variance,
    make_per_image_norm,
)
from aelab.models.shapes import image_shape
from aelab.posteriors import LevelsPosterior, Normal, gaussian_kl_between
from aelab.types import Output, TermSpec


class Normals(NamedTuple):
    """Independent normal distributions.

    Attributes:
        mean, log_std: (B, size of the level).
    """

    mean: Tensor
    log_std: Tensor


class Level(nn.Module, ABC):
    """One level: its prior, its posterior, and how its latent changes the top-down state.

    Attributes:
        size: numbers of its latent.
    """

    size: int

    @abstractmethod
    def prior(self, state: Tensor) -> Normals:
        """The prior, given the levels above."""

    @abstractmethod
    def posterior(self, state: Tensor, evidence: Tensor, prior: Normals) -> Normals:
        """The posterior, given the levels above and what the encoder saw, `evidence`."""

    @abstractmethod
    def absorb(self, state: Tensor, latent: Tensor) -> Tensor:
        """The state for the level below, or for the image."""


class LadderLevel(Level):
    """A level of a ladder VAE: the encoder's Gaussian and the prior, weighted by precision.

    Args:
        evidence_size: numbers of the encoder's features at this level.
        above: numbers of the level above; 0 for the top one, whose prior is the standard normal.
        size: numbers of the latent.
        hidden: width of the layer from the level above.

    Source: Soenderby et al. 2016, arXiv:1602.02282, equations 9 to 13.
    """

    def __init__(self, evidence_size: int, above: int, size: int, hidden: int) -> None:
        super().__init__()
        self.size = size
        self.seen = nn.Linear(evidence_size, 2 * size)
        self.expected = None
        if above:
            self.expected = nn.Sequential(
                nn.Linear(above, hidden), nn.ReLU(), nn.Linear(hidden, 2 * size)
            )
            _start_small(self.expected[-1])

    def prior(self, state: Tensor) -> Normals:
        """The prior, given the latent above (B, above)."""
        if self.expected is None:
            zeros = state.new_zeros(state.shape[0], self.size)
            return Normals(zeros, zeros)
        return Normals(*self.expected(state).chunk(2, 1))

    def posterior(self, state: Tensor, evidence: Tensor, prior: Normals) -> Normals:
        """Both Gaussians multiplied: precisions add, means are weighted by them."""
        mean, log_std = self.seen(evidence).chunk(2, 1)
        together = torch.logaddexp(-2 * log_std, -2 * prior.log_std)  # ln of the precision
        weight = torch.exp(-2 * log_std - together)  # of the encoder, 0..1
        return Normals(prior.mean + weight * (mean - prior.mean), -0.5 * together)

    def absorb(self, state: Tensor, latent: Tensor) -> Tensor:
        """The latent itself: the level below sees nothing else."""
        return latent


class ResidualLevel(Level):
    """A residual cell on feature maps; the posterior is given relative to the prior.

    At the start both are equal, so the divergence is 0, and the latent does not change the state.

    Args:
        channels: of the state and of the encoder's map.
        latent_channels: of the latent map.
        place: (h, w) of the maps.
        after: size to which the state is enlarged afterwards; None: none.

    Source: Vahdat & Kautz 2020, arXiv:2007.03898, equation 2 (NVAE); the order of the parts:
        Child 2020, arXiv:2011.10650, figure 3 (VDVAE).
    """

    def __init__(
        self,
        channels: int,
        latent_channels: int,
        place: tuple[int, int],
        after: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.size = latent_channels * place[0] * place[1]
        self._shape = (latent_channels, *place)
        self.before = ResidualBlock(channels)
        self.expected = nn.Conv2d(channels, 2 * latent_channels, 1)
        self.seen = nn.Sequential(
            nn.Conv2d(2 * channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(channels, 2 * latent_channels, 1),
        )
        self.added = nn.Conv2d(latent_channels, channels, 1)
        self.behind = ResidualBlock(channels)
        self.enlarged = nn.Identity() if after is None else Upsample(channels, channels, after)
        keep_variance(self)
        _start_small(self.expected)
        _start_small(self.seen[-1])

    def prior(self, state: Tensor) -> Normals:
        """The prior, given the state (B, channels, h, w)."""
        return _two_halves(self.expected(self.before(state)))

    def posterior(self, state: Tensor, evidence: Tensor, prior: Normals) -> Normals:
        """The prior, shifted by a share of its deviation and scaled."""
        shift, log_scale = _two_halves(self.seen(torch.cat([state, evidence], 1)))
        # Bounded, so that a rare image cannot make a divergence of thousands of nats.
        log_scale = 3 * torch.tanh(log_scale / 3)
        return Normals(prior.mean + shift * prior.log_std.exp(), prior.log_std + log_scale)

    def absorb(self, state: Tensor, latent: Tensor) -> Tensor:
        """The state plus the latent, after a residual block, perhaps enlarged."""
        state = self.behind(state + self.added(latent.view(-1, *self._shape)))
        enlarged: Tensor = self.enlarged(state)
        return enlarged


class TopDown(nn.Module):
    """The levels from the top to the image: the decoder, which the encoder's side uses too.

    Args:
        start: the state before the top level, without the batch axis; a parameter is learned.
        levels: top first.
        picture: the last state -> images (B, C, H, W).
    """

    def __init__(self, start: Tensor, levels: Sequence[Level], picture: nn.Module) -> None:
        super().__init__()
        self.start: Tensor
        if isinstance(start, nn.Parameter):
            self.start = start
        else:
            self.register_buffer("start", start, persistent=False)
        self.levels = nn.ModuleList(levels)
        self.picture = picture

    @property
    def sizes(self) -> list[int]:
        """Numbers of each level's latent, top first."""
        return [level.size for level in self.levels]  # type: ignore[misc]

    def run(self, count: int, choose: Callable[[int, Level, Tensor, Normals], Tensor]) -> Tensor:
        """Goes through all levels; returns the last state.

        Args:
            count: B.
            choose: (number of the level from 0, level, state, prior) -> its latent.
        """
        state = self.start.expand(count, *self.start.shape)
        for number, level in enumerate(self.levels):
            assert isinstance(level, Level)
            latent = choose(number, level, state, level.prior(state))
            state = level.absorb(state, latent)
        return state

    def forward(self, latent: Tensor) -> Tensor:
        """Latents of all levels (B, D) -> images (B, C, H, W)."""
        parts = torch.split(latent, self.sizes, 1)
        images: Tensor = self.picture(self.run(latent.shape[0], lambda number, *_: parts[number]))
        return images


class BottomUp(nn.Module):
    """What the encoder sees at each level, top first.

    Args:
        stages: applied one after the other to the images.
        seen_by: for each level, top first, the number of the stage whose output it sees.
    """

    def __init__(self, stages: Sequence[nn.Module], seen_by: Sequence[int]) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self._seen_by = tuple(seen_by)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images (B, C, H, W) -> the features for each level."""
        found, features = [], images
        for stage in self.stages:
            features = stage(features)
            found.append(features)
        return [found[number] for number in self._seen_by]


class HierarchicalAutoencoder(nn.Module):
    """A variational autoencoder with latents on L levels; `ladder_vae` and `top_down_vae` build it.

    The term `level_kl` adds the divergences of the levels; validations report each as
    `kl_level_1`, the top one, to `kl_level_L`.

    Args:
        encoder: images -> features for each level.
        decoder: the levels, and the image.
        terms: default loss terms.

    Attributes:
        noise_shape: (D,), the numbers of all levels.
        level_sizes: numbers of each level, top first.
    """

    def __init__(self, encoder: BottomUp, decoder: TopDown, terms: Sequence[TermSpec] = ()) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.terms = tuple(terms)
        self.level_sizes = tuple(decoder.sizes)
        self.noise_shape: tuple[int, ...] | None = (sum(self.level_sizes),)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W), noise (B, D) or None for the means -> `Output`."""
        state, posterior = self._inferred(images, noise)
        return Output(self.decoder.picture(state), posterior.latent, posterior)

    def _inferred(self, images: Tensor, noise: Tensor | None) -> tuple[Tensor, LevelsPosterior]:
        """The state after all levels, and the posterior."""
        evidence = self.encoder(images)
        drawn = None if noise is None else torch.split(noise, list(self.level_sizes), 1)
        found: list[tuple[Tensor, ...]] = []

        def choose(number: int, level: Level, state: Tensor, prior: Normals) -> Tensor:
            """The latent of the posterior."""
            own = level.posterior(state, evidence[number], prior)
            latent = own.mean
            if drawn is not None:
                latent = latent + own.log_std.exp() * drawn[number]
            nats = gaussian_kl_between(*own, *prior).sum(1)
            found.append((*own, *prior, latent, nats[:, None]))
            return latent

        state = self.decoder.run(images.shape[0], choose)
        columns = zip(*found, strict=True)
        return state, LevelsPosterior(*(torch.cat(column, 1) for column in columns))

    def encode(self, images: Tensor) -> Tensor:
        """Mean codes of all levels, (B, D); each level's mean is given those above."""
        return self._inferred(images, None)[1].latent

    def decode(self, latent: Tensor) -> Tensor:
        """Images (B, C, H, W) of latents (B, D)."""
        images: Tensor = self.decoder(latent)
        return images

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """Samples (count, D) of the prior, level by level."""
        found: list[Tensor] = []

        def choose(number: int, level: Level, state: Tensor, prior: Normals) -> Tensor:
            """A latent of the prior."""
            noise = normal((count, level.size)).to(prior.mean)
            found.append(prior.mean + prior.log_std.exp() * noise)
            return found[-1]

        with torch.no_grad():
            self.decoder.run(count, choose)
        return torch.cat(found, 1)


def ladder_vae(
    shape: Sequence[int],
    latent_dims: Sequence[int] = (4, 8, 16),
    hidden: Sequence[int] = (64, 128, 256),
    reconstruction_loss: str = "bce",
    kl_loss_weight: float = 1.0,
    free_bits_nats: float = 0.0,
    activation_last_layer: Activation = "sigmoid",
) -> HierarchicalAutoencoder:
    """A ladder VAE of linear layers: each level's posterior joins the encoder's view and the prior.

    Args:
        shape: (C, H, W) of the images.
        latent_dims: of each level, top first.
        hidden: widths at each level, top first; the encoder goes through them in reverse.
        reconstruction_loss: its value is a sum over pixels, so that with `bce` the total is a
            bound.
        kl_loss_weight: weight of the term `level_kl`.
        free_bits_nats: nats of each level that cost nothing more, see the term `level_kl`.
        activation_last_layer: of the image.

    Raises:
        ConfigError: no level, or not one width for each.

    Source: Soenderby et al. 2016, arXiv:1602.02282.
    """
    channels, height, width = image_shape(shape, "ladder_vae")
    latent_dims, hidden = _one_each("ladder_vae", latent_dims, hidden, "hidden")
    stages: list[nn.Module] = []
    before = channels * height * width
    for size in reversed(hidden):
        layers = [nn.Linear(before, size), nn.ReLU(), nn.Linear(size, size), nn.ReLU()]
        stages.append(nn.Sequential(*([] if stages else [nn.Flatten()]), *layers))
        before = size
    above = [0, *latent_dims[:-1]]
    levels = [LadderLevel(*each) for each in zip(hidden, above, latent_dims, hidden, strict=True)]
    picture = nn.Sequential(
        nn.Linear(latent_dims[-1], hidden[-1]),
        nn.ReLU(),
        nn.Linear(hidden[-1], hidden[-1]),
        nn.ReLU(),
        nn.Linear(hidden[-1], channels * height * width),
        Reshape((channels, height, width)),
        make_activation(activation_last_layer) or nn.Identity(),
    )
    # The top level's prior has no input: a state of one constant carries the batch axis only.
    return HierarchicalAutoencoder(
        BottomUp(stages, range(len(hidden) - 1, -1, -1)),
        TopDown(torch.zeros(1), levels, picture),
        _terms(reconstruction_loss, kl_loss_weight, free_bits_nats),
    )


def top_down_vae(
    shape: Sequence[int],
    cells: Sequence[int] = (2, 2),
    channels: int = 32,
    latent_channels: int = 2,
    reconstruction_loss: str = "bce",
    kl_loss_weight: float = 1.0,
    free_bits_nats: float = 0.0,
    activation_last_layer: Activation = "sigmoid",
) -> HierarchicalAutoencoder:
    """A small very deep VAE: residual cells from coarse to fine maps, each with latents.

    Args:
        shape: (C, H, W) of the images.
        cells: levels on each map, coarsest first; the finest map is half as large as the image,
            and each further one half of that.
        channels: of all maps.
        latent_channels: of the latent maps.
        reconstruction_loss, kl_loss_weight, free_bits_nats, activation_last_layer: as for
            `ladder_vae`.

    Raises:
        ConfigError: no cell on a map.

    Source: Child 2020, arXiv:2011.10650 (VDVAE); Vahdat & Kautz 2020, arXiv:2007.03898 (NVAE).
    """
    colours, height, width = image_shape(shape, "top_down_vae")
    counts = [int(count) for count in cells]
    if not counts or min(counts) < 1:
        raise ConfigError(f"top_down_vae: cells is {tuple(cells)}; every map needs one at least")
    places = halved_sizes((height, width), len(counts))  # finest first, the image's own before
    stages: list[nn.Module] = []
    for number in range(len(counts)):
        entering = nn.Conv2d(channels if number else colours, channels, 3, 2, 1)
        stages.append(nn.Sequential(entering, ResidualBlock(channels), ResidualBlock(channels)))
    levels, seen_by = [], []
    for number, count in enumerate(counts):
        place = places[len(counts) - number]
        for cell in range(count):
            after = places[len(counts) - number - 1] if cell == count - 1 else None
            levels.append(ResidualLevel(channels, latent_channels, place, after))
            seen_by.append(len(counts) - number - 1)
    picture = nn.Sequential(
        ResidualBlock(channels),
        make_per_image_norm("rms", channels),
        nn.ReLU(),
        nn.Conv2d(channels, colours, 3, padding=1),
        make_activation(activation_last_layer) or nn.Identity(),
    )
    encoder = BottomUp(stages, seen_by)
    keep_variance(encoder)
    return HierarchicalAutoencoder(
        encoder,
        TopDown(nn.Parameter(torch.zeros(channels, *places[-1])), levels, picture),
        _terms(reconstruction_loss, kl_loss_weight, free_bits_nats),
    )


def _terms(reconstruction: str, kl_weight: float, free_bits_nats: float) -> tuple[TermSpec, ...]:
    free = {"free_bits_nats": float(free_bits_nats)} if free_bits_nats else {}
    return (
        TermSpec(reconstruction, reconstruction, 1.0, {"reduction": "sum"}),
        TermSpec("level_kl", "level_kl", float(kl_weight), free),
    )


def _one_each(
    owner: str, latent_dims: Sequence[int], widths: Sequence[int], name: str
) -> tuple[list[int], list[int]]:
    if not latent_dims or len(latent_dims) != len(widths):
        raise ConfigError(
            f"{owner}: latent_dims has {len(latent_dims)} levels, {name} {len(widths)}",
            hint="give one number for each level, top first",
        )
    return [int(size) for size in latent_dims], [int(size) for size in widths]


def _two_halves(maps: Tensor) -> Normals:
    """(B, 2 c, h, w) -> mean and log_std, (B, c h w) each."""
    mean, log_std = maps.chunk(2, 1)
    return Normals(mean.flatten(1), log_std.flatten(1))


def _start_small(layer: nn.Module) -> None:
    """Weights near 0: mean 0 and standard deviation 1 at the start."""
    assert isinstance(layer, nn.Linear | nn.Conv2d) and layer.bias is not None
    nn.init.normal_(layer.weight, std=1e-3)
    nn.init.zeros_(layer.bias)
