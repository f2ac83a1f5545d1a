"""The Kali set: iterates p = |p| / p.p - parameter and shows the accumulated values as a colour.

All images of a call are rendered together: images with the same accumulation mode in one tensor,
those with most iterations first, so that finished images are at its end and can be left out.

Source: the `Kali2dDataset` of the documents' tool; the formula is by Kali (fractalforums.com).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from aelab.errors import DataError, did_you_mean, one_of
from aelab.ops.random import keyed_generator

#: Ways to accumulate the iterated values into one; a mode's number is its place here.
MODES = ("none", "mean", "max", "min", "submin", "alternate")

#: Images whose parameters are drawn together. Changing it would change all sets.
BLOCK = 256

#: Pixels of one tensor while rendering: few enough that its three planes fit into a core's cache.
_PIXELS = 1 << 15


@dataclass(frozen=True)
class Ranges:
    """The ranges from which the parameters of an image are drawn.

    Attributes:
        scale: least and greatest width of the picture; the draw is cubed, so small widths prevail.
        offset: least and greatest centre in each dimension.
        iterations: the least number, and an exclusive upper bound.
        modes: names of `MODES`, all equally likely.
        legacy_offset: draw offsets by the old, wrong formula `rand * (min - max) + min`.
    """

    scale: tuple[float, float] = (0.0, 2.0)
    offset: tuple[float, float] = (-2.0, 2.0)
    iterations: tuple[int, int] = (1, 37)
    modes: tuple[str, ...] = MODES
    legacy_offset: bool = False

    def checked(self) -> Ranges:
        """The same ranges, after checking them.

        Raises:
            DataError: for an unknown mode, or a least value above the greatest.
        """
        for mode in self.modes:
            if mode not in MODES:
                raise DataError(
                    f"no accumulation mode is called {mode!r}{did_you_mean(str(mode), MODES)}",
                    hint=f"possible: {one_of(MODES)}",
                )
        if not self.modes:
            raise DataError("accumulation_modes is empty", hint=f"possible: {one_of(MODES)}")
        for name in ("scale", "offset", "iterations"):
            least, most = getattr(self, name)
            if least > most:
                raise DataError(f"min_{name} {least} is above max_{name} {most}")
        if self.iterations[0] < 1 or self.scale[0] < 0:
            raise DataError("min_iterations starts at 1 and min_scale at 0")
        return self


class Parameters(NamedTuple):
    """The parameters of N images in D dimensions with C channels.

    Attributes:
        scale: (N,).
        offset: (N, D).
        parameter: (N, D), subtracted in each iteration.
        mode: (N,) int64, number in `MODES`.
        iterations: (N,) int64.
        out_weights: (N, D, C), weights from dimensions to channels.
    """

    scale: Tensor
    offset: Tensor
    parameter: Tensor
    mode: Tensor
    iterations: Tensor
    out_weights: Tensor

    def rows(self, rows: Tensor | slice) -> Parameters:
        """The parameters of some images."""
        return Parameters(*(value[rows] for value in self))


def draw_block(ranges: Ranges, seed: int, block: int, channels: int) -> Parameters:
    """The parameters of images `block * BLOCK` .. `(block + 1) * BLOCK - 1` of a seed.

    Unlike the old `i XOR seed`, different seeds share no images.
    """
    dims = max(3, channels)
    generator = keyed_generator(seed, "kali", block)
    uniform = torch.rand(BLOCK, 3 + 2 * dims + dims * channels, generator=generator)
    normal = torch.randn(BLOCK, dims, channels, generator=generator)
    low, high = ranges.offset
    # The order of the columns of `uniform` is part of every seed and must not change.
    scale = uniform[:, 0] ** 3 * (ranges.scale[1] - ranges.scale[0]) + ranges.scale[0]
    span = low - high if ranges.legacy_offset else high - low
    modes = torch.tensor([MODES.index(mode) for mode in ranges.modes])
    least, most = ranges.iterations
    iterations = (uniform[:, 2] * (most - least)).long() + least
    # Small scales are deep zooms and get up to 1 / scale more iterations.
    iterations = iterations + scale.clamp(min=1e-6).reciprocal().long()
    return Parameters(
        scale=scale,
        offset=uniform[:, 3 : 3 + dims] * span + low,
        parameter=uniform[:, 3 + dims : 3 + 2 * dims] * 1.2,
        mode=modes[(uniform[:, 1] * len(modes)).long()],
        iterations=iterations.clamp(least, most),
        out_weights=uniform[:, 3 + 2 * dims :].view(BLOCK, dims, channels) / 3**0.5 + 0.2 * normal,
    )


def render_kali(
    parameters: Parameters,
    size: tuple[int, int],
    *,
    aa: int = 0,
    exponent: float = 0.0,
    sin_frequency: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Renders pictures of the Kali set.

    Args:
        parameters: parameters of N images.
        size: (height, width).
        aa: mean of aa x aa renders shifted by fractions of a pixel; 0 and 1 mean one render.
        exponent: accumulate exp(-value * exponent) instead of the value; 0 turns it off.
        sin_frequency: then apply sin(value * sin_frequency); 0 turns it off.
        dtype: single precision, or double for comparisons.

    Returns:
        (N, C, H, W) in 0..1.
    """
    count, _, channels = parameters.out_weights.shape
    out = torch.empty(count, channels, size[0] * size[1], dtype=dtype)
    at_once = max(1, _PIXELS // (size[0] * size[1]))
    steps = max(1, aa)
    for rows in _alike(parameters, at_once):
        part = Parameters(
            *(v.to(dtype) if v.is_floating_point() else v for v in parameters.rows(rows))
        )
        total = torch.zeros(len(rows), channels, size[0] * size[1], dtype=dtype)
        for down in range(steps):
            for right in range(steps):
                shift = (down / steps / size[0], right / steps / size[1])
                gathered = _iterate(part, _places(part, size, shift), exponent, sin_frequency)
                # (D, n, H*W) and (n, D, C) -> (n, C, H*W)
                colour = torch.einsum("dnp,ndc->ncp", gathered, part.out_weights)
                total += colour.clamp_(0.0, 1.0)
        out[rows] = total / (steps * steps)
    return out.view(count, channels, *size)


def _alike(parameters: Parameters, at_once: int) -> list[Tensor]:
    """Groups of at most `at_once` row numbers with one mode, most iterations first."""
    groups: list[Tensor] = []
    for mode in range(len(MODES)):
        rows = (parameters.mode == mode).nonzero()[:, 0]
        order = parameters.iterations[rows].argsort(descending=True, stable=True)
        groups.extend(group for group in torch.split(rows[order], at_once) if len(group))
    return groups


def _places(part: Parameters, size: tuple[int, int], shift: tuple[float, float]) -> Tensor:
    """(D, N, H*W): the start point of each pixel; dimensions 0 and 1 are x and y, others 0."""
    count, dims = part.offset.shape
    dtype = part.offset.dtype
    places = torch.zeros(dims, count, *size, dtype=dtype)
    across = torch.linspace(-1.0, 1.0, size[1], dtype=dtype) if size[1] > 1 else torch.zeros(1)
    along = torch.linspace(-1.0, 1.0, size[0], dtype=dtype) if size[0] > 1 else torch.zeros(1)
    places[0] = across + shift[1]
    places[1] = along[:, None] + shift[0]
    places *= part.scale[:, None, None]
    # (N, D) -> (D, N, 1, 1)
    places += part.offset.T[:, :, None, None]
    return places.flatten(2)


def _iterate(part: Parameters, p: Tensor, exponent: float, sin_frequency: float) -> Tensor:
    """(D, N, P) accumulated values; overwrites `p`. Images are sorted by iterations, most first."""
    mode = MODES[int(part.mode[0])]
    counts = part.iterations.tolist()
    total = part.iterations.to(p.dtype)[:, None]
    start = {"min": total, "submin": total}.get(mode, torch.zeros_like(total))
    gathered = start.expand(p.shape).clone()
    subtract = part.parameter.T[:, :, None]
    dot = torch.empty_like(p[0])
    for step in range(counts[0]):
        # Sorted by iterations, so the unfinished images are the first `active`: a view, no copy.
        active = sum(count > step for count in counts)
        now = p[:, :active]
        if step:
            now -= subtract[:, :active]
        _fold(now, dot[:active])
        value = now
        if exponent:
            value = (value * -exponent).exp_()
        if sin_frequency:
            value = (value * sin_frequency).sin_()
        _gather(mode, gathered[:, :active], value, step)
    if mode in ("mean", "max", "submin"):
        return gathered / total
    if mode == "min":
        return gathered * total
    return gathered * (2.0 / total) if mode == "alternate" else gathered


def _fold(p: Tensor, dot: Tensor) -> None:
    """p = |p| / (p.p + 1e-6) in place; `dot` is a buffer for p.p."""
    torch.mul(p[0], p[0], out=dot)
    for dim in range(1, p.shape[0]):
        dot.addcmul_(p[dim], p[dim])
    # Avoids a division by 0; another value would change all images.
    dot += 1e-6
    p.abs_().div_(dot)


def _gather(mode: str, gathered: Tensor, value: Tensor, step: int) -> None:
    """Accumulates the value of one iteration into `gathered`, in place."""
    if mode == "none":
        gathered.copy_(value)
    elif mode == "mean":
        gathered += value
    elif mode == "max":
        torch.maximum(gathered, value, out=gathered)
    elif mode == "min":
        torch.minimum(gathered, value, out=gathered)
    elif mode == "submin":
        gathered -= torch.minimum(gathered, value)
    else:
        gathered.add_(value, alpha=-1.0 if step % 2 else 1.0)
