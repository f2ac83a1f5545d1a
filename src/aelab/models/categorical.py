"""Bottlenecks with categorical latents: one-hot vectors, relaxed by the Gumbel-softmax."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.models.bottlenecks import Gaussian
from aelab.posteriors import CategoricalPosterior, JointPosterior


class Categorical(nn.Module):
    """A categorical latent: V variables of K classes, relaxed by the Gumbel-softmax.

    The latent is (B, V * K): nearly one-hot for each variable, or without noise its mean, the
    probabilities. The prior is uniform.

    Args:
        num_features: of one image after flattening.
        variables: V.
        classes: K, at least 2.
        temperature: of the relaxation, above 0; smaller: closer to one-hot, but noisier gradients.

    Attributes:
        latent_dims: V * K.
        codebooks: number of the variable -> K.

    Raises:
        ConfigError: a size or temperature that makes no sense.
        ShapeError: in `forward`, if the features have another size.

    Source: Jang et al. 2017, arXiv:1611.01144; Maddison et al. 2017, arXiv:1611.00712.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"classes", "latent_dims", "linear", "noise_shape", "temperature", "variables"}
    )

    def __init__(
        self, num_features: int, variables: int = 16, classes: int = 8, temperature: float = 0.5
    ) -> None:
        super().__init__()
        if variables < 1 or classes < 2 or temperature <= 0:
            raise ConfigError(
                "Categorical: needs at least 1 variable of 2 classes and a temperature above 0, "
                f"not {variables}, {classes} and {temperature}"
            )
        self.num_features, self.temperature = int(num_features), float(temperature)
        self.variables, self.classes = int(variables), int(classes)
        self.latent_dims = self.variables * self.classes
        self.noise_shape: tuple[int, ...] | None = (self.latent_dims,)
        self.codebooks = {str(number + 1): self.classes for number in range(self.variables)}
        self.linear = nn.Linear(self.num_features, self.latent_dims)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, CategoricalPosterior]:
        """Features (B, ...), normal noise (B, V K) or None -> latent (B, V K), log p (B, V, K)."""
        # (B, ...) -> (B, num_features)
        features = features.reshape(features.shape[0], -1)
        if features.shape[1] != self.num_features:
            raise ShapeError(
                f"Categorical: the encoder gives {features.shape[1]} numbers per image, "
                f"but {self.num_features} were declared",
                hint=f"use {features.shape[1]} as num_features",
            )
        # (B, V K) -> (B, V, K)
        logits = self.linear(features).view(-1, self.variables, self.classes)
        log_p = logits.log_softmax(-1)  # (B, V, K)
        if noise is None:
            return log_p.exp().flatten(1), CategoricalPosterior(log_p)
        # The loop draws normal noise for every bottleneck; it is converted here.
        gumbel = gumbel_of(noise).view_as(log_p)
        latent = ((log_p + gumbel) / self.temperature).softmax(-1)  # (B, V, K)
        return latent.flatten(1), CategoricalPosterior(log_p)

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        return f"variables={self.variables}, classes={self.classes}"


class GaussianAndCategorical(nn.Module):
    """A Gaussian and a categorical latent, for continuous and discrete factors.

    The latent is (B, D + V * K), the Gaussian part first.

    Args:
        num_features: of one image after flattening.
        latent_dims: D, of the Gaussian part.
        variables, classes, temperature: as in `Categorical`.

    Attributes:
        latent_dims: D + V * K.

    Raises:
        ConfigError: a size or temperature that makes no sense.
        ShapeError: in `forward`, if the features have another size.

    Source: Dupont 2018, arXiv:1804.00104 (JointVAE); its capacities are the option `capacity` of
        the term `kl`, for both parts together.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"categorical", "gaussian", "latent_dims", "noise_shape"}
    )

    def __init__(
        self,
        num_features: int,
        latent_dims: int,
        variables: int = 1,
        classes: int = 10,
        temperature: float = 0.67,
    ) -> None:
        super().__init__()
        self.gaussian = Gaussian(num_features, latent_dims)
        self.categorical = Categorical(num_features, variables, classes, temperature)
        self.latent_dims = self.gaussian.latent_dims + self.categorical.latent_dims
        self.noise_shape: tuple[int, ...] | None = (self.latent_dims,)
        self.codebooks = self.categorical.codebooks

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, JointPosterior]:
        """Features (B, ...), noise (B, D + V K) or None -> latent, and the posterior of both."""
        dims = self.gaussian.latent_dims
        parts = (None, None) if noise is None else (noise[:, :dims], noise[:, dims:])
        smooth, gaussian = self.gaussian(features, parts[0])
        jumping, categories = self.categorical(features, parts[1])
        return torch.cat([smooth, jumping], 1), JointPosterior(*gaussian, *categories)


def gumbel_of(normal: Tensor) -> Tensor:
    """Converts standard normal numbers to Gumbel distributed ones: -ln(-ln Phi(x))."""
    # ln Phi(x): log_ndtr is accurate for very negative x; the clamp keeps it below 0 for large x.
    log_phi = torch.special.log_ndtr(normal).clamp(max=-1e-7)
    return -torch.log(-log_phi)
