"""The importance-weighted autoencoder (IWAE), trained on a tighter bound than a VAE."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.models.autoencoders import Autoencoder
from aelab.models.bottlenecks import Gaussian, VariationalEncoder
from aelab.posteriors import (
    GaussianPosterior,
    HasDensity,
    HasSampledDivergence,
    ImportancePosterior,
    Posterior,
    changed,
)
from aelab.types import Output, TermSpec


class ImportanceWeightedAutoencoder(Autoencoder):
    """A variational autoencoder with several weighted latents per image (IWAE); for binary images.

    The objective is the term `iwae_bound`: the negative logarithm of the mean importance weight, in
    nats per image. In expectation it is at least the negative log-likelihood; with one sample it is
    the ordinary evidence bound. Validation also draws K latents per image, from keyed noise.

    Args:
        encoder: a `VariationalEncoder`; with `bottleneck` any encoder.
        decoder: maps latents to probabilities in 0..1: use `activation_last_layer="sigmoid"`.
        samples: K, latents per image; the decoder runs K times per image and group.
        groups: M; the bound is the mean of M bounds with K latents each, which gives the encoder
            a less noisy gradient (MIWAE).
        bottleneck: another posterior than that of the encoder, with noise and `sampled_kl`:
            `FullGaussian`, `StudentT`, `MixturePrior`, `FlowGaussian`, ...
        gradient: `plain`, that of the bound; `doubly`: the encoder gets the doubly reparameterised
            gradient (DReG), of the same mean and a smaller variance. It costs a further pass back
            through the decoder, and the posterior's density must be known at every latent.

    Attributes:
        noise_shape: (M * K, D), or the bottleneck's own shape in place of D.

    Raises:
        ConfigError: no Gaussian bottleneck and no other given, another gradient, or fewer than one
            sample.

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8; groups: Rainforth et al. 2018,
        arXiv:1802.04537, equation 15; `doubly`: Tucker et al. 2019, arXiv:1810.04152, section 5.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        samples: int = 50,
        groups: int = 1,
        bottleneck: nn.Module | None = None,
        gradient: Literal["plain", "doubly"] = "plain",
    ) -> None:
        encoder, bottleneck = _halves(encoder, bottleneck)
        noise_shape: tuple[int, ...] | None = getattr(bottleneck, "noise_shape", None)
        if noise_shape is None:
            raise ConfigError(
                f"ImportanceWeightedAutoencoder: {type(bottleneck).__name__} draws no latents",
                hint="use a bottleneck with a posterior, such as FullGaussian",
            )
        for name, count in (("samples", samples), ("groups", groups)):
            if count < 1:
                raise ConfigError(
                    f"ImportanceWeightedAutoencoder: {name} = {count}; possible: 1, 2.."
                )
        if gradient not in ("plain", "doubly"):
            raise ConfigError(
                f"ImportanceWeightedAutoencoder: gradient = {gradient!r}; possible: plain, doubly"
            )
        super().__init__(encoder, bottleneck, decoder)
        # The bound contains the divergence: a term `sampled_kl` of the bottleneck has no place.
        self.terms = (TermSpec("iwae_bound", "iwae_bound"),)
        self.samples, self.groups, self.gradient = int(samples), int(groups), gradient
        self.noise_shape = (self.groups * self.samples, *noise_shape)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        """Images (B, C, H, W) in 0..1, and noise (B, M * K, ...) or None -> `Output`.

        The reconstruction and the posterior are those of the first latent. The importance weights
        ln p(image, latent) - ln q(latent | image), nats, are (B, K), or in groups (B, M, K): in the
        posterior as `log_weight`, or in `details`. Without noise there are no weights, because the
        value at the mean code is not a bound.
        """
        features = self.encoder(images)
        if noise is None:
            latent, posterior = self.bottleneck(features, None)
            return Output(self.decoder(latent), latent, posterior)
        if self.gradient == "plain" and isinstance(self.bottleneck, Gaussian):
            return self._gaussian(images, features, noise)
        count = noise.shape[1]
        target = images.repeat_interleave(count, 0)
        latent, posterior = self.bottleneck(
            features.repeat_interleave(count, 0), noise.flatten(0, 1)
        )
        doubly = self.gradient == "doubly" and latent.requires_grad
        # The weights' own gradient stops at the latent: the encoder gets another one below.
        start = latent.detach().requires_grad_() if doubly else latent
        decoded = self.decoder(start)  # (B * K, C, H, W)
        ratio = _log_ratio(posterior, start, doubly)
        weight = (log_bernoulli(decoded, target) + ratio).view(len(images), self.groups, -1)
        if doubly:
            share = weight.detach().softmax(2)
            (through,) = torch.autograd.grad((share * weight).sum(), start, retain_graph=True)
            # The bound's gradient multiplies this by `share` again: squared, as in the paper.
            linear = (through * latent).flatten(1).sum(1)
            weight = weight + (linear - linear.detach()).view_as(weight)
        weight = weight[:, 0] if self.groups == 1 else weight
        first = changed(posterior, lambda tensor: tensor[::count])
        return Output(decoded[::count], latent[::count], first, {"log_weight": weight})

    def _gaussian(self, images: Tensor, features: Tensor, noise: Tensor) -> Output:
        """The output for a `Gaussian`, whose layers are computed once for all its latents."""
        mean, posterior = self.bottleneck(features, None)
        log_std = posterior.log_std
        latent = mean[:, None] + log_std.exp()[:, None] * noise  # (B, K, D)
        decoded = self.decoder(latent.flatten(0, 1))  # (B * K, C, H, W)
        target = images.repeat_interleave(noise.shape[1], 0)
        likelihood = log_bernoulli(decoded, target).view(noise.shape[:2])  # (B, K)
        # ln p(z) - ln q(z | x) of each dimension, (B, K, D); the constants 0.5 ln(2 pi) cancel.
        ratio = 0.5 * noise.square() + log_std[:, None] - 0.5 * latent.square()
        weight = likelihood + ratio.sum(2)
        shown = decoded.view(*noise.shape[:2], *decoded.shape[1:])[:, 0]
        if self.groups > 1:
            weight = weight.view(len(weight), self.groups, -1)
        return Output(shown, latent[:, 0], ImportancePosterior(mean, log_std, weight))


