"""Log-likelihood estimates for models with a posterior: ELBO, its parts, and IWAE."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.metrics.subject import Subject, normal_of
from aelab.posteriors import CanDraw, HasDivergence

#: Formula of a reconstruction term -> distribution of pixels that it implies.
_DISTRIBUTIONS: dict[str, Literal["bernoulli", "logits", "gaussian", "laplace"]] = {
    "bce": "bernoulli",
    "bce_logits": "logits",
    "binary_cross_entropy": "bernoulli",
    "iwae_bound": "bernoulli",
    "l1": "laplace",
    "l2": "gaussian",
}
#: A unit is active when its mean code's variance over images is above this.
ACTIVE_VARIANCE = 0.01


class Observation(NamedTuple):
    """The distribution of a pixel given its reconstruction.

    Attributes:
        kind: `bernoulli` (the reconstruction is a probability), `logits` (its logit), `gaussian`,
            `laplace`, or `own`: that of the model's method `log_likelihood`.
        scale: standard deviation of a Gaussian, mean absolute deviation of a Laplacian, in units of
            the images; 1 for the others.
    """

    kind: Literal["bernoulli", "logits", "gaussian", "laplace", "own"]
    scale: float = 1.0

    @property
    def is_density(self) -> bool:
        """Whether it is a density over grey values, not a probability of 0 and 1."""
        return self.kind in ("gaussian", "laplace")

    def log_probability(self, reconstruction: Tensor, images: Tensor) -> Tensor:
        """ln p(image | reconstruction), nats, (B,), summed over channels and pixels."""
        if self.kind == "logits":
            values = -F.binary_cross_entropy_with_logits(reconstruction, images, reduction="none")
        elif self.kind == "bernoulli":
            # In float32 sigmoids round to exactly 0 or 1; one such pixel would give -infinity.
            p = reconstruction.clamp(1e-6, 1 - 1e-6)
            values = images * torch.log(p) + (1 - images) * torch.log1p(-p)
        elif self.kind == "gaussian":
            values = -0.5 * ((reconstruction - images) / self.scale).square() - math.log(
                self.scale * math.sqrt(2 * math.pi)
            )
        else:
            values = -(reconstruction - images).abs() / self.scale - math.log(2 * self.scale)
        return values.flatten(1).sum(1)


def observation_of(subject: Subject) -> Observation:
    """The distribution implied by the run's reconstruction term.

    A model's own `log_likelihood` comes first. `l2` means a Gaussian, `l1` a Laplacian. Their
    scale, which training leaves open, is the maximum likelihood estimate on the held-out
    reproductions. Without a known term: a Gaussian.

    Raises:
        ConfigError: the reproductions are perfect, so the likelihood has no maximum.
    """
    if subject.has_likelihood:
        return Observation("own")
    known = [_DISTRIBUTIONS[name] for name in subject.formulas if name in _DISTRIBUTIONS]
    kind = known[0] if known else "gaussian"
    if kind in ("bernoulli", "logits"):
        return Observation(kind)
    # Maximum likelihood: the root mean square for a Gaussian, the mean |error| for a Laplacian.
    error = subject.reconstructions - subject.images
    squared = error.square().mean().sqrt().item()
    scale = squared if kind == "gaussian" else error.abs().mean().item()
    if scale <= 0:
        raise ConfigError("the held-out reproductions are perfect: their likelihood has no bound")
    return Observation(kind, scale)


def elbo(subject: Subject, samples: int = 1) -> dict[str, float]:
    """The evidence lower bound (ELBO) of the held-out images and its parts, means over images.

    `elbo_nats` = -`distortion_nats` - `rate_nats`; `bits_per_dim` is -elbo per pixel and channel.
    A model with a likelihood of its own, such as a logistic mixture, is measured by that one.
    With a density (`l1`, `l2`) it refers to 8-bit grey values: 8 bits are added, as if the density
    were constant within each of the 256 steps; `pixel_scale` is the scale of the density. With
    `bce`, grey values are not outcomes of the distribution: then only differences between runs
    are meaningful.

    Args:
        subject: its posterior must allow drawing. Without a divergence in closed form the rate is
            the mean of ln q(z | x) - ln p(z) over the latents drawn.
        samples: latents drawn for each image.

    Source: Kingma & Welling 2014, arXiv:1312.6114, equation 3.
    """
    observation = observation_of(subject)
    total = torch.zeros(len(subject.images), dtype=torch.float64)
    rate = torch.zeros_like(total)  # (N,) nats, summed over the samples
    for index in range(samples):
        latent, log_ratio = _draw(subject, slice(None), index, "elbo")
        rate -= log_ratio
        # Sums of some thousand pixels and many samples: float32 would lose the last digits.
        total += _log_likelihood(subject, observation, latent, slice(None)).double()
    distortion = -(total / samples).mean().item()
    if isinstance(subject.posterior, HasDivergence) and isinstance(subject.posterior, CanDraw):
        # exact: the mean over infinitely many draws
        rate_nats = subject.posterior.kl().flatten(1).float().sum(1).double().mean().item()
    else:
        rate_nats = (rate / samples).mean().item()
    return {
        "elbo_nats": -distortion - rate_nats,
        "distortion_nats": distortion,
        "rate_nats": rate_nats,
        "bits_per_dim": _bits_per_dim(-distortion - rate_nats, subject, observation),
        **({"pixel_scale": observation.scale} if observation.is_density else {}),
    }


def iwae(subject: Subject, samples: int = 500, images: int = 500) -> dict[str, float]:
    """The importance-weighted estimate of the log-likelihood, ln 1/K sum_k p(x, z_k) / q(z_k | x).

    A lower bound in expectation, tighter with more samples. `iwae_std_error_nats` is the standard
    error over images. `iwae_elbo_nats` is the ELBO of the same images with the same draws; it is
    never above `iwae_nats`. (`elbo_nats` covers more images and can be above it.)

    Args:
        subject: its posterior must allow drawing.
        samples: K; papers report 5000.
        images: at most this many held-out images, drawn at random.

    Source: Burda et al. 2016, arXiv:1509.00519, equation 8.
    """
    observation = observation_of(subject)
    count = min(images, len(subject.images))
    part = slice(0, count)
    weights = torch.full((count,), -math.inf, dtype=torch.float64)
    bound = torch.zeros(count, dtype=torch.float64)
    for index in range(samples):
        latent, log_ratio = _draw(subject, part, index, "iwae")
        likelihood = _log_likelihood(subject, observation, latent, part)
        # A running log-sum-exp: only (N,) numbers are kept, not (N, K).
        weights = torch.logaddexp(weights, likelihood.double() + log_ratio)
        bound += likelihood.double() + log_ratio
    # ln (1/K sum) = logsumexp - ln K.
    values = weights - math.log(samples)
    spread = values.std().item() / math.sqrt(count) if count > 1 else math.nan
    mean = values.mean().item()
    return {
        "iwae_nats": mean,
        "iwae_std_error_nats": spread,
        "iwae_elbo_nats": (bound / samples).mean().item(),
        "iwae_bits_per_dim": _bits_per_dim(mean, subject, observation),
        "iwae_samples": float(samples),
    }


def latent_use(subject: Subject) -> dict[str, float]:
    """How many dimensions of a latent carry information, without a class that the model was told.

    `active_units`: number of dimensions whose mean code has a variance over images above 0.01,
    of `latent_dims`.
    `kl_max_nats`, `kl_median_nats`: over dimensions, of their KL divergence (mean over images).
    `kl_dims_above_0.1`: number of dimensions with more than 0.1 nats.

    Source: active units: Burda et al. 2016, arXiv:1509.00519, section 5.2.
    """
    kl = kl_by_dimension(subject)
    mean = subject.codes
    # A variance over images needs two of them.
    active = float(int((mean.var(0) > ACTIVE_VARIANCE).sum())) if len(mean) > 1 else math.nan
    return {
        "active_units": active,
        "latent_dims": float(mean.shape[1]),
        "kl_max_nats": kl.max().item(),
        "kl_median_nats": kl.median().item(),
        "kl_dims_above_0.1": float(int((kl > 0.1).sum())),
    }


def kl_by_dimension(subject: Subject) -> Tensor:
    """The KL divergence of each latent dimension from the prior, (D,) nats, mean over images."""
    kl: Tensor = subject.posterior.kl()
    return kl.flatten(1).double().mean(0)


def _draw(subject: Subject, part: slice, index: int, purpose: str) -> tuple[Tensor, Tensor]:
    """Samples of the posterior (B, D), and their ln p(z) - ln q(z | x), (B,) float64."""
    return subject.drawn(part, normal_of(subject.generator(purpose, index)))


def _log_likelihood(
    subject: Subject, observation: Observation, latent: Tensor, part: slice
) -> Tensor:
    """ln p(image | latent), (B,) nats, of some of the held-out images."""
    if observation.kind == "own":
        return subject.log_likelihood(latent, subject.images[part])
    return observation.log_probability(subject.decode(latent), subject.images[part])


def _bits_per_dim(nats: float, subject: Subject, observation: Observation) -> float:
    dimensions = subject.images[0].numel()
    # 8 bits: a density over 0..1 becomes one over 256 grey values.
    return -nats / (dimensions * math.log(2)) + (8.0 if observation.is_density else 0.0)
