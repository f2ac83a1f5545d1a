"""Pixel positions and position codes, the inputs of an implicit decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError

#: (x0, y0, x1, y1): centres of the first and the last pixel of a rendered grid.
Region = tuple[float, float, float, float]

#: The whole image: -1..1 over the pixel centres of the default grid, ends included.
WHOLE: Region = (-1.0, -1.0, 1.0, 1.0)

#: How the average over a pixel's area is approximated; None: only its centre is evaluated.
AntiAlias = Literal["box", "gaussian"] | None


def pixel_positions(shape: tuple[int, int], region: Region, like: Tensor) -> Tensor:  # (H*W, 2)
    """The centres of the pixels of a grid, row by row.

    Args:
        shape: (H, W).
        region: opposite corners, ends included; with one pixel along an axis its first corner.
        like: tensor with the device and type of the result.

    Returns:
        (H*W, 2), x then y.
    """
    x0, y0, x1, y1 = region
    options = {"device": like.device, "dtype": like.dtype}
    x = torch.linspace(x0, x1, shape[1], **options)  # type: ignore[call-overload]
    y = torch.linspace(y0, y1, shape[0], **options)  # type: ignore[call-overload]
    # (H, W, 2): x varies along the columns, y along the rows
    grid = torch.stack((x.expand(shape[0], -1), y[:, None].expand(-1, shape[1])), dim=-1)
    return grid.reshape(-1, 2)


def pixel_size(shape: tuple[int, int], region: Region) -> tuple[float, float]:
    """The size (width, height) of one pixel of the grid, in the region's units.

    Negative if the region is reversed; the filters are even functions, so this does no harm.
    """
    x0, y0, x1, y1 = region
    # The region spans the pixel centres, so there are n - 1 steps between n pixels.
    return (x1 - x0) / max(shape[1] - 1, 1), (y1 - y0) / max(shape[0] - 1, 1)


def attenuation(frequencies: Tensor, size: tuple[float, float], anti_alias: AntiAlias) -> Tensor:
    """The factors by which averaging over a pixel weakens waves.

    A factor is the mean of sin(w.p + c) over the pixel, divided by the sine at its centre.

    Args:
        frequencies: (K, 2), radians per unit of position.
        size: (width, height) of a pixel.
        anti_alias: `box` averages over the pixel's rectangle (exact), `gaussian` with a normal
            density of the same variance, size^2 / 12; None gives ones.

    Returns:
        (K,), 1 at frequency 0; `gaussian` is in 0..1, `box` may fall to -0.22.

    Source: Barron et al. 2021, arXiv:2103.13415, equation 14 (the gaussian); the box is the
    elementary integral sin(u) / u with u = w * size / 2.
    """
    if anti_alias is None:
        return torch.ones_like(frequencies[:, 0])
    angle = frequencies * frequencies.new_tensor(size)  # (K, 2) radians across one pixel
    if anti_alias == "box":
        # torch.sinc(x) is sin(pi x) / (pi x): u = angle / 2.
        return torch.sinc(angle / (2 * math.pi)).prod(dim=1)
    # exp(-w^2 variance / 2) with the variance size^2 / 12.
    return torch.exp(-angle.square().sum(dim=1) / 24)


class PositionCode(nn.Module):
    """A code of positions made of waves: [p,] sin(w.p), [cos(w.p)].

    Args:
        frequencies: (K, 2), radians per unit of position.
        positions: whether the code starts with x and y.
        cosines: whether it ends with the cosines.
        anti_alias: how to attenuate waves by the area of a pixel, see `attenuation`.
        persistent: whether to store the frequencies with the weights, for random frequencies.

    Attributes:
        num_features: size of the code of one position.

    Raises:
        ConfigError: unknown `anti_alias`.
    """

    frequencies: Tensor

    def __init__(
        self,
        frequencies: Tensor,
        *,
        positions: bool,
        cosines: bool,
        anti_alias: AntiAlias = None,
        persistent: bool = False,
    ) -> None:
        super().__init__()
        if anti_alias not in (None, "box", "gaussian"):
            raise ConfigError(f"anti_alias must be 'box', 'gaussian' or None, not {anti_alias!r}")
        self.positions, self.cosines, self.anti_alias = positions, cosines, anti_alias
        self.register_buffer("frequencies", frequencies, persistent=persistent)
        self.num_features = 2 * positions + len(frequencies) * (1 + cosines)

    def forward(self, positions: Tensor, size: tuple[float, float]) -> Tensor:
        """Positions (P, 2) and the size (width, height) of a pixel -> codes (P, num_features)."""
        # Not a matrix product: autocast would compute it in bfloat16, with 8 bits of precision.
        angles = (positions[:, None, :] * self.frequencies).sum(dim=2)  # (P, K)
        waves = [angles.sin(), angles.cos()] if self.cosines else [angles.sin()]
        if self.anti_alias is not None:
            left = attenuation(self.frequencies, size, self.anti_alias)
            waves = [wave * left for wave in waves]
        return torch.cat([positions, *waves] if self.positions else waves, dim=1)

    def extra_repr(self) -> str:
        """Sizes and options, for `print(model)`."""
        return (
            f"{len(self.frequencies)} frequencies, {self.num_features} numbers, "
            f"anti_alias={self.anti_alias}"
        )


class SinePositions(PositionCode):
    """The position code of the documents: [x, y], sin(f x), sin(f y) for each f, then cosines.

    Args:
        freqs: f, radians per unit; the image is 2 units wide.
        cosines: False for the code of November 2023, which had only sines.
        anti_alias: as in `PositionCode`.
    """

    def __init__(
        self,
        freqs: Sequence[float] = (7, 17),
        cosines: bool = True,
        anti_alias: AntiAlias = None,
    ) -> None:
        diagonal = [axis for f in freqs for axis in ((float(f), 0.0), (0.0, float(f)))]
        super().__init__(
            torch.tensor(diagonal).reshape(-1, 2),
            positions=True,
            cosines=cosines,
            anti_alias=anti_alias,
        )


class FourierPositions(PositionCode):
    """Random Fourier features: sines and cosines in random directions, not only along the axes.

    Args:
        num_frequencies: K; a code has 2 K numbers.
        scale: standard deviation of the frequencies in cycles per image along each axis. The
            highest that a grid can show is half its pixels: 16 for 32 pixels. Large values cause
            noise between the trained pixels.
        seed: of the random frequencies, which are stored with the weights.
        anti_alias: as in `PositionCode`.

    Raises:
        ConfigError: no frequency, or a scale not above 0.

    Source: Tancik et al. 2020, arXiv:2006.10739, equation 5, section 6.1 (their positions are
    0..1, ours -1..1: hence pi instead of 2 pi).
    """

    def __init__(
        self,
        num_frequencies: int = 32,
        scale: float = 4.0,
        seed: int = 0,
        anti_alias: AntiAlias = None,
    ) -> None:
        if num_frequencies < 1 or scale <= 0:
            raise ConfigError(
                "FourierPositions: num_frequencies must be at least 1 and scale above 0, "
                f"not {num_frequencies} and {scale}"
            )
        here = torch.empty(0).device  # the default device, which may be meta
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(num_frequencies, 2, generator=generator, device="cpu")
        super().__init__(
            (drawn * (math.pi * scale)).to(here),
            positions=False,
            cosines=True,
            anti_alias=anti_alias,
            persistent=True,
        )


class LinearPositions(PositionCode):
    """x and y without a code, for networks with sines as activations (SIREN).

    Args:
        anti_alias: attenuates the sines of the first layer; an error for other activations.
    """

    def __init__(self, anti_alias: AntiAlias = None) -> None:
        super().__init__(torch.zeros(0, 2), positions=True, cosines=False, anti_alias=anti_alias)


#: Codes of positions by name: functions of (frequencies, anti_alias).
POSITIONS: dict[str, Callable[[Sequence[float], AntiAlias], PositionCode]] = {
    "sin_cos": lambda freqs, anti_alias: SinePositions(freqs, True, anti_alias),
    "sin": lambda freqs, anti_alias: SinePositions(freqs, False, anti_alias),
    "linear": lambda freqs, anti_alias: LinearPositions(anti_alias),
}


def bilinear_weights(positions: Tensor, cells: tuple[int, int]) -> Tensor:
    """Weights of bilinear interpolation from the cells of a coarse grid to positions.

    Args:
        positions: (P, 2), x and y; outside of -1..1 the border value is used.
        cells: (rows, columns) of the coarse grid; its outer centres are at -1 and 1.

    Returns:
        (P, rows*columns), each row at least 0 with sum 1; at most four are not 0.
    """
    shares = []
    for axis, count in ((1, cells[0]), (0, cells[1])):
        place = (positions[:, axis].clamp(-1, 1) + 1) * ((count - 1) / 2)  # 0..count-1
        centres = torch.arange(count, device=positions.device, dtype=positions.dtype)
        shares.append((1 - (place[:, None] - centres).abs()).clamp(min=0))  # (P, count), tents
    rows, columns = shares
    # (P, rows, 1) * (P, 1, columns) -> (P, rows * columns), row by row.
    return (rows[:, :, None] * columns[:, None, :]).flatten(1)


def checked_size(shape: Sequence[int], owner: str) -> tuple[int, int]:
    """(H, W) as checked integers; messages name `owner`.

    Raises:
        ShapeError: unless `shape` holds two positive integers.
    """
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ShapeError(
            f"{owner}: a shape must be (height, width), two positive integers, not {tuple(shape)}"
        )
    return sizes[0], sizes[1]
