"""Validation images that are nearly the same as a training image: noisy, lighter, moved, mirrored.

Sets differ in how alike their images are, so no fixed distance tells a copy. A copy is far nearer
than the next images are: the ratio test of Lowe (2004, doi:10.1023/B:VISI.0000029664.99615.94,
section 7.1), here against a farther neighbour, because there may be several copies.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from aelab.findings import Finding
from aelab.ops.augmented import floats
from aelab.ops.look import remembered, row_pieces
from aelab.types import Images

#: Compared at most: validation images, those of them that are moved and mirrored too, and training
#: images.
VALIDATION, CHANGED, TRAINING = 512, 64, 65_536
#: Images are compared at this size, in which noise and blur are small.
SIZE = 8
#: A copy's distance is at most this share of that of a later neighbour: the one after a hundredth
#: of the training images, within these bounds.
RATIO, NEIGHBOURS = 0.2, (16, 64)
#: So near a first neighbour is this rare among images that are spread evenly in as many directions.
RARE = 0.01
#: Its correlation with the image is at least this, at full size.
ALIKE = 0.95
#: Reported from this share of the compared images on, and from this number. The role-playing tiles
#: have 7 %: the same tile in other colours.
SHARE, FEW = 0.1, 5


def near_duplicate_findings(
    train: Images, validation: Images, names: tuple[str, str]
) -> list[Finding]:
    """A note about validation images that are nearly, but not exactly, training images."""
    found = near_duplicates(train, validation)
    if found is None:
        return []
    share, row, compared = found
    return [
        Finding(
            "note",
            "data-overlap",
            f"{names[1]}: about {share:.0%} of the images are nearly the same as an image of "
            f"{names[0]}: lighter, noisy, moved by a pixel or mirrored; image {row} for instance "
            f"({compared:,} images compared)",
            "split before images are changed or repeated, and keep changed copies on one side",
        )
    ]


def near_duplicates(train: Images, validation: Images) -> tuple[float, int, int] | None:
    """Share of validation images with a near copy, the first of them, and how many were compared.

    None if there are few, or if the sets cannot be compared. Exact copies do not count.
    """
    # Stored images may be larger than those of a batch, which are cropped at random.
    if train.pixels.shape[1:] != validation.pixels.shape[1:] or not train.medium.is_brightness:
        return None
    if len(train) <= 2 * NEIGHBOURS[0] or len(validation) < FEW:
        return None

    def find() -> tuple[float, int, int] | None:
        """The same, without the cache."""
        rows = _spread(len(validation), VALIDATION)
        images = floats(validation.pixels[rows])
        ours = _spread(len(train), TRAINING)
        known = _thumbnails(train, ours)
        near, is_exact = _copies(train, ours, known, images)
        copies = near & ~is_exact  # those are told by `shared_images`
        some = _spread(len(images), CHANGED)
        changed = torch.zeros(len(some), dtype=torch.bool)
        for change in CHANGES:
            changed |= _copies(train, ours, known, change(images[some]))[0] & ~is_exact[some]
        plain, moved = float(copies.float().mean()), float(changed.float().mean())
        if max(copies.sum() * (plain >= SHARE), changed.sum() * (moved >= SHARE)) < FEW:
            return None
        at = rows[copies] if plain >= moved else rows[some][changed]
        return max(plain, moved), int(at[0]), len(rows)

    if not (train.content_sha256 and validation.content_sha256):
        return find()
    key = ("near", train.content_sha256, validation.content_sha256)
    found: tuple[float, int, int] | None = remembered(key, find)
    return found


#: Changes that people make to images, (B, C, H, W) to the same.
CHANGES: tuple[Callable[[Tensor], Tensor], ...] = (
    lambda images: images.flip(-1),
    lambda images: images.flip(-2),
    lambda images: images.roll(1, -1),
    lambda images: images.roll(-1, -1),
    lambda images: images.roll(1, -2),
    lambda images: images.roll(-1, -2),
)


def _spread(count: int, most: int) -> Tensor:
    """Evenly spaced rows, at most `most`."""
    return torch.linspace(0, count - 1, min(count, most), dtype=torch.float64).long()


def _unit(images: Tensor) -> Tensor:
    """(B, ...) to (B, D): without mean and with length 1, so that brightness does not matter."""
    flat = images.flatten(1)
    flat = flat - flat.mean(1, keepdim=True)
    length: Tensor = torch.linalg.vector_norm(flat, dim=1, keepdim=True)
    return flat / length.clamp(min=1e-6)


def _thumbnail(images: Tensor) -> Tensor:
    height, width = images.shape[-2:]
    return _unit(adaptive_avg_pool2d(images, (min(SIZE, height), min(SIZE, width))))


def _thumbnails(images: Images, rows: Tensor) -> Tensor:
    pixels = images.pixels if len(rows) == len(images) else images.pixels[rows]
    # Small pieces, so that their floats use the same memory again: a third of the time.
    return torch.cat([_thumbnail(floats(part)) for _, part in row_pieces(pixels, 1 << 20)])


def _copies(train: Images, ours: Tensor, known: Tensor, images: Tensor) -> tuple[Tensor, Tensor]:
    """Whether each image has a near copy in the training set, and whether an exact one: (B,) both.

    Args:
        ours: rows of the training images that are compared.
        known: (N, D) their thumbnails.
    """
    least, most = NEIGHBOURS
    later = min(max(least, len(ours) // 100), most)
    wanted = torch.split(_thumbnail(images), 64)  # 64 x 65,536 numbers are 17 MB
    pairs = [(part @ known.T).topk(later, dim=1) for part in wanted]
    alike, at = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    apart = (2 - 2 * alike).clamp(min=0).sqrt()
    nearest = floats(train.pixels[ours[at[:, 0]]])
    correlation = (_unit(nearest) * _unit(images)).sum(1)
    has_content = images.flatten(1).std(1) > 1e-3  # even images are all alike
    limit = _limit(apart) * apart[:, -1]
    is_near = (apart[:, 0] < limit) & (correlation > ALIKE) & has_content
    return is_near, (nearest == images).flatten(1).all(1)


def _limit(apart: Tensor) -> float:
    """The greatest share of the last neighbour's distance that counts as a copy.

    In n directions the number of neighbours grows with the n-th power of the distance. The later
    half of the neighbours tells n (Levina and Bickel 2004, "Maximum likelihood estimation of
    intrinsic dimension"); with it follows how near the first of them is by chance.

    Args:
        apart: (B, k) distances, ascending.
    """
    growth = (apart[:, -1] / apart[:, apart.shape[1] // 2 - 1].clamp(min=1e-9)).log()
    directions = math.log(2) / max(float(growth.median()), 1e-3)
    each = 1 - (1 - RARE) ** (1 / (apart.shape[1] - 1))
    return min(RATIO, float(each ** (1 / directions)))
