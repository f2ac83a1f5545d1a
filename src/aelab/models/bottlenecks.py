"""Bottlenecks: map the encoder's features to the latent, the input of the decoder.

A bottleneck is called with (features, noise) and returns (latent, posterior). `noise_shape` is the
shape of one image's noise, or None. Without noise the latent is its mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ShapeError
from aelab.models.reshaping import FlattenPixels
from aelab.models.shapes import image_shape, shape_words
from aelab.posteriors import Deterministic, GaussianPosterior


class Identity(nn.Module):
    """Uses the features as latent, for a plain autoencoder."""

    noise_shape: tuple[int, ...] | None = None

    def __init__(self) -> None:
        super().__init__()

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Deterministic]:
        """Features of any shape -> the same tensor as latent, and no posterior."""
        return features, Deterministic()


class Gaussian(nn.Module):
    """A diagonal Gaussian latent: mean + exp(log_std) * noise.

    `log_std` is the natural logarithm of the standard deviation (not of the variance), as
    in all formulas of `losses`.

    Args:
        num_features: size of one image's features after flattening.
        latent_dims: D.
        log_variance: whether the second linear layer outputs the logarithm of the variance, as in
            most other code; `log_std` is half of it. The same function with weights twice as
            large, but an optimiser changes it half as fast.

    Attributes:
        linear_mu: maps features to the mean.
        linear_sigma: maps features to the logarithm of the standard deviation (or variance).

    Raises:
        ShapeError: in `forward`, if the features have another size.

    Source: Kingma & Welling 2014, arXiv:1312.6114, section 2.4.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"latent_dims", "linear_mu", "linear_sigma", "noise_shape"}
    )

    def __init__(self, num_features: int, latent_dims: int, log_variance: bool = False) -> None:
        super().__init__()
        self.num_features, self.latent_dims = int(num_features), int(latent_dims)
        self.log_variance = bool(log_variance)
        self.noise_shape: tuple[int, ...] | None = (self.latent_dims,)
        self.linear_mu = nn.Linear(self.num_features, self.latent_dims)
        self.linear_sigma: nn.Module = nn.Linear(self.num_features, self.latent_dims)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, GaussianPosterior]:
        """Features (B, ...), noise (B, D) or None -> latent (B, D), and mean and log_std (B, D)."""
        features = features.reshape(features.shape[0], -1)  # (B, num_features)
        if features.shape[1] != self.num_features:
            raise ShapeError(
                f"Gaussian: the encoder gives {features.shape[1]} numbers per image, "
                f"but {self.num_features} were declared",
                hint=f"use {features.shape[1]} as encoder_dims",
            )
        mean = self.linear_mu(features)  # (B, D)
        log_std = self.linear_sigma(features)  # (B, D)
        # ln(variance) = 2 ln(std)
        log_std = 0.5 * log_std if self.log_variance else log_std
        latent = mean if noise is None else mean + torch.exp(log_std) * noise
        return latent, GaussianPosterior(mean, log_std)


class OnGaussian(nn.Module):
    """The layers and sizes of a bottleneck that changes a `Gaussian`'s latent, or its prior.

    Args:
        num_features: of one image after flattening.
        latent_dims: D.

    Attributes:
        gaussian: the layers for mean and logarithm of the standard deviation.
        noise_shape: (D,).
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"gaussian", "latent_dims", "noise_shape"}
    )

    def __init__(self, num_features: int, latent_dims: int) -> None:
        super().__init__()
        self.gaussian = Gaussian(num_features, latent_dims)
        self.latent_dims = self.gaussian.latent_dims
        self.noise_shape: tuple[int, ...] | None = (self.latent_dims,)


class GaussianMap(nn.Module):
    """`Gaussian` at every pixel of a feature map, with shared weights; the latent is flat.

    Args:
        shape: (C, h, w) of the features.
        channels: latent numbers per pixel of the map; D is `channels * h * w`.
        log_std: initial value of `log_std`. With 0, as in `Gaussian`, the latent is mostly noise
            until the means have grown.

    Attributes:
        shape: (channels, h, w) of the latent as a map, for `UnflattenPixels`.

    Raises:
        ShapeError: in `forward`, if the features have another shape.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset(
        {"linear_mu", "linear_sigma", "noise_shape", "shape"}
    )

    def __init__(self, shape: Sequence[int], channels: int, log_std: float = -2.0) -> None:
        super().__init__()
        before, height, width = image_shape(shape, "GaussianMap")
        self.features_shape = (before, height, width)
        self.shape = (int(channels), height, width)
        self.noise_shape: tuple[int, ...] | None = (math.prod(self.shape),)
        # 1x1 convolutions: the same linear layer at every pixel.
        self.linear_mu = nn.Conv2d(before, self.shape[0], 1)
        self.linear_sigma = nn.Conv2d(before, self.shape[0], 1)
        # At the start the deviation is exp(log_std) everywhere, for any features.
        nn.init.zeros_(self.linear_sigma.weight)
        nn.init.constant_(self.linear_sigma.bias, log_std)  # type: ignore[arg-type]
        self.flatten = FlattenPixels()

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, GaussianPosterior]:
        """Features (B, C, h, w), noise (B, D) or None -> latent, mean and log_std, (B, D)."""
        if features.shape[1:] != self.features_shape:
            raise ShapeError(
                f"GaussianMap: the encoder gives {shape_words(features.shape[1:])}, "
                f"but {shape_words(self.features_shape)} were declared",
                hint=f"use {tuple(features.shape[1:])} as shape",
            )
        mean = self.flatten(self.linear_mu(features))  # (B, D), pixel by pixel
        log_std = self.flatten(self.linear_sigma(features))  # (B, D)
        latent = mean if noise is None else mean + torch.exp(log_std) * noise
        return latent, GaussianPosterior(mean, log_std)


class VariationalEncoder(nn.Module):
    """An encoder with a Gaussian bottleneck, for `VariationalAutoencoder`.

    Called directly it returns the latent; without noise this is the mean.

    Args:
        encoder: any module that maps images to features.
        encoder_dims: size of the encoder's features for one image.
        latent_dims: D.

    Source: the documents' `VariationalEncoder`: mu = linear(h), sigma = exp(linear(h)).
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"bottleneck", "encoder"})

    def __init__(self, encoder: nn.Module, encoder_dims: int, latent_dims: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.bottleneck = Gaussian(encoder_dims, latent_dims)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        """Images (B, C, H, W), noise (B, D) or None -> latent (B, D)."""
        latent: Tensor = self.bottleneck(self.encoder(images), noise)[0]
        return latent
