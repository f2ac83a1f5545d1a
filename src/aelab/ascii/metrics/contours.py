"""Contours of the shapes in ASCII pictures, after joining near strokes, and their agreement.

A drawn outline is a row of strokes with gaps; edge filters respond to every stroke separately. Here
ink is dilated until neighbours touch and eroded almost back (a closing that leaves a seam where
strokes met), and solid areas are reduced to their border.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.errors import ShapeError

#: Least ink that counts: 0 is white paper, 1 is black.
LEAST_INK = 0.25
#: Radius of the dilation in heights of a cell. From 0.55 on, the outline drawn in document 002 is
#: in one piece, at every size of DejaVu Sans Mono from 7 to 16 pixels.
REACH_CELLS = 0.6
#: Width that remains on both sides of a stroke after the closing, in heights of a cell.
SEAM_CELLS = 0.12
#: Greatest distance at which a contour counts as found, in heights of a cell.
TOLERANCE_CELLS = 0.5


def contours(
    pictures: Tensor,
    cell_pixels: int,
    reach_cells: float = REACH_CELLS,
    seam_cells: float = SEAM_CELLS,
) -> Tensor:
    """Finds the outlines of the shapes in drawn text.

    Ink is dilated by a disk of `reach_cells` and eroded by one that is `seam_cells` smaller: single
    points up to 2 sqrt(2 reach seam - seam^2) apart become one stroke (0.72 cells by default),
    parallel strokes up to twice the reach become one area. A plain closing erodes by the whole disk
    and separates strokes again that meet at a corner. Areas wider than a reach are reduced to their
    border.

    Args:
        pictures: (B, 1, H, W) in 0..1, 1 is paper.
        cell_pixels: height of a character's cell, the unit of the other two.
        reach_cells: radius of the dilation.
        seam_cells: difference between the radii of the dilation and of the erosion.

    Returns:
        (B, 1, H, W) bool, true on contours.

    Raises:
        ShapeError: the pictures are not (B, 1, H, W).

    Source: Serra 1982, Image Analysis and Mathematical Morphology, chapter II (dilation, erosion,
        closing); Gonzalez & Woods 2018, Digital Image Processing, sections 9.3 and 9.5 (closing,
        boundary as a set minus its erosion).
    """
    if pictures.ndim != 4 or pictures.shape[1] != 1:
        raise ShapeError(
            f"contours are of drawn pictures (B, 1, H, W), not of {tuple(pictures.shape)}"
        )
    reach = reach_cells * cell_pixels
    margin = math.ceil(reach) + 1  # paper around, so that ink at the border gets an outline
    ink = F.pad(1 - pictures >= LEAST_INK, (margin,) * 4)
    joined = within(ink, reach)
    shapes = ~within(~joined, reach - seam_cells * cell_pixels)
    outlines = shapes & within(~shapes, max(2, reach / 2))
    return outlines[..., margin:-margin, margin:-margin]


def within(mask: Tensor, distance_pixels: float) -> Tensor:
    """The pixels within a distance of the mask: its dilation by a disk.

    Outside the picture the mask is empty. The distance is exact and Euclidean, computed along rows
    and then along columns: 4 r minima of whole tensors.

    Args:
        mask: (..., H, W) bool.
        distance_pixels: radius r of the disk, 0 or more.

    Returns:
        (..., H, W) bool.

    Source: Felzenszwalb & Huttenlocher 2012, Distance Transforms of Sampled Functions, Theory of
        Computing 8(19), section 2 (one axis after the other), cut off at r.
    """
    radius = math.floor(distance_pixels)
    if radius == 0:
        return mask.clone()
    # uint8 can hold the squares up to a radius of 11, and needs a quarter of the memory traffic.
    kind, most = (torch.uint8, 255) if 2 * distance_pixels**2 < 255 else (torch.int32, 2**30)
    far = torch.tensor(most - radius**2, dtype=kind, device=mask.device)
    distance = torch.where(mask, torch.zeros_like(far), far)
    for axis in (-1, -2):
        distance = _nearest_along(distance, radius, axis)
        distance = torch.minimum(distance, far)
    return distance <= math.floor(distance_pixels**2)


def _nearest_along(squares: Tensor, radius: int, axis: int) -> Tensor:
    """min over shifts s of squares + s^2 along an axis, |s| <= radius."""
    nearest, size = squares.clone(), squares.shape[axis]
    for shift in range(1, min(radius, size - 1) + 1):
        moved = squares + shift**2
        for target, source in ((shift, 0), (0, shift)):
            here = nearest.narrow(axis, target, size - shift)
            torch.minimum(here, moved.narrow(axis, source, size - shift), out=here)
    return nearest


def connected_components(mask: Tensor) -> Tensor:
    """Numbers the connected parts of a mask; pixels that touch at a corner are connected.

    Each pixel takes the largest number around it, then that number's own number, so that a long
    line takes about log(length) rounds instead of its length.

    Args:
        mask: (B, 1, H, W) bool, H W < 2^24.

    Returns:
        (B, 1, H, W) int64: 0 outside; inside a number 1..H W that all pixels of a part share and
        those of no other part of this picture have.

    Source: label propagation with pointer jumping, Shiloach & Vishkin 1982, An O(log n) parallel
        connectivity algorithm, Journal of Algorithms 3(1).
    """
    first = torch.arange(1, mask[0].numel() + 1, device=mask.device, dtype=torch.float32)
    labels = first.reshape(1, *mask.shape[1:]) * mask
    while True:
        around = F.max_pool2d(labels, 3, stride=1, padding=1) * mask
        # What a pixel's old number stands for learns too: the pixel after which it is called.
        roots = F.pad(first, (1, 0)).expand(len(mask), -1)
        roots = roots.scatter_reduce(1, labels.flatten(1).long(), around.flatten(1), "amax")
        around = roots.gather(1, around.flatten(1).long()).reshape(mask.shape) * mask
        if torch.equal(around, labels):
            return labels.long()
        labels = around


def count_components(mask: Tensor) -> Tensor:
    """(B, 1, H, W) bool -> (B,) int64, the number of connected parts of each."""
    labels = connected_components(mask).flatten(1)
    seen = labels.new_zeros(len(labels), labels.shape[1] + 1).scatter_(1, labels, 1)
    return seen[:, 1:].sum(1)


def contour_agreement(
    original: Tensor,
    reconstruction: Tensor,
    cell_pixels: int,
    tolerance_cells: float = TOLERANCE_CELLS,
) -> Tensor:
    """The agreement of the contours of two drawn pictures: the boundary F-measure.

    Precision is the share of the reconstruction's contour within the tolerance of the original's,
    recall the share of the original's within the tolerance of the reconstruction's. The score is
    their harmonic mean. It is symmetric: exchanging the pictures exchanges precision and recall.
    Two blank pictures give 1, a blank one and another 0.

    Args:
        original, reconstruction: (B, 1, H, W) in 0..1, 1 is paper.
        cell_pixels: height of a character's cell.
        tolerance_cells: tolerance in heights of a cell.

    Returns:
        (B,) 0..1.

    Raises:
        ShapeError: the shapes differ.

    Source: Martin, Fowlkes & Malik 2004, Learning to Detect Natural Image Boundaries, IEEE TPAMI
        26(5), section 3.2; points are matched to the nearest within the tolerance, not one to one.
    """
    if original.shape != reconstruction.shape:
        raise ShapeError(
            f"contours of equal pictures are compared, not of {tuple(original.shape)} "
            f"and {tuple(reconstruction.shape)}"
        )
    wanted, found = contours(original, cell_pixels), contours(reconstruction, cell_pixels)
    return agreement(wanted, found, tolerance_cells * cell_pixels)


def agreement(wanted: Tensor, found: Tensor, tolerance_pixels: float) -> Tensor:
    """The score of `contour_agreement` for given contours (B, 1, H, W) bool."""
    recall = _share(wanted & within(found, tolerance_pixels), wanted)
    precision = _share(found & within(wanted, tolerance_pixels), found)
    score = 2 * precision * recall / (precision + recall).clamp(min=1e-12)
    blank = ~(wanted.flatten(1).any(1) | found.flatten(1).any(1))
    return torch.where(blank, torch.ones_like(score), score)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """(B,) float32 share of the whole's pixels that are in the part; 0 if the whole is empty."""
    return part.flatten(1).sum(1) / whole.flatten(1).sum(1).clamp(min=1)


def legacy_edges(pictures: Tensor, size: int = 15, sigma_pixels: float = 0.2) -> Tensor:
    """Document 002's edge filter: a sampled Laplacian of a Gaussian.

    With its sigma of 0.2 pixels, the kernel is essentially one number, -7.96, with 0.0003 beside
    it, so the "edges" were the negative of the picture. A sigma of 1 or more finds borders.

    Args:
        pictures: (B, 1, H, W); padded with 0, black.
        size: side of the kernel in pixels, odd.
        sigma_pixels: standard deviation of the Gaussian.

    Returns:
        (B, 1, H, W), without a fixed range.

    Source: document 002, "Running edge detection"; github.com/theAdamColton/ascii-autoencoder at
        66ea1d6 (size 15, sigma 0.2; size 11, sigma 0.9 later).
    """
    offsets = torch.arange(size, device=pictures.device, dtype=pictures.dtype) - size // 2
    squares = (offsets[:, None].square() + offsets[None, :].square()) / (2 * sigma_pixels**2)
    kernel = -(1 - squares) * torch.exp(-squares) / (math.pi * sigma_pixels**2)
    return F.conv2d(pictures, kernel[None, None], padding=size // 2)
