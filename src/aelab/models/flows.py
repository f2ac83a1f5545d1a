"""Normalising flows: invertible layers that make a Gaussian posterior more flexible."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.models.bottlenecks import OnGaussian
from aelab.models.priors import sampled_kl_terms
from aelab.models.splines import SplineCoupling
from aelab.posteriors import FlowPosterior


class FlowGaussian(OnGaussian):
    """A `Gaussian` bottleneck followed by invertible layers: a more flexible posterior.

    The divergence is estimated at the drawn latent, by the term `sampled_kl`.

    Args:
        num_features: of one image after flattening.
        latent_dims: D.
        layers: number of layers of the flow, at least 1.
        kind: `planar`, `radial`, `autoregressive` (inverse autoregressive flow, one hidden layer of
            `hidden` units), or `spline` (couplings of monotone splines, two hidden layers). The
            dimensions are reversed before every second layer.
        hidden: hidden units of an autoregressive or spline layer.
        kl_loss_weight: weight of the term `sampled_kl`; 0 leaves it out.

    Raises:
        ConfigError: another kind, or no layer.

    Source: Rezende & Mohamed 2015, arXiv:1505.05770, equations 10 and 14, appendix A; Kingma et al.
        2016, arXiv:1606.04934, algorithm 1; masks: Germain et al. 2015, arXiv:1502.03509; splines:
        Durkan et al. 2019, arXiv:1906.04032.
    """

    def __init__(
        self,
        num_features: int,
        latent_dims: int,
        layers: int = 4,
        kind: str = "planar",
        hidden: int = 64,
        kl_loss_weight: float = 1.0,
    ) -> None:
        kinds = {
            "planar": _Planar,
            "radial": _Radial,
            "autoregressive": _Autoregressive,
            "spline": SplineCoupling,
        }
        if kind not in kinds or layers < 1:
            raise ConfigError(
                f"FlowGaussian: {layers} layers of kind {kind!r}; possible: at least 1 of "
                f"{', '.join(kinds)}"
            )
        super().__init__(num_features, latent_dims)
        self.flow = nn.ModuleList(kinds[kind](self.latent_dims, hidden) for _ in range(layers))
        self.terms = sampled_kl_terms(kl_loss_weight)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, FlowPosterior]:
        """Features (B, ...), noise (B, D) or None -> latent (B, D), and the flow's posterior.

        Without noise the latent is that of the mean, after the flow.
        """
        latent, (mean, log_std) = self.gaussian(features, noise)
        normal = torch.zeros_like(mean) if noise is None else noise
        log_q = (-0.5 * normal.square() - log_std - 0.5 * math.log(2 * math.pi)).sum(1)  # (B,)
        for number, layer in enumerate(self.flow):
            # Reversed before every second layer, so that a dimension also depends on later ones.
            latent, log_det = layer(latent.flip(1) if number % 2 else latent)
            log_q = log_q - log_det
        return latent, FlowPosterior(mean, log_std, latent, log_q)


class _Planar(nn.Module):
    """z + u tanh(w z + b), with u adjusted so that the layer is invertible."""

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(dims) / math.sqrt(dims))
        self.u = nn.Parameter(0.1 * torch.randn(dims))
        self.b = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> (B, D), and the logarithm of the determinant (B,)."""
        along = self.w @ self.u
        # w u >= -1 is needed; appendix A.1 of the paper
        u = self.u + (F.softplus(along) - 1 - along) * self.w / self.w.square().sum()
        active = torch.tanh(z @ self.w + self.b)  # (B,)
        # The determinant of identity + u (h' w)^T is 1 + h' w.u: a rank-one update.
        slope = (1 - active.square()) * (self.w @ u)
        return z + active[:, None] * u, torch.log1p(slope)


class _Radial(nn.Module):
    """z + beta (z - z0) / (alpha + |z - z0|)."""

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.randn(dims) / math.sqrt(dims))
        self.log_alpha = nn.Parameter(torch.zeros(()))
        self.beta = nn.Parameter(torch.zeros(()))

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> (B, D), and the logarithm of the determinant (B,)."""
        alpha = self.log_alpha.exp()
        beta = F.softplus(self.beta + math.log(math.e - 1)) - alpha  # > -alpha; 0 at the start
        apart = z - self.centre
        radius = apart.square().sum(1, keepdim=True).clamp(min=1e-12).sqrt()  # (B, 1)
        h = 1 / (alpha + radius)
        straight = torch.log1p(beta * h)[:, 0]
        bent = torch.log1p(beta * h - beta * radius * h.square())[:, 0]
        return z + beta * h * apart, (z.shape[1] - 1) * straight + bent


class _Autoregressive(nn.Module):
    """s z + (1 - s) m, with s and m of a dimension computed from the dimensions before it."""

    mask_in: Tensor
    mask_out: Tensor

    def __init__(self, dims: int, hidden: int) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(dims, hidden), nn.Linear(hidden, 2 * dims)
        # Unit j may see the dimensions up to degrees[j]; dimension i is made from units below i.
        degrees = torch.arange(hidden) % max(1, dims - 1)
        order = torch.arange(dims)
        self.register_buffer("mask_in", (degrees[:, None] >= order).float(), persistent=False)
        allowed = (order[:, None] > degrees).float()  # (D, hidden)
        self.register_buffer("mask_out", allowed.repeat(2, 1), persistent=False)

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) -> (B, D), and the logarithm of the determinant (B,)."""
        units = F.linear(z, self.first.weight * self.mask_in, self.first.bias).relu()
        # (B, 2D): masked weights make the Jacobian triangular, so its determinant is a product.
        made = F.linear(units, self.second.weight * self.mask_out, self.second.bias)
        move, gate = made.chunk(2, 1)
        # + 1.5: the gate is nearly open at the start, as the paper advises
        log_share = F.logsigmoid(gate + 1.5)
        share = log_share.exp()
        return share * z + (1 - share) * move, log_share.sum(1)
