"""A bottleneck that learns from pairs of images with common factors (GVAE, ML-VAE, Ada-GVAE)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, one_of
from aelab.models.bottlenecks import Gaussian, GaussianMap, Identity
from aelab.ops.factors import checked_differing
from aelab.posteriors import Deterministic, GaussianPosterior, gaussian_kl_between


def arithmetic_mean(one: GaussianPosterior, other: GaussianPosterior) -> GaussianPosterior:
    """Mean of the means, and mean of the variances.

    Source: Hosoya 2019, arXiv:1809.02383; Locatello et al. 2020, arXiv:2002.02886, section 4.
    """
    variance = torch.logaddexp(2 * one.log_std, 2 * other.log_std) - math.log(2)
    return GaussianPosterior((one.mean + other.mean) / 2, variance / 2)


def product(one: GaussianPosterior, other: GaussianPosterior) -> GaussianPosterior:
    """The normalised product of both densities: precisions add up.

    Source: Bouchacourt et al. 2018, arXiv:1705.08841, equation 5.
    """
    precision = torch.logaddexp(-2 * one.log_std, -2 * other.log_std)
    share = torch.sigmoid(2 * (other.log_std - one.log_std))  # of the first precision in the sum
    mean = share * one.mean + (1 - share) * other.mean
    return GaussianPosterior(mean, -precision / 2)


def geometric_mean(one: GaussianPosterior, other: GaussianPosterior) -> GaussianPosterior:
    """The normalised root of the product: two equal posteriors stay as they are.

    Source: `MLVae` of disentanglement_lib and of disent, where the variance is twice the product's.
    """
    mean, log_std = product(one, other)
    return GaussianPosterior(mean, log_std + math.log(2) / 2)


#: How the posteriors of a pair are combined in shared dimensions.
AVERAGES: Mapping[str, Callable[[GaussianPosterior, GaussianPosterior], GaussianPosterior]] = {
    "mean": arithmetic_mean,
    "product": product,
    "geometric": geometric_mean,
}


class PairAveraged(nn.Module):
    """A bottleneck whose posteriors are averaged over pairs of images with common factors.

    In training the second of every two images of a batch is a partner of the first: it has all but
    `differing` factors in common with it. In the dimensions that stand for common factors both get
    the average of their posteriors, from which each is decoded. In evaluation mode every image has
    its own posterior, as without this class.

    Which dimensions are shared is either fixed (the first `shared`, as in GVAE and ML-VAE) or found
    for each pair (Ada-GVAE, Ada-ML-VAE): those in which the posteriors differ least.

    Args:
        bottleneck: `Gaussian`, `GaussianMap`, or `Identity` for a plain autoencoder.
        average: `mean` (GVAE), `product` (ML-VAE in its paper) or `geometric` (ML-VAE in
            disentanglement_lib and disent). Plain latents only have the mean.
        shared: number of dimensions that are always shared; None: found for each pair.
        ratio: a dimension is shared if its difference is below this position between the least and
            the greatest over the dimensions, 0..1. The difference of Gaussians is
            KL(first || second), of plain latents the absolute difference.
        symmetric: whether the difference of Gaussians is the mean of both divergences, as in
            disent.
        differing: number of factors in which a pair may differ; `random`: drawn for each pair, from
            1 to one less than there are factors; None: 1, or 0 where the class is the only factor.

    Attributes:
        pairs: by it training makes pairs, see `aelab.ops.factors`.
        noise_shape: of the bottleneck.

    Raises:
        ConfigError: another bottleneck, or an argument out of its range.

    Source: Locatello et al. 2020, arXiv:2002.02886, section 4 and equations 4 to 6; groups:
        Bouchacourt et al. 2018, arXiv:1705.08841; Hosoya 2019, arXiv:1809.02383; for plain
        autoencoders: the library disent, `AdaAe`.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"bottleneck", "noise_shape"})

    def __init__(
        self,
        bottleneck: nn.Module,
        average: Literal["mean", "product", "geometric"] = "mean",
        shared: int | None = None,
        ratio: float = 0.5,
        symmetric: bool = False,
        differing: int | str | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(bottleneck, Gaussian | GaussianMap | Identity):
            raise ConfigError(
                f"PairAveraged: {type(bottleneck).__name__} has no Gaussian posterior to average",
                hint="possible: Gaussian(...), GaussianMap(...), Identity()",
            )
        if average not in AVERAGES:
            raise ConfigError(f"PairAveraged: average is {average!r}; possible: {one_of(AVERAGES)}")
        if isinstance(bottleneck, Identity) and average != "mean":
            raise ConfigError(
                f"PairAveraged: Identity has no variance for average={average!r}",
                hint="write average='mean', or use Gaussian(...)",
            )
        if not 0 <= ratio <= 1:
            raise ConfigError(f"PairAveraged: ratio is {ratio}; possible: 0 to 1")
        if shared is not None and not shared >= 1:
            raise ConfigError(f"PairAveraged: shared is {shared}; possible: 1, 2.. or None")
        self.bottleneck = bottleneck
        self.average, self.ratio, self.symmetric = average, float(ratio), bool(symmetric)
        self.shared = None if shared is None else int(shared)
        self.pairs = checked_differing(differing, "PairAveraged")
        self.noise_shape: tuple[int, ...] | None = bottleneck.noise_shape

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, GaussianPosterior | Deterministic]:
        """Features (B, ...), noise (B, D) or None -> latent and posterior of the bottleneck.

        In training mode rows 0 and 1, 2 and 3, ... are pairs; an odd last row stays alone.
        """
        if not self.training:
            return self.bottleneck(features, noise)  # type: ignore[no-any-return]
        latent, posterior = self.bottleneck(features, None)
        if not isinstance(posterior, GaussianPosterior):
            return self._averaged_points(latent), posterior
        posterior = self._averaged(posterior)
        if noise is None:
            return posterior.mean, posterior
        return posterior.mean + posterior.log_std.exp() * noise, posterior

    def _averaged(self, posterior: GaussianPosterior) -> GaussianPosterior:
        """The posteriors (B, D) after averaging over pairs."""
        one = GaussianPosterior(*(_in_pairs(values)[:, 0] for values in posterior))
        other = GaussianPosterior(*(_in_pairs(values)[:, 1] for values in posterior))
        difference = gaussian_kl_between(*one, *other)
        if self.symmetric:
            difference = (difference + gaussian_kl_between(*other, *one)) / 2
        common = self.common(difference.detach())
        mean = AVERAGES[self.average](one, other)
        return GaussianPosterior(
            *(_shared(values, common, new) for values, new in zip(posterior, mean, strict=True))
        )

    def _averaged_points(self, latent: Tensor) -> Tensor:
        """Latents (B, ...) after averaging over pairs."""
        pairs = _in_pairs(latent.flatten(1))
        common = self.common((pairs[:, 0] - pairs[:, 1]).abs().detach())
        return _shared(latent.flatten(1), common, pairs.mean(1)).reshape(latent.shape)

    def common(self, difference: Tensor) -> Tensor:
        """Which dimensions are shared, (P, D) bool, by the differences (P, D) of P pairs."""
        if self.shared is not None:
            place = torch.arange(difference.shape[1], device=difference.device)
            return (place < self.shared).expand_as(difference)
        least, greatest = difference.aminmax(dim=1, keepdim=True)
        return difference < torch.lerp(least, greatest, self.ratio)


def _in_pairs(values: Tensor) -> Tensor:
    """(B, D) -> (B // 2, 2, D)."""
    count = len(values) // 2
    return values[: 2 * count].reshape(count, 2, -1)


def _shared(values: Tensor, common: Tensor, mean: Tensor) -> Tensor:
    """The values (B, D) with those of both images of a pair replaced in common dimensions."""
    pairs = torch.where(common[:, None], mean[:, None], _in_pairs(values))  # (P, 2, D)
    return torch.cat([pairs.reshape(-1, values.shape[1]), values[2 * len(pairs) :]])
