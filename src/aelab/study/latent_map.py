"""Codes of many images on a map: places, the way back from a place to a latent, directions."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aelab.errors import UserError

#: Number of principal directions, including the two of the map, and of codes that decide them: the
#: decomposition of many long codes would take minutes.
DIRECTIONS, DECIDING = 10, 600


@dataclass(frozen=True)
class LatentMap:
    """Codes by the two directions in which they differ most.

    Attributes:
        codes: (N, D).
        mean: (D,) of the codes.
        axes: (K, D) orthonormal principal directions (of the first `DECIDING` codes), the largest
            first; a code with one dimension gets a second direction of 0.
        std: (K,) standard deviations along them.
        places: (N, 2) of the codes.
        spacing: median distance on the map from a code to its nearest neighbour.
    """

    codes: Tensor
    mean: Tensor
    axes: Tensor
    std: Tensor
    places: Tensor
    spacing: float

    def place_of(self, latents: Tensor) -> Tensor:
        """(M, 2) places of latents (M, D)."""
        return (latents - self.mean) @ self.axes[:2].T

    def latent_at(self, places: Tensor) -> Tensor:
        """(M, D) latents for places (M, 2); see the function of this name."""
        return latent_at(places, self.codes, self.axes[:2], self.places, self.spacing)


def map_of(codes: Tensor) -> LatentMap:
    """The map of codes (N, D).

    Raises:
        UserError: all codes are equal, or there is only one.
    """
    axes, std = _directions(codes)
    mean = codes.mean(0)
    places = (codes - mean) @ axes[:2].T
    return LatentMap(codes, mean, axes, std, places, _spacing(places))


def latent_at(place: Tensor, codes: Tensor, axes: Tensor, places: Tensor, spacing: float) -> Tensor:
    """(M, D) latents for places (M, 2) on the map, as the page computes them.

    Near an image it is nearly the image's code; between images it changes smoothly.

    Args:
        place: (M, 2) positions.
        codes: (N, D) codes of the images.
        axes: (2, D), orthonormal.
        places: (N, 2), positions of the codes.
        spacing: distance over which weights fall.
    """
    far = torch.cdist(place, places).square() / spacing**2
    weights = 1 / (far + 1e-3).square()
    weights = weights / weights.sum(1, keepdim=True)
    return weights @ codes + (place - weights @ places) @ axes


def _directions(codes: Tensor) -> tuple[Tensor, Tensor]:
    """(K, D) principal directions of the codes, largest first, and (K,) standard deviations."""
    if len(codes) < 2 or float(codes.std(0).max()) < 1e-9:
        raise UserError("all images have the same code: there is no map to show")
    codes = codes[:DECIDING]
    centred = (codes - codes.mean(0)).double()
    _, values, vectors = torch.linalg.svd(centred, full_matrices=codes.shape[1] < 2)
    count = min(DIRECTIONS, codes.shape[1], len(values))
    axes, std = vectors[:count].float(), (values[:count] / math.sqrt(len(codes))).float()
    if count == 1:  # a map needs two directions; the second is 0
        axes, std = torch.cat([axes, torch.zeros_like(axes)]), torch.cat([std, torch.zeros(1)])
    # A fixed sign, so that equal runs give equal maps.
    signs = axes.gather(1, axes.abs().argmax(1, keepdim=True)).sign()
    return axes * torch.where(signs == 0, 1.0, signs), std


def _spacing(places: Tensor) -> float:
    """The median distance on the map from an image to its nearest neighbour."""
    apart = torch.cdist(places, places).fill_diagonal_(math.inf).min(1).values
    return max(float(apart.median()), 1e-6)
