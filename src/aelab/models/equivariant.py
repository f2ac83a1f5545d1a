"""Convolutions that rotate and mirror with the image: the groups C4 and D4.

Turning the image turns each map and moves its group axis; nothing has to be learned for that.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import cache
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError, did_you_mean
from aelab.models.activations import Activation, make_activation
from aelab.models.residual import UNBOUNDED_START
from aelab.models.shapes import image_shape

CODES = ("equivariant", "invariant")


class Group(NamedTuple):
    """A group of changes of square images.

    Element g mirrors left and right if g >= 4, then turns by (g mod 4) quarters, as
    `torch.rot90(torch.flip(x, [-1]), g, [-2, -1])` does.

    Attributes:
        name: `c4` (turns by 90 degrees) or `d4` (also mirrored).
        order: |G|, 4 or 8.
    """

    name: str
    order: int

    def sources(self, element: int, size: int) -> list[int]:
        """For each pixel of the changed square, row by row, the pixel it comes from."""
        grid = [[row * size + column for column in range(size)] for row in range(size)]
        if element >= 4:
            grid = [row[::-1] for row in grid]
        for _ in range(element % 4):  # counter-clockwise: the last column becomes the first row
            grid = [list(row) for row in zip(*grid, strict=True)][::-1]
        return list(itertools.chain.from_iterable(grid))

    @cache  # noqa: B019  # a tuple of two values, which lives as long as the module
    def product(self, first: int, second: int) -> int:
        """The element that changes as `second` does, and then as `first` does."""
        of_first, of_second = self.sources(first, 3), self.sources(second, 3)
        both = [of_second[place] for place in of_first]
        return next(g for g in range(self.order) if self.sources(g, 3) == both)

    def inverse(self, element: int) -> int:
        """The element that undoes `element`."""
        return next(g for g in range(self.order) if self.product(g, element) == 0)


GROUPS = {"c4": Group("c4", 4), "d4": Group("d4", 8)}


def find_group(name: str) -> Group:
    """The group of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in GROUPS:
        near = did_you_mean(name, GROUPS)
        raise ConfigError(f"group must be 'c4' or 'd4', not {name!r}{near}")
    return GROUPS[name]


class GroupWeights(nn.Module):
    """Weights of a linear map between functions on G and a k x k square, one copy for each element.

    Copy g is the weights changed by g: their square is turned, and their group axis permuted.

    Args:
        group: G.
        fields_in, fields_out: numbers of functions.
        size: k.
        lifting: whether the inputs are plain images, without a group axis.
    """

    order: Tensor

    def __init__(
        self, group: Group, fields_in: int, fields_out: int, size: int, lifting: bool = False
    ) -> None:
        super().__init__()
        elements = range(group.order)
        axis = 1 if lifting else group.order
        self.weight = nn.Parameter(torch.empty(fields_out, fields_in, axis * size * size))
        # He et al. 2015: signals keep their variance through the layers and their ReLU.
        nn.init.normal_(self.weight, std=math.sqrt(2 / self.weight[0].numel()))
        rows = []
        for g in elements:
            turned, undo = group.sources(g, size), group.inverse(g)
            moved = [0] if lifting else [group.product(undo, h) for h in elements]
            rows.append([h * size * size + pixel for h in moved for pixel in turned])
        # (|G|, axis k k): which weight copy g has at each place. Not stored: it follows from sizes.
        self.register_buffer("order", torch.tensor(rows), persistent=False)

    def forward(self) -> Tensor:
        """(fields_out |G|, fields_in axis k k): all copies, ready for one product."""
        # (out, in, |G|, axis k k) -> (out, |G|, in, axis k k)
        copies = self.weight[:, :, self.order].transpose(1, 2)
        return copies.flatten(2).flatten(0, 1)


