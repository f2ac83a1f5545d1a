"""Conversion of images to overlapping patches and back, for any patch size, stride and size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aelab.errors import ShapeError
from aelab.models.attention import start_linear
from aelab.models.shapes import image_shape

#: Factor on the initial weights of the last layer. With 1, L1 on MNIST stays at that of the best
#: constant image (0.12) for 60,000 images; with 0.002 it is 0.054 after 20,000.
FIRST_PIXELS = 0.002
#: One size for both axes, or (height, width).
Size = int | tuple[int, int]


def pair(size: Size) -> tuple[int, int]:
    """(height, width) of a `Size`."""
    height, width = (size, size) if isinstance(size, int) else size
    return int(height), int(width)


class PatchGrid(NamedTuple):
    """The positions of the patches of an image, which is padded so that they cover it.

    Attributes:
        shape: (C, H, W) of the images.
        patch: (height, width) of a patch, pixels.
        stride: (down, right) between patches, pixels; at most the patch size.
        rows, columns: number of patches.
    """

    shape: tuple[int, int, int]
    patch: tuple[int, int]
    stride: tuple[int, int]
    rows: int
    columns: int

    @property
    def num_patches(self) -> int:
        """N, the number of patches."""
        return self.rows * self.columns

    @property
    def patch_numbers(self) -> int:
        """Numbers in one patch, all channels."""
        return self.shape[0] * self.patch[0] * self.patch[1]

    @property
    def padded(self) -> tuple[int, int]:
        """The size (height, width) that the patches cover."""
        counts = (self.rows, self.columns)
        sizes = zip(counts, self.patch, self.stride, strict=True)
        height, width = ((count - 1) * step + patch for count, patch, step in sizes)
        return height, width

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Padding (left, right, top, bottom) in pixels; an odd one goes right and below."""
        down, right = self.padded[0] - self.shape[1], self.padded[1] - self.shape[2]
        return right // 2, right - right // 2, down // 2, down - down // 2


def patch_grid(
    shape: Sequence[int], patch_size: Size, stride: Size | None, owner: str
) -> PatchGrid:
    """The smallest grid of patches that covers an image of `shape`; messages name `owner`.

    Args:
        shape: (C, H, W) of the images, of any size, even smaller than a patch.
        patch_size: pixels, at least 1.
        stride: pixels, 1 to `patch_size`; None: `patch_size`.

    Raises:
        ShapeError: the stride would skip pixels, or a size is below 1.
    """
    shape, patch = image_shape(shape, owner), pair(patch_size)
    steps = patch if stride is None else pair(stride)
    if min(*patch, *steps) < 1 or any(s > p for s, p in zip(steps, patch, strict=True)):
        raise ShapeError(
            f"{owner}: patch_size {patch_size} with stride {stride} leaves pixels out; "
            "possible: 1 <= stride <= patch_size",
            hint=f"use stride={min(patch)}, or leave it out",
        )
    sizes = zip(shape[1:], patch, steps, strict=True)
    # Rounded up, so that the last patch reaches the border or beyond; padding fills the rest.
    rows, columns = (max(0, -(-(size - p) // step)) + 1 for size, p, step in sizes)
    return PatchGrid(shape, patch, steps, rows, columns)


class SplitPatches(nn.Module):
    """Converts images to tokens: zero padding to the grid, then one linear map of each patch.

    Args:
        grid: where the patches lie.
        num_hidden: width of a token.
    """

    def __init__(self, grid: PatchGrid, num_hidden: int) -> None:
        super().__init__()
        self.padding = grid.padding
        # A convolution with the patches' stride is this linear map, without a copy of patches.
        self.linear = nn.Conv2d(grid.shape[0], num_hidden, grid.patch, grid.stride)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> tokens (B, N, hidden), row by row."""
        tokens: Tensor = self.linear(F.pad(images, self.padding))  # (B, hidden, rows, columns)
        return tokens.flatten(2).transpose(1, 2)


class JoinPatches(nn.Module):
    """Converts tokens to images: a linear map to pixels, mean of overlapping patches, cropping.

    Args:
        grid: where the patches lie.
        num_hidden: width of a token.

    Attributes:
        share: (1, 1, H', W'), 1 / number of patches that cover a pixel. So each pixel is the mean
            over its patches, and the patches of an image give back this image.
    """

    share: Tensor

    def __init__(self, grid: PatchGrid, num_hidden: int) -> None:
        super().__init__()
        self.grid = grid
        self.linear = nn.Linear(num_hidden, grid.patch_numbers)
        down = _cover(grid.rows, grid.patch[0], grid.stride[0])
        right = _cover(grid.columns, grid.patch[1], grid.stride[1])
        # The number of patches over a pixel is the product of those over its row and its column.
        share = 1 / (down.view(1, 1, -1, 1) * right.view(1, 1, 1, -1))
        self.register_buffer("share", share, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, hidden) -> (B, C, H, W)."""
        return self.fold(self.linear(tokens))

    @torch.no_grad()
    def start_black(self) -> None:
        """Initialises the linear map so that the first images are nearly black.

        Otherwise training first removes random patterns, and the latent suffers from it.
        """
        start_linear(self)
        self.linear.weight.mul_(FIRST_PIXELS)

    def fold(self, patches: Tensor) -> Tensor:
        """Patches (B, N, C*h*w), in the order of `torch.nn.Unfold` -> images (B, C, H, W)."""
        grid = self.grid
        # fold takes (B, C*h*w, N), and adds up overlapping patches.
        added = F.fold(patches.transpose(1, 2), grid.padded, grid.patch, stride=grid.stride)
        left, _, top, _ = grid.padding
        _, height, width = grid.shape
        return (added * self.share)[:, :, top : top + height, left : left + width]


class FlattenTokens(nn.Module):
    """A head with one linear layer over all tokens."""

    def __init__(self, num_patches: int, num_hidden: int, code_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_patches * num_hidden, code_size)
        start_linear(self)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N, hidden) -> (B, D)."""
        # (B, N, hidden) -> (B, N * hidden)
        features: Tensor = self.linear(tokens.flatten(1))
        return features


class SpreadTokens(nn.Module):
    """The inverse of `FlattenTokens`: one linear layer computes the token of every patch."""

    def __init__(self, num_patches: int, num_hidden: int, code_size: int) -> None:
        super().__init__()
        self.shape = (num_patches, num_hidden)
        self.linear = nn.Linear(code_size, num_patches * num_hidden)
        start_linear(self)

    def forward(self, latent: Tensor) -> Tensor:
        """(B, D) -> (B, N, hidden)."""
        tokens: Tensor = self.linear(latent)
        return tokens.reshape(latent.shape[0], *self.shape)


def _cover(count: int, patch: int, stride: int) -> Tensor:
    """Number of patches over each pixel of a line with `count` patches, (size,)."""
    cover = torch.zeros((count - 1) * stride + patch)
    for start in range(0, count * stride, stride):
        cover[start : start + patch] += 1
    return cover
