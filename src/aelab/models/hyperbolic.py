"""Latents in hyperbolic space: the wrapped normal distribution.

Distances grow with the distance from the middle as in a tree, where each level has more branches.
The curvature is -1. Points are computed on the hyperboloid (x0, x) with x0^2 - |x|^2 = 1, and the
decoder gets coordinates of the Poincare ball, x / (1 + x0), of length below 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.models.bottlenecks import OnGaussian
from aelab.models.priors import sampled_kl_terms
from aelab.posteriors import Normal


class HyperbolicPosterior(NamedTuple):
    """A wrapped normal distribution; its prior is the wrapped standard normal at the middle.

    Attributes:
        tangent: (B, D), the centre: direction and distance from the middle of the space.
        log_scale: (B, D), natural logarithm of the standard deviation before wrapping.
        latent: (B, D), the sample, in coordinates of the ball; the centre without noise.
        log_ratio: (B,) nats, ln q(z | x) - ln p(z) at the latent.
    """

    tangent: Tensor
    log_scale: Tensor
    latent: Tensor
    log_ratio: Tensor

    def sampled_kl(self) -> Tensor:
        """(B,) nats at the latent that was drawn."""
        return self.log_ratio

    def draw(self, normal: Normal) -> tuple[Tensor, Tensor]:
        """A latent (B, D), and ln p(z) - ln q(z | x), (B,) float64 nats."""
        noise = normal(tuple(self.tangent.shape))
        latent, log_ratio = wrapped_normal(self.tangent, self.log_scale, noise)
        return latent.float(), -log_ratio

    def draw_prior(self, count: int, normal: Normal) -> Tensor:
        """Samples of the prior, (count, D), in coordinates of the ball."""
        return _to_ball(normal((count, self.tangent.shape[1])))


class WrappedNormal(OnGaussian):
    """A latent in hyperbolic space, given to the decoder as a point of the Poincare ball.

    A Gaussian at the middle of the space is moved to the centre of the image, along a straight line
    of this space. The divergence has no closed form: the term `sampled_kl` estimates it at the
    drawn latent.

    Args:
        num_features: of one image after flattening.
        latent_dims: D.
        kl_loss_weight: weight of the term `sampled_kl`; 0 leaves it out.

    Attributes:
        gaussian: the layers for the centre and the logarithm of the standard deviation.

    Raises:
        ConfigError: `latent_dims` below 1.
        ShapeError: in `forward`, if the features have another size.

    Source: Nagano et al. 2019, arXiv:1902.02992, algorithm 1 and equation 9; the ball and prior:
        Mathieu et al. 2019, arXiv:1901.06033, section 3.
    """

    def __init__(self, num_features: int, latent_dims: int, kl_loss_weight: float = 1.0) -> None:
        if int(latent_dims) < 1:
            raise ConfigError(f"WrappedNormal: latent_dims is {latent_dims}; possible: 1, 2..")
        super().__init__(num_features, latent_dims)
        self.terms = sampled_kl_terms(kl_loss_weight)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, HyperbolicPosterior]:
        """Features (B, ...), noise (B, D) or None -> latent (B, D) of length below 1.

        Without noise the latent is the centre.
        """
        _, (tangent, log_scale) = self.gaussian(features)
        tangent, log_scale = tangent.float(), log_scale.float()
        still = torch.zeros_like(tangent) if noise is None else noise
        latent, log_ratio = wrapped_normal(tangent, log_scale, still)
        # The centre needs no hyperboloid: exported graphs keep only this line.
        latent = _to_ball(tangent) if noise is None else latent.float()
        return latent, HyperbolicPosterior(tangent, log_scale, latent, log_ratio.float())


def wrapped_normal(tangent: Tensor, log_scale: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """A sample of the wrapped normal, and the logarithm of its density relative to the prior.

    Both densities refer to the space's own volume, so their ratio is that in any coordinates.

    Args:
        tangent: (B, D), the centre; distances from the middle up to about 300.
        log_scale: (B, D), natural logarithm of the standard deviation before wrapping.
        noise: (B, D), standard normal numbers.

    Returns:
        (B, D) float64, coordinates of the ball; (B,) float64 nats, ln q(z) - ln p(z).
    """
    # float64: sinh and cosh of large distances nearly cancel in sums.
    tangent, log_scale, noise = tangent.double(), log_scale.double(), noise.double()
    moved = log_scale.exp() * noise  # the tangent vector, at the middle
    far, length = _length(tangent), _length(moved)  # (B, 1)
    centre = far.sinh() / far * tangent
    # Parallel transport to the centre adds a part along (1 + cosh, centre), then the straight line.
    share = (centre * moved).sum(1, keepdim=True) / (1 + far.cosh())
    point = length.cosh() * centre + length.sinh() / length * (moved + share * centre)
    away = _length(point).asinh()  # (B, 1), the distance from the middle
    ball = point / (1 + (1 + point.square().sum(1, keepdim=True)).sqrt())
    dims = tangent.shape[1]
    # The constants 0.5 ln(2 pi) of both densities cancel.
    log_q = -0.5 * noise.square().sum(1) - log_scale.sum(1) - (dims - 1) * _log_growth(length)
    log_p = -0.5 * away[:, 0].square() - (dims - 1) * _log_growth(away)
    return ball, log_q - log_p


def _to_ball(tangent: Tensor) -> Tensor:
    """Tangent vectors at the middle (B, D) -> the points that they lead to, in the ball."""
    far = _length(tangent)
    return (far / 2).tanh() / far * tangent


def _length(vectors: Tensor) -> Tensor:
    """(B, D) -> (B, 1), at least 1e-12; the gradient at 0 is 0, where that of `norm` is NaN."""
    return vectors.square().sum(1, keepdim=True).clamp(min=1e-24).sqrt()


def _log_growth(radius: Tensor) -> Tensor:
    """ln(sinh(r) / r), (B, 1) -> (B,): how much wider hyperbolic circles are than flat ones."""
    small = radius.clamp(max=0.05)
    large = radius.clamp(min=0.05)
    series = small.square() / 6 - small.pow(4) / 180 + small.pow(6) / 2835
    exact = large + torch.log1p(-(-2 * large).exp()) - (2 * large).log()
    return torch.where(radius < 0.05, series, exact)[:, 0]
