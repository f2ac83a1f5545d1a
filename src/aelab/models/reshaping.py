"""Modules that reshape tensors without computing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn

from aelab.errors import ShapeError
from aelab.models.shapes import shape_words


class Reshape(nn.Module):
    """Reshapes each image's numbers, in row-major order.

    Args:
        shape: (C, H, W) or any other shape without the batch axis.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(int(size) for size in shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, *shape)."""
        return x.reshape(x.shape[0], *self.shape)

    def extra_repr(self) -> str:
        """The shape, for `print(model)`."""
        return f"shape={self.shape}"


class FlattenPixels(nn.Module):
    """Flattens images pixel by pixel: (B, C, H, W) -> (B, H*W*C).

    Not channel by channel: convolutions are fastest in the channels-last memory format, in which
    this order needs no copy. The order is the same in every memory format, so a stored model gives
    the same results on every machine.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, H*W*C)."""
        # In channels-last memory this is a view; in contiguous memory `reshape` copies.
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1)


class UnflattenPixels(nn.Module):
    """The inverse of `FlattenPixels`: (B, H*W*C) -> (B, C, H, W).

    Args:
        shape: (C, H, W).
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.channels, self.height, self.width = (int(size) for size in shape)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H*W*C) -> (B, C, H, W)."""
        x = x.reshape(x.shape[0], self.height, self.width, self.channels)
        return x.permute(0, 3, 1, 2)  # a channels-last view, no copy

    def extra_repr(self) -> str:
        """The shape, for `print(model)`."""
        return f"shape=({self.channels}, {self.height}, {self.width})"


class SpaceToDepth(nn.Module):
    """Moves 2x2 squares of pixels to channels: (B, C, H, W) -> (B, 4C, H/2, W/2).

    The four blocks of C channels are the pixels with (row, column) parity (0,0), (1,0), (0,1),
    (1,1), in this order (`torch.nn.PixelUnshuffle` interleaves them by channel instead).

    Raises:
        ShapeError: in `forward`, if height or width is odd.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4C, H/2, W/2)."""
        batch, channels, height, width = x.shape
        if height % 2 or width % 2:
            raise ShapeError(f"SpaceToDepth needs even sizes, not {shape_words((height, width))}")
        # (B, C, H/2, row parity, W/2, column parity)
        x = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
        x = x.permute(0, 5, 3, 1, 2, 4)  # (B, column parity, row parity, C, H/2, W/2)
        return x.reshape(batch, 4 * channels, height // 2, width // 2)


class DepthToSpace(nn.Module):
    """The exact inverse of `SpaceToDepth`: (B, 4C, H, W) -> (B, C, 2H, 2W).

    Raises:
        ShapeError: in `forward`, if the number of channels is not a multiple of four.
    """

    def __init__(self) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        """(B, 4C, H, W) -> (B, C, 2H, 2W)."""
        batch, channels, height, width = x.shape
        if channels % 4:
            raise ShapeError(f"DepthToSpace needs a multiple of 4 channels, not {channels}")
        x = x.reshape(batch, 2, 2, channels // 4, height, width)  # (B, column, row parity, C, H, W)
        x = x.permute(0, 3, 4, 2, 5, 1)  # (B, C, H, row parity, W, column parity)
        return x.reshape(batch, channels // 4, 2 * height, 2 * width)


class SpaceToDepthPool(nn.Module):
    """Halves height and width by `SpaceToDepth`, then a 1x1 convolution restores the channels.

    Args:
        channels: of input and output.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"mix"})

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.space_to_depth = SpaceToDepth()
        self.mix = nn.Conv2d(4 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H/2, W/2)."""
        mixed: Tensor = self.mix(self.space_to_depth(x))
        return mixed
