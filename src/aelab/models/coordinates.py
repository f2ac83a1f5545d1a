"""Positions of pixels, and codes of positions: what an implicit decoder is asked with."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError

#: (x0, y0, x1, y1): centres of the first and the last pixel of a rendered grid.
Region = tuple[float, float, float, float]

#: The whole picture: -1..1 over the pixel centres of the default grid, ends included.
WHOLE: Region = (-1.0, -1.0, 1.0, 1.0)

#: How the average over a pixel's area is approximated; None asks at its centre only.
AntiAlias = Literal["box", "gaussian"] | None


def pixel_positions(shape: tuple[int, int], region: Region, like: Tensor) -> Tensor:  # (H*W, 2)
    """Centres of the pixels of a grid, row by row.

    Args:
        shape: (H, W).
        region: between which corners, ends included; an axis of one pixel takes the first.
        like: gives device and type.

    Returns:
        (H*W, 2), x then y.
    """
    x0, y0, x1, y1 = region
    options = {"device": like.device, "dtype": like.dtype}
    x = torch.linspace(x0, x1, shape[1], **options)  # type: ignore[call-overload]
    y = torch.linspace(y0, y1, shape[0], **options)  # type: ignore[call-overload]
    grid = torch.stack((x.expand(shape[0], -1), y[:, None].expand(-1, shape[1])), dim=-1)
    return grid.reshape(-1, 2)


def pixel_size(shape: tuple[int, int], region: Region) -> tuple[float, float]:
    """(width, height) of one pixel of the grid, in the region's units; at least two pixels assumed.

    Negative where the region runs backwards; the filters are even, so that it does not matter.
    """
    x0, y0, x1, y1 = region
    return (x1 - x0) / max(shape[1] - 1, 1), (y1 - y0) / max(shape[0] - 1, 1)


def attenuation(frequencies: Tensor, size: tuple[float, float], anti_alias: AntiAlias) -> Tensor:
    """What averaging over a pixel leaves of waves: the mean of sin(w.p + c) over the pixel, divided
    by the sine at its centre.

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
        return torch.sinc(angle / (2 * math.pi)).prod(dim=1)
    return torch.exp(-angle.square().sum(dim=1) / 24)


class PositionCode(nn.Module):
    """A code of positions made of waves: [p,] sin(w.p), [cos(w.p)].

    Args:
        frequencies: (K, 2), radians per unit of position.
        positions: begin with x and y themselves.
        cosines: end with the cosines.
        anti_alias: attenuate each wave by what the area of a pixel leaves of it.
        persistent: store the frequencies with the weights, because they were drawn at random.

    Attributes:
        num_features: numbers a position.

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
        """(P, 2) and the (width, height) of a pixel -> (P, num_features)."""
        # No matrix product: autocast would round the angles to 8 bits.
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
    """The documents' code: [x, y], sin(f x), sin(f y) for each f, then the cosines likewise.

    Args:
        freqs: f, radians per unit; the picture is 2 units wide.
        cosines: False for the code of November 2023, which had sines only.
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
    """Random Fourier features: sines and cosines in all directions, not along the axes only.

    Args:
        num_frequencies: K; 2 K numbers a position.
        scale: standard deviation of the frequencies in cycles per picture along each axis. The
            highest a grid can show is half its pixels: 16 for 32 pixels. Large values make noise
            between the pixels that were trained.
        seed: of the drawing; the frequencies are stored with the weights.
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
        here = torch.empty(0).device  # the meta device too
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
    """x and y as they are: for networks whose activations make the waves (SIREN).

    Args:
        anti_alias: attenuates the waves of a first layer of sines; refused for other activations.
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
    """Shares of the cells of a coarse grid in each position, whose product interpolates it.

    Args:
        positions: (P, 2), x and y; beyond -1..1 the border's value holds.
        cells: (rows, columns) of the coarse grid, whose outer centres lie on -1 and 1.

    Returns:
        (P, rows*columns), each row at least 0 with sum 1; at most four are not 0.
    """
    shares = []
    for axis, count in ((1, cells[0]), (0, cells[1])):
        place = (positions[:, axis].clamp(-1, 1) + 1) * ((count - 1) / 2)  # 0..count-1
        centres = torch.arange(count, device=positions.device, dtype=positions.dtype)
        shares.append((1 - (place[:, None] - centres).abs()).clamp(min=0))
    rows, columns = shares
    return (rows[:, :, None] * columns[:, None, :]).flatten(1)


def checked_size(shape: Sequence[int], owner: str) -> tuple[int, int]:
    """(H, W) as checked integers; `owner` is named in the message.

    Raises:
        ShapeError: unless `shape` holds two positive integers.
    """
    sizes = tuple(int(size) for size in shape)
    if len(sizes) != 2 or min(sizes) < 1:
        raise ShapeError(
            f"{owner}: a shape must be (height, width), two positive integers, not {tuple(shape)}"
        )
    return sizes[0], sizes[1]
