"""Losses that compare histograms of pixel values: of documents, of whole images, of windows.

All but the local one ignore where in the image a value is. None of them is sufficient alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from aelab.errors import ConfigError, ShapeError, one_of
from aelab.losses.reconstruction import Reduction, huber, l1, l2, per_image, same_shape
from aelab.losses.soft_counts import check_bins, soft_counts, soft_histogram

#: Losses between two histograms, by name.
DISTANCES: dict[str, Callable[..., Tensor]] = {"l1": l1, "l2": l2, "huber": huber}

Metric = Literal["wasserstein", "l1"]


def histogram(
    reconstruction: Tensor,
    target: Tensor,
    reduction: Reduction = "mean",
    bins: int = 100,
    min: float = 0.0,
    max: float = 1.0,
    sigma: float = 100.0,
    normalize: bool | float = True,
    loss: str | Callable[..., Tensor] = "l1",
) -> Tensor:
    """Difference of the soft histograms of reconstruction and target, as in document 000.

    One histogram per image and channel, over all pixels. At its ends pixels that are exactly `min`
    or `max` count only half, see `soft_histogram`. Losses with different `bins` cannot be compared:
    raw counts shrink as 1 / bins.

    Args:
        reconstruction, target: (B, C, H, W).
        bins, min, max, sigma: of `soft_histogram`.
        normalize: True divides both histograms by H * W. A number p divides *both* by 1e-7 plus the
            p-norm of the histogram of the *reconstruction*, which is not symmetric. False compares
            raw counts, as the document does.
        loss: `l1`, `l2`, `huber`, or a function (reconstruction, target) -> (B,).
        reduction: over channels and bins.

    Returns:
        (B,), at least 0; 0 where each channel has the same values, at any places.

    Raises:
        ConfigError: an invalid option.
        ShapeError: the shapes differ, or are not those of images.

    Source: document 000, 2023-12-08.
    """
    images(reconstruction, target)
    counts = [
        # (B * C, H, W) rows -> (B, C, bins)
        soft_histogram(values.flatten(0, 1), bins, min, max, sigma).reshape(*values.shape[:2], bins)
        for values in (reconstruction, target)
    ]
    scale = _normalization(counts[0], normalize, num_pixels=target[0, 0].numel())
    if scale is not None:
        counts = [count / scale for count in counts]
    compare = _distance(loss)
    if isinstance(loss, str):
        return compare(*counts, reduction=reduction)
    return compare(*counts)


def histogram_distance(
    reconstruction: Tensor,
    target: Tensor,
    bins: int = 100,
    min: float = 0.0,
    max: float = 1.0,
    softness: float = 0.5,
    metric: Metric = "wasserstein",
) -> Tensor:
    """Distance between the distributions of values in each channel; every pixel counts fully.

    It differs from `histogram` in three ways:

    - The softness of bin edges is relative to the bin width, so more bins mean more detail.
    - The outermost bins are open, so the shares of all bins add up to 1 for any values.
    - By default shares are compared by the distance that mass must move (Wasserstein): bin width
      times the sum of |differences of the cumulative shares|, plus how much more the reconstruction
      lies outside of min..max. This has the unit of the images, does not shrink with `bins`, is at
      most about `l1`, and has a gradient at every distance.

    Args:
        reconstruction, target: (B, C, H, W).
        bins, min, max: bins of equal width between `min` and `max`.
        softness: 1 / (steepness of an edge * width of a bin); above 0.
        metric: `wasserstein`, or `l1`: half the sum of |differences of the shares|, 0..1.

    Returns:
        (B,), mean over channels; at least 0, and 0 for equal distributions.

    Raises:
        ConfigError: an invalid option.
        ShapeError: the shapes differ, or are not those of images.

    Source: Rubner et al. 2000, The earth mover's distance as a metric for image retrieval; by
        cumulative histograms as in Villani 2003, Topics in optimal transportation, section 2.2.
    """
    images(reconstruction, target)
    pair = [
        values.flatten(2).flatten(0, 1) for values in (reconstruction, target)
    ]  # (B * C, H * W)
    distance = _distribution_distance(pair[0], pair[1], bins, min, max, softness, metric)
    return per_image(distance.reshape(target.shape[:2]))


def local_histogram(
    reconstruction: Tensor,
    target: Tensor,
    windows: Sequence[int] = (4, 8),
    bins: int = 32,
    min: float = 0.0,
    max: float = 1.0,
    softness: float = 0.5,
    metric: Metric = "wasserstein",
) -> Tensor:
    """`histogram_distance` in overlapping square windows: values may move only within a window.

    Windows are half a window apart; the last ones end at the border, so every pixel
    lies in at least one. A window larger than the image is the image.

    Args:
        reconstruction, target: (B, C, H, W).
        windows: sides in pixels; the value is the mean over sizes, each the mean over its windows.
            Window 1 with metric `wasserstein` is nearly `l1`.
        bins, min, max, softness, metric: of `histogram_distance`.

    Returns:
        (B,), at least 0.

    Raises:
        ConfigError: no window, or an invalid option.
        ShapeError: the shapes differ, or are not those of images.
    """
    images(reconstruction, target)
    if not windows or any(isinstance(side, bool) or side < 1 for side in windows):
        raise ConfigError(f"windows must be one or more sides of at least 1, not {windows!r}")
    total = target.new_zeros(len(target))
    for side in windows:
        pair = [_windows(values, side) for values in (reconstruction, target)]
        rows = [values.flatten(0, 1) for values in pair]  # (B * windows * C, pixels)
        distance = _distribution_distance(rows[0], rows[1], bins, min, max, softness, metric)
        total = total + per_image(distance.reshape(pair[1].shape[:2]))
    return total / len(windows)


def images(reconstruction: Tensor, target: Tensor) -> None:
    """Raises a `ShapeError` unless both have the same shape (B, C, H, W), with pixels."""
    same_shape(reconstruction, target)
    if target.ndim != 4 or not target[:1].numel():
        raise ShapeError(
            f"this loss compares images (B, C, H, W), not {tuple(target.shape)}",
            hint="use l1 or l2 for other tensors",
        )


def _normalization(
    histogram: Tensor, normalize: bool | float, num_pixels: int
) -> Tensor | float | None:
    if normalize is True:
        return float(num_pixels)
    if not normalize:
        return None
    if isinstance(normalize, (int, float)) and normalize > 0:
        norm: Tensor = torch.linalg.vector_norm(histogram, float(normalize), dim=-1, keepdim=True)
        return norm + 1e-7
    raise ConfigError(f"normalize must be true, false or a number p above 0, not {normalize!r}")


def _distance(loss: str | Callable[..., Tensor]) -> Callable[..., Tensor]:
    if not isinstance(loss, str):
        return loss
    if loss not in DISTANCES:
        raise ConfigError(f"a histogram has no loss {loss!r}; possible: {one_of(DISTANCES)}")
    return DISTANCES[loss]


def _distribution_distance(
    values: Tensor, wanted: Tensor, bins: int, low: float, high: float, softness: float, metric: str
) -> Tensor:
    """Distances between the rows of two tensors (R, N), (R, M) -> (R,)."""
    if metric not in ("wasserstein", "l1"):
        raise ConfigError(f"metric must be 'wasserstein' or 'l1', not {metric!r}")
    check_bins(bins, low, high, softness)
    shares = [_shares(rows, bins, low, high, softness) for rows in (values, wanted)]
    difference = shares[0] - shares[1]
    if metric == "l1":
        return 0.5 * difference.abs().sum(-1)
    # The 1-D Wasserstein distance is the L1 distance of the cumulative distributions.
    width = (high - low) / bins
    moved = width * difference[:, :-1].cumsum(-1).abs().sum(-1)
    # Open bins do not see how far a value lies outside; this adds it.
    outside = [(low - values).relu().mean(-1) - (low - wanted).relu().mean(-1)]
    outside += [(values - high).relu().mean(-1) - (wanted - high).relu().mean(-1)]
    return moved + outside[0].abs() + outside[1].abs()


def _shares(rows: Tensor, bins: int, low: float, high: float, softness: float) -> Tensor:
    """Share of values in each bin, (R, N) -> (R, bins); the outermost bins are open."""
    edges = torch.linspace(low, high, bins + 1, dtype=rows.dtype, device=rows.device)
    infinity = edges.new_full((1,), float("inf"))
    edges = torch.cat([-infinity, edges[1:-1], infinity])
    return soft_counts(rows, edges, bins / (softness * (high - low))) / rows.shape[1]


def _windows(values: Tensor, side: int) -> Tensor:
    """Cuts images into windows: (B, C, H, W) -> (B, windows * C, pixels of a window)."""
    for axis in (2, 3):
        size = values.shape[axis]
        used = min(side, size)
        count = -(-(size - used) // max(1, used // 2)) + 1  # windows, half a window apart
        starts = [round(n * (size - used) / max(1, count - 1)) for n in range(count)]
        places = [start + offset for start in starts for offset in range(used)]
        # Repeats the overlaps, so that windows become plain blocks in the reshape below.
        index = torch.tensor(places, device=values.device)
        values = values.index_select(axis, index)
    height, width = (min(side, size) for size in (values.shape[2], values.shape[3]))
    batch, channels = values.shape[:2]
    # (B, C, rows of windows, h, columns of windows, w)
    parted = values.reshape(
        batch, channels, values.shape[2] // height, height, values.shape[3] // width, width
    )
    return parted.permute(0, 1, 2, 4, 3, 5).flatten(4).flatten(1, 3)
