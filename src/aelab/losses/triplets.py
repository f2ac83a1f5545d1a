"""Triplets of images of a batch: latents shall be as near to each other as the images are."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, one_of
from aelab.losses.aggregate import squared_distances
from aelab.losses.draws import numeric_latents, standard_normal
from aelab.ops.factors import factors_of
from aelab.types import Images, Output


class _Triplets(nn.Module):
    """Triplet loss on latents of a batch; a subclass says which of two images is nearer.

    Args:
        margin, triplets, shared_scale, share_ratio, norm, averaged, shared_pull: see
            `FactorTriplet`.

    Attributes:
        term: name of the term, for messages.
    """

    term: ClassVar[str]

    #: It orders latents by the images, and says nothing of the reconstruction.
    of_latents = True

    def __init__(
        self,
        margin: float = 1.0,
        triplets: int = 4,
        shared_scale: float = 1.0,
        share_ratio: float = 0.5,
        norm: int = 2,
        averaged: bool = False,
        shared_pull: float = 0.0,
    ) -> None:
        super().__init__()
        for option, value, fits, possible in (
            ("margin", margin, margin >= 0, "0 or more"),
            ("triplets", triplets, triplets >= 1 and triplets == int(triplets), "1, 2.."),
            ("norm", norm, norm in (1, 2), "1 (absolute differences) or 2 (Euclidean)"),
            ("shared_scale", shared_scale, 0 <= shared_scale <= 1, "0 to 1"),
            ("share_ratio", share_ratio, 0 <= share_ratio <= 1, "0 to 1"),
            ("shared_pull", shared_pull, shared_pull >= 0, "0 or more"),
        ):
            if not fits:
                raise ConfigError(f"{self.term}: {option} is {value}; possible: {possible}")
        self.margin, self.triplets, self.norm = float(margin), int(triplets), int(norm)
        self.shared_scale, self.share_ratio = float(shared_scale), float(share_ratio)
        self.averaged, self.shared_pull = bool(averaged), float(shared_pull)

    def compared(self, output: Output, distances: Tensor) -> Tensor:
        """Values (B,) of an output, from the distances (B, B) of its images."""
        latents = numeric_latents(output, self.term)
        mean = getattr(output.posterior, "mean", None)
        codes = latents if mean is None else mean.flatten(1)  # (B, D)
        if len(codes) < 3:
            return 0 * codes.sum(1)
        near, far = _ordered(distances, self.triplets)  # rows (B, T)
        anchor = codes[:, None].expand(-1, self.triplets, -1)  # (B, T, D)
        values = self.values(anchor, codes[near], codes[far])
        # Of two images that are equally far, neither shall be nearer.
        differ = distances.gather(1, near) < distances.gather(1, far)
        return (values * differ).sum(1) / differ.sum(1).clamp(min=1)

    def values(self, anchor: Tensor, near: Tensor, far: Tensor) -> Tensor:
        """The loss (...) of triplets of codes (..., D)."""
        to_near, to_far = anchor - near, anchor - far
        shared_far = shared_dimensions(to_far.abs(), self.share_ratio)
        pull = anchor.new_zeros(anchor.shape[:-1])
        if self.shared_pull:
            for difference in (to_near, to_far, near - far):
                shared = shared_dimensions(difference.abs(), self.share_ratio)
                pull = pull + _length(difference * shared, 2) / 3
        if self.averaged:
            to_near, to_far = self._averaged(anchor, near, far)
        elif self.shared_scale < 1:
            to_far = torch.where(shared_far, self.shared_scale * to_far, to_far)
        difference = _length(to_near, self.norm) - _length(to_far, self.norm)
        return (difference + self.margin).clamp(min=0) + self.shared_pull * pull

    def _averaged(self, anchor: Tensor, near: Tensor, far: Tensor) -> tuple[Tensor, Tensor]:
        """Differences after each code became the mean of its versions shared with the two others.

        A version shared with another code has the mean of both in their shared dimensions.
        """

        def version(own: Tensor, other: Tensor) -> Tensor:
            shared = shared_dimensions((own - other).abs(), self.share_ratio)
            return torch.where(shared, (own + other) / 2, own)

        def of(own: Tensor, first: Tensor, second: Tensor) -> Tensor:
            return (version(own, first) + version(own, second)) / 2

        mean = of(anchor, near, far)
        return mean - of(near, anchor, far), mean - of(far, anchor, near)


class OverlapTriplet(_Triplets):
    """Triplet loss on latents, with the order of distances taken from the pixels (DOT-VAE).

    As `FactorTriplet`, but the nearer of two images is the one with the smaller squared difference
    of pixels. It needs no factors.

    Args:
        margin, triplets, shared_scale, share_ratio, norm, averaged, shared_pull: see
            `FactorTriplet`.

    Returns:
        Called with (output, target), (B,), means over the triplets of each image; at least 0.

    Source: order by overlap of pixels: Michlo et al. 2022, arXiv:2202.13341; the adaptive form: the
        library disent, `DataOverlapTripletVae`.
    """

    term = "overlap_triplet"

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """Values (B,) of an output and its images (B, C, H, W)."""
        pixels = target.detach().flatten(1)
        return self.compared(output, squared_distances(pixels, pixels))


class FactorTriplet(_Triplets):
    """Triplet loss on latents, with the order of distances taken from known factors (TVAE, TAE).

    Every image is an anchor a. Of two random other images of the batch, the one with the nearer
    factors is the positive p, the other the negative n. The value is
    max(0, |a - p| - |a - n| + margin) for their codes: means of posteriors, or latents. Triplets
    whose two images are equally far are left out.

    Three adaptive forms treat dimensions in which two codes differ little as shared by them, so
    that large differences gather in few dimensions: `shared_scale`, `averaged`, `shared_pull`.

    Args:
        margin: by how much the negative shall be farther, in units of the latent; at least 0.
        triplets: T, of each image, at least 1; a larger batch costs B * B distances.
        shared_scale: factor of the shared dimensions of a - n, 0..1; 1 is the plain triplet loss.
            disent's Ada-TVAE has 0.95; with 0 they do not count.
        share_ratio: a dimension is shared if its difference is below this position between the
            least and the greatest over the dimensions, 0..1.
        norm: 1 (absolute differences) or 2 (Euclidean distance).
        averaged: whether codes are compared after averaging their shared dimensions over the
            triplet (disent's AveAda-TVAE); `shared_scale` then has no effect.
        shared_pull: weight of the mean Euclidean length of the shared dimensions of a - p, a - n
            and p - n, which is added (the soft form of disent's Ada-TVAE).
        distance: `scaled`: sum over the factors of the absolute difference, divided by the
            greatest one in the training set; for factors with an order. `count`: number of
            factors that differ; for classes and colours.

    Returns:
        Called with (output, target, factors), (B,), means over the triplets of each image; at least
        0. A batch of fewer than three images has the value 0.

    Raises:
        ConfigError: an option out of its range; the model has no latent of numbers; `scaled`
            before `prepare`.

    Source: triplet loss: Schroff et al. 2015, arXiv:1503.03832, equation 3; for a VAE: Ishfaq et
        al. 2018, arXiv:1802.04403; adaptive forms and the order by factors: the library disent,
        `AdaNegTripletVae`, `AdaTripletVae` (its version 0.4) and `GroundTruthDistSampler`; shared
        dimensions: Locatello et al. 2020, arXiv:2002.02886.
    """

    term = "factor_triplet"
    needs_factors = True

    def __init__(
        self,
        margin: float = 1.0,
        triplets: int = 4,
        shared_scale: float = 1.0,
        share_ratio: float = 0.5,
        norm: int = 2,
        averaged: bool = False,
        shared_pull: float = 0.0,
        distance: Literal["scaled", "count"] = "scaled",
    ) -> None:
        options = shared_scale, share_ratio, norm, averaged, shared_pull
        super().__init__(margin, triplets, *options)
        if distance not in ("scaled", "count"):
            raise ConfigError(
                f"factor_triplet: distance is {distance!r}; possible: {one_of(('count', 'scaled'))}"
            )
        self.distance = distance
        self._spans: Tensor | None = None

    def prepare(self, images: Images) -> None:
        """Reads the greatest difference of each factor from the training images."""
        factors = factors_of(images)
        if factors is not None:
            self._spans = (factors.amax(0) - factors.amin(0)).clamp(min=1)  # (F,)

    def forward(self, output: Output, target: Tensor, factors: Tensor) -> Tensor:
        """Values (B,) of an output, its images (B, C, H, W) and their factors (B, F)."""
        return self.compared(output, self.distances(factors))

    def distances(self, factors: Tensor) -> Tensor:
        """Distances (B, B) of factors (B, F), in 0..F."""
        apart = (factors[:, None] - factors).abs()  # (B, B, F)
        if self.distance == "count":
            return apart.sign().sum(2).float()
        if self._spans is None:
            if len(factors) < 3:  # no triplet: a trial before there are images
                return apart.sum(2).float()
            raise ConfigError(
                "factor_triplet does not know the range of the factors",
                hint="call objective.prepare(images) before the first batch",
            )
        # Rounded, because 1/3 + 1/3 must equal 2/3.
        return (apart / self._spans.to(factors.device)).sum(2).mul(1e5).round() / 1e5


def shared_dimensions(difference: Tensor, ratio: float) -> Tensor:
    """Which dimensions (..., D) of non-negative differences count as shared.

    Those below `ratio` of the way from the least to the greatest. The greatest never is.

    Source: Locatello et al. 2020, arXiv:2002.02886, equation 5 (there the ratio is 1/2).
    """
    limit = torch.lerp(difference.amin(-1), difference.amax(-1), ratio)[..., None]
    return difference < limit


def _ordered(distances: Tensor, triplets: int) -> tuple[Tensor, Tensor]:
    """Rows (B, T) of the nearer and the farther of two other images, for each image."""
    count = len(distances)
    uniform = torch.special.ndtr(standard_normal((2, count, triplets), distances))
    # Steps 1..B-1 to another image, then to one of the other B-2, both without repeats.
    one = 1 + (uniform[0] * (count - 1)).long().clamp(max=count - 2)
    two = 1 + (uniform[1] * (count - 2)).long().clamp(max=count - 3)
    two = two + (two >= one)
    rows = torch.arange(count, device=distances.device)[:, None]
    first, second = (rows + one) % count, (rows + two) % count
    swapped = distances.gather(1, first) > distances.gather(1, second)
    return torch.where(swapped, second, first), torch.where(swapped, first, second)


def _length(difference: Tensor, norm: int) -> Tensor:
    """Length over the last axis; the gradient of the Euclidean one is 0 at 0, not NaN."""
    if norm == 1:
        return difference.abs().sum(-1)
    return difference.square().sum(-1).clamp(min=1e-12).sqrt()
