"""Triplets of images of a batch: latents shall be as near to each other as the images are."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.losses.aggregate import squared_distances
from aelab.losses.draws import numeric_latents, standard_normal
from aelab.types import Output


class OverlapTriplet(nn.Module):
    """Triplet loss on latents, with the order of distances taken from the pixels (DOT-VAE).

    Every image is an anchor. Of two random other images of the batch, the one with the smaller
    squared difference of pixels is the positive, the other the negative. The value is
    max(0, |a - p| - |a - n| + margin) for the Euclidean distances of their codes: means of
    posteriors, or latents. With `shared_scale` below 1 it is adaptive: those dimensions of a - n
    that differ little count less, so that large differences gather in few dimensions.

    Args:
        margin: by how much the negative shall be farther, in units of the latent; at least 0.
        triplets: T, of each image, at least 1; a larger batch costs B * B distances.
        shared_scale: factor of the shared dimensions of a - n, 0..1; 1 is the plain triplet loss.
        share_ratio: a dimension is shared if its |a - n| is below this position between the least
            and the greatest over the dimensions, 0..1.

    Returns:
        Called with (output, target), (B,), means over the triplets of each image; at least 0. A
        batch of fewer than three images has the value 0.

    Raises:
        ConfigError: an option out of its range; the model has no latent of numbers.

    Source: triplet loss: Schroff et al. 2015, arXiv:1503.03832, equation 3; order by overlap of
        pixels: Michlo et al. 2022, arXiv:2202.13341; the adaptive form: the library disent,
        `DataOverlapTripletVae`; shared dimensions: Locatello et al. 2020, arXiv:2002.02886.
    """

    #: It orders latents by the images, and says nothing of the reconstruction.
    of_latents = True

    def __init__(
        self,
        margin: float = 1.0,
        triplets: int = 4,
        shared_scale: float = 1.0,
        share_ratio: float = 0.5,
    ) -> None:
        super().__init__()
        for name, value, fits, possible in (
            ("margin", margin, margin >= 0, "0 or more"),
            ("triplets", triplets, triplets >= 1 and triplets == int(triplets), "1, 2.."),
            ("shared_scale", shared_scale, 0 <= shared_scale <= 1, "0 to 1"),
            ("share_ratio", share_ratio, 0 <= share_ratio <= 1, "0 to 1"),
        ):
            if not fits:
                raise ConfigError(f"overlap_triplet: {name} is {value}; possible: {possible}")
        self.margin, self.triplets = float(margin), int(triplets)
        self.shared_scale, self.share_ratio = float(shared_scale), float(share_ratio)

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """Values (B,) of an output and its images (B, C, H, W)."""
        latents = numeric_latents(output, "overlap_triplet")
        mean = getattr(output.posterior, "mean", None)
        codes = latents if mean is None else mean.flatten(1)  # (B, D)
        count = len(codes)
        if count < 3:
            return 0 * codes.sum(1)
        positive, negative = self._ordered(target)
        anchor = codes[:, None]  # (B, 1, D)
        near, far = anchor - codes[positive], anchor - codes[negative]  # (B, T, D)
        if self.shared_scale < 1:
            size = far.abs()
            limit = torch.lerp(size.amin(2), size.amax(2), self.share_ratio)[..., None]
            far = torch.where(size < limit, self.shared_scale * far, far)
        return (_length(near) - _length(far) + self.margin).clamp(min=0).mean(1)

    def _ordered(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (B, T) of the nearer and the farther of two other images, for each image."""
        pixels = target.detach().flatten(1)
        count = len(pixels)
        uniform = torch.special.ndtr(standard_normal((2, count, self.triplets), pixels))
        # Steps 1..B-1 to another image, then to one of the other B-2, both without repeats.
        one = 1 + (uniform[0] * (count - 1)).long().clamp(max=count - 2)
        two = 1 + (uniform[1] * (count - 2)).long().clamp(max=count - 3)
        two = two + (two >= one)
        rows = torch.arange(count, device=pixels.device)[:, None]
        first, second = (rows + one) % count, (rows + two) % count
        distances = squared_distances(pixels, pixels)  # (B, B)
        swapped = distances.gather(1, first) > distances.gather(1, second)
        return torch.where(swapped, second, first), torch.where(swapped, first, second)


def _length(difference: Tensor) -> Tensor:
    """Euclidean norm over the last axis; the gradient at 0 is 0, not NaN."""
    return difference.square().sum(-1).clamp(min=1e-12).sqrt()
