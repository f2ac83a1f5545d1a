"""Sparse bottlenecks: keep the largest numbers of a code and set the others to 0."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.posteriors import Deterministic


class TopK(nn.Module):
    """Keeps the k largest numbers of each image's code, and sets the others to 0.

    Args:
        k: numbers kept, at least 1; a code with fewer numbers is not changed.
        relu: whether negative numbers are set to 0 first; then fewer than k may be left.

    Raises:
        ConfigError: k below 1.

    Source: Makhzani & Frey 2014, arXiv:1312.5663 (k-sparse autoencoders); Gao et al. 2024,
        arXiv:2406.04093, section 2.3.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"k"})

    noise_shape: tuple[int, ...] | None = None

    def __init__(self, k: int, relu: bool = True) -> None:
        super().__init__()
        if int(k) < 1:
            raise ConfigError(f"{type(self).__name__}: k is {k}; possible: 1, 2..")
        self.k, self.relu = int(k), bool(relu)

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Deterministic]:
        """Features (B, ...) -> latent of the same shape."""
        values = features.relu() if self.relu else features
        flat = values.flatten(1)  # (B, D)
        k = min(self.k, flat.shape[1])
        places = flat.topk(k, 1).indices  # (B, k)
        kept = torch.zeros_like(flat).scatter(1, places, flat.gather(1, places))
        return kept.view_as(values), Deterministic()

    def extra_repr(self) -> str:
        """k, for `print(model)`."""
        return f"k={self.k}"


class BatchTopK(TopK):
    """Keeps the k * B largest numbers of a whole batch in training, not equally many per image.

    In evaluation an image must not depend on others in its batch. So numbers above a threshold are
    kept: the moving average of the smallest number kept in training.

    Args:
        k: numbers kept per image on average, at least 1.
        relu: whether negative numbers are set to 0 first.
        decay: of the moving average per batch, 0..1.

    Attributes:
        threshold: scalar, the smallest number that is kept in evaluation.

    Raises:
        ConfigError: k below 1, or a decay outside of 0..1.

    Source: Bussmann et al. 2024, arXiv:2412.06410.
    """

    threshold: Tensor
    is_begun: Tensor

    def __init__(self, k: int, relu: bool = True, decay: float = 0.99) -> None:
        super().__init__(k, relu)
        if not 0.0 <= decay < 1.0:
            raise ConfigError(f"BatchTopK: decay is {decay}; possible: 0 up to, not with, 1")
        self.decay = float(decay)
        self.register_buffer("threshold", torch.zeros(()))
        self.register_buffer("is_begun", torch.zeros((), dtype=torch.bool))

    def forward(
        self, features: Tensor, noise: Tensor | None = None
    ) -> tuple[Tensor, Deterministic]:
        """Features (B, ...) -> latent of the same shape."""
        values = features.relu() if self.relu else features
        if not self.training:
            return _not_below(values, self.threshold), Deterministic()
        flat = values.flatten()
        count = min(self.k * len(features), flat.numel())
        least = flat.detach().topk(count).values[-1]  # the smallest of the k * B largest
        with torch.no_grad():
            mixed = self.decay * self.threshold + (1 - self.decay) * least
            self.threshold.copy_(torch.where(self.is_begun, mixed, least))
            self.is_begun.fill_(True)
        return _not_below(values, least), Deterministic()


def _not_below(values: Tensor, least: Tensor) -> Tensor:
    """Values with 0 for those below `least` (scalar); NaN stays, which no comparison finds."""
    return torch.where(values < least, 0.0, values)
