"""Layers whose edges are learned functions: cubic splines (KAN) or polynomials (KAE)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError, did_you_mean
from aelab.models.activations import Activation, make_activation
from aelab.models.attention import start_linear
from aelab.models.reshaping import Reshape
from aelab.models.shapes import image_shape

#: Factor on the initial spline weights: the splines start nearly flat, as in the paper.
FIRST_SPLINES = 0.1
BASES = ("spline", "polynomial")


def cubic_splines(x: Tensor, intervals: int) -> Tensor:
    """The cubic B-splines of an even grid over -1..1, at x.

    Args:
        x: (...), any real.
        intervals: of the grid.

    Returns:
        (..., intervals + 3), at least 0; they add up to 1 for x in -1..1.

    Source: Liu et al. 2024, arXiv:2404.19756, section 2.2; closed form of the uniform cubic
    B-spline: Unser 1999, "Splines: a perfect fit for signal and image processing", equation 8.
    """
    # In units of the grid, spline k has its centre at k - 1 and is 0 beyond a distance of 2. The
    # closed form takes a few operations; the usual recursion builds all lower degrees first.
    centres = torch.arange(-1, intervals + 2, device=x.device, dtype=x.dtype)
    apart = ((x[..., None] + 1) * (intervals / 2) - centres).abs()  # (..., intervals + 3)
    wide, narrow = F.relu(2 - apart), F.relu(1 - apart)
    # Products, because a power with an exponent is slower.
    return (wide * wide * wide - 4 * narrow * narrow * narrow) / 6


class SplineLinear(nn.Module):
    """A layer of a Kolmogorov-Arnold network: output j is the sum over i of phi_ji(input i).

    phi(x) = w silu(x) + spline(tanh(x)), with a cubic spline over -1..1.

    B-splines, not Gaussians: each changes its function in four intervals only, they add up to 1,
    and they are those of the paper. On an even grid a cubic one is a closed form of a few products.
    The paper moves its grids after the inputs during training. Here tanh keeps every input on the
    grid, so that a layer has no state besides its weights.

    Args:
        num_in, num_out: numbers in and out.
        intervals: of the grid; a function has `intervals + 3` spline weights.

    Source: Liu et al. 2024, arXiv:2404.19756, equations 2.10 to 2.12.
    """

    def __init__(self, num_in: int, num_out: int, intervals: int = 5) -> None:
        super().__init__()
        if intervals < 1:
            raise ConfigError(f"intervals is {intervals}; possible: 1, 2.. (the paper has 5)")
        self.intervals = int(intervals)
        self.base = nn.Linear(num_in, num_out)
        # One product for all functions: (B, num_in * splines) with (num_out, num_in * splines).
        self.spline = nn.Linear(num_in * (self.intervals + 3), num_out, bias=False)
        start_linear(self.base)
        nn.init.normal_(self.spline.weight, std=FIRST_SPLINES / math.sqrt(num_in))

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_in) -> (B, num_out)."""
        splines = cubic_splines(x.tanh(), self.intervals)  # (B, num_in, splines)
        result: Tensor = self.base(F.silu(x)) + self.spline(splines.flatten(-2))
        return result


class PolynomialLinear(nn.Module):
    """A layer whose edges are polynomials: output j is b_j + the sum over i and p of c_jip x_i^p.

    Args:
        num_in, num_out: numbers in and out.
        degree: the greatest power; 1 is a linear layer.

    Source: Yu et al. 2024, "KAE: Kolmogorov-Arnold auto-encoder for representation learning",
    arXiv:2501.00420, section 3.
    """

    def __init__(self, num_in: int, num_out: int, degree: int = 3) -> None:
        super().__init__()
        if degree < 1:
            raise ConfigError(f"degree is {degree}; possible: 1, 2, 3..")
        self.degree = int(degree)
        self.linear = nn.Linear(num_in * self.degree, num_out)
        start_linear(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, num_in) -> (B, num_out)."""
        powers = [x]
        for _ in range(self.degree - 1):
            powers.append(powers[-1] * x)
        result: Tensor = self.linear(torch.cat(powers, dim=-1))
        return result


def _layers(
    widths: Sequence[int], basis: str, intervals: int, degree: int, act_fn: Activation
) -> list[nn.Module]:
    """A layer for each neighbouring pair of `widths`, and `act_fn` between two layers."""
    if basis not in BASES:
        near = did_you_mean(basis, BASES)
        raise ConfigError(f"basis must be 'spline' or 'polynomial', not {basis!r}{near}")
    layers: list[nn.Module] = []
    for num_in, num_out in itertools.pairwise(widths):
        act = make_activation(act_fn, in_place=True) if layers else None
        layers += [] if act is None else [act]
        layers.append(
            SplineLinear(num_in, num_out, intervals)
            if basis == "spline"
            else PolynomialLinear(num_in, num_out, degree)
        )
    return layers


class EncoderKAN(nn.Module):
    """An `EncoderMLP` whose weights are learned functions: KAN with splines, KAE with polynomials.

    A function of `spline` has `intervals + 4` weights, one of `polynomial` has `degree`. So take
    fewer hidden units than in an `EncoderMLP` of as many parameters.

    Args:
        shape: (C, H, W) of the images; pixels of 0..1 become -1..1 before the first layer.
        code_size: D, length of the result.
        hidden: width of each hidden layer.
        basis: `spline` or `polynomial`.
        intervals: of the grid of `spline`.
        degree: greatest power of `polynomial`.
        act_fn: between two layers. KAN has none; KAE has `sigmoid`, which keeps powers bounded.

    Raises:
        ConfigError: unknown basis, or a number below 1.

    Source: as for `SplineLinear` and `PolynomialLinear`.
    """

    block_attributes: ClassVar[frozenset[str]] = frozenset({"code_size", "layers", "shape"})

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        hidden: Sequence[int] = (32,),
        basis: str = "spline",
        intervals: int = 5,
        degree: int = 3,
        act_fn: Activation = None,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "EncoderKAN")
        self.code_size = int(code_size)
        widths = [math.prod(self.shape), *hidden, self.code_size]
        self.layers = nn.Sequential(*_layers(widths, basis, intervals, degree, act_fn))

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> features (B, D)."""
        features: Tensor = self.layers(2 * images.flatten(1) - 1)
        return features


class DecoderKAN(nn.Module):
    """The mirror of `EncoderKAN`.

    Args:
        shape, code_size, ...: as in `EncoderKAN`; `hidden` first layer first.
        activation_last_layer: after the last one; None leaves the output unbounded.

    Raises:
        ConfigError: as in `EncoderKAN`.
    """

    block_attributes: ClassVar[frozenset[str]] = EncoderKAN.block_attributes

    def __init__(
        self,
        shape: Sequence[int],
        code_size: int,
        hidden: Sequence[int] = (32,),
        basis: str = "spline",
        intervals: int = 5,
        degree: int = 3,
        act_fn: Activation = None,
        activation_last_layer: Activation = None,
    ) -> None:
        super().__init__()
        self.shape = image_shape(shape, "DecoderKAN")
        self.code_size = int(code_size)
        widths = [self.code_size, *hidden, math.prod(self.shape)]
        last = make_activation(activation_last_layer, in_place=True)
        self.layers = nn.Sequential(
            *_layers(widths, basis, intervals, degree, act_fn),
            *([] if last is None else [last]),
            Reshape(self.shape),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Latent (B, D) -> images (B, C, H, W)."""
        images: Tensor = self.layers(latent)
        return images