def _halves(encoder: nn.Module, bottleneck: nn.Module | None) -> tuple[nn.Module, nn.Module]:
    """The encoder without its bottleneck, and the bottleneck."""
    if bottleneck is not None:
        return encoder, bottleneck
    if not isinstance(encoder, VariationalEncoder) or not isinstance(encoder.bottleneck, Gaussian):
        raise ConfigError(
            "ImportanceWeightedAutoencoder: encoder must be a VariationalEncoder, "
            f"not {type(encoder).__name__}",
            hint="write VariationalEncoder(encoder, encoder_dims, latent_dims), or give "
            "bottleneck=FullGaussian(encoder_dims, latent_dims) or another",
        )
    return encoder.encoder, encoder.bottleneck


def _log_ratio(posterior: Posterior, latent: Tensor, frozen: bool) -> Tensor:
    """ln p(z) - ln q(z | x) of latents (B, D) -> (B,) nats.

    Args:
        posterior: of the images, one for each latent.
        latent: one of it.
        frozen: whether the posterior's own tensors get no gradient; its prior's do.

    Raises:
        ConfigError: the posterior does not know it.
    """
    if isinstance(posterior, GaussianPosterior):
        mean, log_std = (t.detach() for t in posterior) if frozen else posterior
        apart = (latent - mean) * torch.exp(-log_std)
        return (0.5 * apart.square() + log_std - 0.5 * latent.square()).sum(1)
    if not isinstance(posterior, HasSampledDivergence):
        raise ConfigError(
            f"ImportanceWeightedAutoencoder: {type(posterior).__name__} has no density",
            hint="use FullGaussian, LowRankGaussian, Laplace, StudentT, MixturePrior, "
            "FlowGaussian or WrappedNormal as bottleneck",
        )
    if not frozen:
        return -posterior.sampled_kl()
    if not isinstance(posterior, HasDensity):
        raise ConfigError(
            "ImportanceWeightedAutoencoder: gradient='doubly' needs a posterior whose density is "
            f"known at every latent, and {type(posterior).__name__} knows it at its own only",
            hint="use gradient='plain'",
        )
    fields = posterior._asdict()  # type: ignore[attr-defined]
    kept = {n: t if n.startswith("prior_") else t.detach() for n, t in fields.items()}
    ratio: Tensor = -type(posterior)(**{**kept, "latent": latent}).sampled_kl()
    return ratio


def log_bernoulli(probability: Tensor, images: Tensor) -> Tensor:
    """ln p(image | probability), (B,)."""
    p = probability.clamp(1e-6, 1 - 1e-6)  # sigmoids reach exactly 0 and 1 in float32
    return (images * torch.log(p) + (1 - images) * torch.log1p(-p)).flatten(1).sum(1)