class GroupConv2d(nn.Module):
    """A convolution of maps on G; with `lifting`, of plain images.

    Args:
        group: G.
        fields_in, fields_out: maps are (B, fields |G|, H, W); plain images (B, fields, H, W).
        kernel_size: odd.
        lifting: whether the input is a plain image.

    Source: Cohen & Welling 2016, arXiv:1602.07576, equations 10 and 11.
    """

    def __init__(
        self,
        group: Group,
        fields_in: int,
        fields_out: int,
        kernel_size: int = 3,
        lifting: bool = False,
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise ShapeError(
                f"kernel_size {kernel_size} has no middle to turn around; it must be odd",
                hint=f"use kernel_size={kernel_size + 1}",
            )
        self.copies, self.kernel_size = group.order, kernel_size
        self.weights = GroupWeights(group, fields_in, fields_out, kernel_size, lifting)
        self.bias = nn.Parameter(torch.zeros(fields_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, fields_in |G|, H, W) or images (B, C, H, W) -> (B, fields_out |G|, H, W)."""
        kernel = self.weights().unflatten(1, (x.shape[1], self.kernel_size, self.kernel_size))
        # The same number for all elements: anything else would not turn with the image.
        bias = self.bias.repeat_interleave(self.copies)
        return F.conv2d(x, kernel, bias, padding=self.kernel_size // 2)


def halved(x: Tensor) -> Tensor:
    """Means that halve a map and commute with turns: (B, C, n, n) -> (B, C, ceil(n / 2), ...)."""
    if x.shape[-1] % 2 == 0:
        return F.avg_pool2d(x, 2)
    # An odd size has a middle pixel: windows of 3 around every second one are symmetric.
    return F.avg_pool2d(x, 3, stride=2, padding=1, count_include_pad=False)


def doubled(x: Tensor, size: int) -> Tensor:
    """Each pixel as a 2x2 square; for an odd size means of neighbours: (B, C, n, n) -> size."""
    batch, channels, height, width = x.shape
    wide = x[:, :, :, None, :, None].expand(-1, -1, -1, 2, -1, 2)
    wide = wide.reshape(batch, channels, 2 * height, 2 * width)
    # 2n - 1 means of neighbours are symmetric; leaving out a row would not be.
    return F.avg_pool2d(wide, 2, stride=1) if size % 2 else wide


def _sizes(shape: tuple[int, int, int], stages: int, owner: str) -> list[int]:
    if shape[1] != shape[2]:
        raise ShapeError(
            f"{owner}: {shape[1]}x{shape[2]} images change their size when turned by 90 degrees; "
            "they must be square",
            hint=f"use a square size, for instance .resize(({max(shape[1:])}, {max(shape[1:])}))",
        )
    sizes = [shape[1]]
    for _ in range(stages):
        sizes.append(-(-sizes[-1] // 2))
    return sizes


def _fields(code_size: int, group: Group, owner: str) -> int:
    if code_size < 1 or code_size % group.order:
        more = group.order * max(1, -(-code_size // group.order))
        raise ShapeError(
            f"{owner}: a code of {code_size} numbers cannot hold one for each of the {group.order} "
            f"changes of {group.name}; code_size must be a multiple of {group.order}",
            hint=f"use code_size={more}",
        )
    return code_size // group.order


class EncoderEquivariant(nn.Module):
    """Group convolutions to a code that turns with the image, or that does not change at all.

    `equivariant`: the code is `code_size / |G|` functions on G. Turning the image permutes the
    numbers of each function and changes nothing else. `invariant`: the greatest number of each of
    `code_size` functions. It is the same for all turned images, so no decoder can know how an image
    was turned: its pictures can be right at most for images that all have one orientation.

    Args:
        shape: (C, n, n) of the images.
        code_size: D, length of the code; for `equivariant` a multiple of |G|.
        channels: functions on G of each stage; a map is halved after each stage.
        group: `c4` (turns by 90 degrees, |G| = 4) or `d4` (also mirror images, |G| = 8).
        kernel_size: odd.
        code: `equivariant` or `invariant`.
        act_fn: after each convolution.

    Raises:
        ShapeError: images that are not square, or another `code_size` or `kernel_size`.
        ConfigError: unknown name.

    Source: Cohen & Welling 2016, arXiv:1602.07576.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"code_size", "shape"})

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        channels: Sequence[int] = (8, 16),
        group: str = "c4",
        kernel_size: int = 3,
        code: str = "equivariant",
        act_fn: Activation = "relu",
    ) -> None:
        super().__init__()
        self.shape, self.code_size = image_shape(shape, "EncoderEquivariant"), int(code_size)
        found = find_group(group)
        if code not in CODES:
            near = did_you_mean(code, CODES)
            raise ConfigError(f"code must be 'equivariant' or 'invariant', not {code!r}{near}")
        self.is_invariant, self.copies = code == "invariant", found.order
        fields = self.code_size
        if not self.is_invariant:
            fields = _fields(self.code_size, found, "EncoderEquivariant")
        size = _sizes(self.shape, len(channels), "EncoderEquivariant")[-1]
        widths = [self.shape[0], *channels]
        self.convolutions = nn.ModuleList(
            GroupConv2d(found, width_in, width_out, kernel_size, lifting=stage == 0)
            for stage, (width_in, width_out) in enumerate(itertools.pairwise(widths))
        )
        self.act = make_activation(act_fn) or nn.Identity()
        self.head = GroupWeights(found, channels[-1], fields, size)
        self.bias = nn.Parameter(torch.zeros(fields))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, n, n) -> features (B, D); of `equivariant`, all numbers of a function together."""
        maps = images
        for convolution in self.convolutions:
            maps = halved(self.act(convolution(maps)))
        # One window as large as the map: a linear layer, in which a turn becomes a permutation.
        codes: Tensor = F.linear(
            maps.flatten(1), self.head(), self.bias.repeat_interleave(self.copies)
        )
        if not self.is_invariant:
            return codes
        return codes.reshape(codes.shape[0], -1, self.copies).amax(2)


class DecoderEquivariant(nn.Module):
    """The mirror of `EncoderEquivariant`: permuted codes become turned images.

    The last maps are averaged over G. With an `equivariant` encoder of the same group the whole
    autoencoder commutes with turns: the reproduction of a turned image is the turned reproduction.

    Args:
        shape: (C, n, n) of the images.
        code_size: D, a multiple of |G|.
        channels: functions on G of each stage from the code on; a map is doubled after each stage.
        group, kernel_size, act_fn: as in `EncoderEquivariant`.
        activation_last_layer: of the image; None leaves it unbounded.

    Raises:
        ShapeError, ConfigError: as in `EncoderEquivariant`.

    Source: Cohen & Welling 2016, arXiv:1602.07576.
    """

    block_attributes: ClassVar[frozenset[str]] = EncoderEquivariant.block_attributes

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        channels: Sequence[int] = (16, 8),
        group: str = "c4",
        kernel_size: int = 3,
        act_fn: Activation = "relu",
        activation_last_layer: Activation = None,
    ) -> None:
        super().__init__()
        self.shape, self.code_size = image_shape(shape, "DecoderEquivariant"), int(code_size)
        found = find_group(group)
        fields = _fields(self.code_size, found, "DecoderEquivariant")
        self.sizes = _sizes(self.shape, len(channels), "DecoderEquivariant")[::-1]
        self.first_channels, self.copies = channels[0] * found.order, found.order
        # From the code to the map: the transpose of the encoder's head.
        self.head = GroupWeights(found, channels[0], fields, self.sizes[0])
        widths = [*channels, self.shape[0]]
        self.convolutions = nn.ModuleList(
            GroupConv2d(found, width_in, width_out, kernel_size)
            for width_in, width_out in itertools.pairwise(widths)
        )
        self.act = make_activation(act_fn) or nn.Identity()
        self.act_last = make_activation(activation_last_layer) or nn.Identity()
        with torch.no_grad():
            # The head's inputs are the code's numbers, not those of a map.
            self.head.weight.mul_(math.sqrt(self.head.weight[0].numel() / self.code_size))
            self.convolutions[-1].weights.weight.mul_(UNBOUNDED_START)  # type: ignore[operator, union-attr]

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, D) -> images (B, C, n, n)."""
        size = self.sizes[0]
        maps = (latent @ self.head()).unflatten(1, (self.first_channels, size, size))
        for convolution, size in zip(self.convolutions, self.sizes[1:], strict=True):
            maps = convolution(doubled(self.act(maps), size))
        images: Tensor = self.act_last(maps.unflatten(1, (-1, self.copies)).mean(2))
        return images
