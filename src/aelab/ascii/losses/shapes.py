"""Losses of drawn characters on shapes instead of strokes.

Document 002: "Humans tend to blur together the parallel lines, picking out shapes and patterns
from the disjoint characters". Means over pixels do not: a stroke moved by one cell costs as much as
a missing and a superfluous stroke together. There are three remedies: blur both pictures, thicken
their strokes until they join, or compare edges.

Distances are in cells: heights of a cell vertically and widths horizontally.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from aelab.ascii.losses.drawing import Drawn, RendererKind
from aelab.errors import ConfigError, one_of
from aelab.losses.reconstruction import Reduction, per_image
from aelab.losses.sliding import slide
from aelab.losses.structure import gaussian_window, gradient
from aelab.types import Output

Morphology = Literal["dilation", "closing"]
Edges = Literal["laplacian", "gradient"]

_MORPHOLOGIES: tuple[Morphology, ...] = ("dilation", "closing")
_EDGES = ("laplacian", "gradient")
#: Least temperature: below it, exp((0 - 1) / temperature) underflows in float32.
_COLDEST = 0.02


class RenderedBlur(Drawn):
    """Squared difference of the blurred pictures, mean over scales; the term `rendered_blur`.

    Each Gaussian has the *norm* 1 instead of the sum 1: noise costs the same at every scale (as in
    `rendered_l2`), and an equal error over a wide area costs more at wide scales, up to
    4 pi sigma^2 times as much. With sum 1 the widest scales would hardly count. Blurring is
    linear, so only the difference is blurred.

    Args:
        font_res, font_zoom, font, renderer: how characters are drawn; a small font will do.
        sigmas: standard deviations of the Gaussians in cells, above 0; cut off at three sigmas.
        reduction: `mean` or `sum` over the pixels of an image.

    Raises:
        ConfigError: no sigma, or one that is not above 0.

    Source: document 002, "Image Loss"; the mean over widths of Gaussians is the squared maximum
        mean discrepancy of the two pictures' ink, Gretton et al. 2012, JMLR 13, eq. 3.
    """

    name = "rendered_blur"

    def __init__(
        self,
        font_res: int = 5,
        font_zoom: int | None = None,
        font: str | Path | None = None,
        renderer: RendererKind = "font",
        sigmas: Sequence[float] = (0.5, 1.0, 2.0),
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(font_res, font_zoom, font, renderer)
        self.sigmas = positive("sigmas", sigmas)
        self.reduction: Reduction = reduction

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,), at least 0."""
        difference = self.difference(output, target)
        total = difference.new_zeros(len(difference))
        for sigma in self.sigmas:
            down, across = (_unit_gaussian(sigma * size, difference) for size in self.cell)
            blurred = slide(difference, down, across, padded=True)
            total = total + per_image(blurred.square(), self.reduction)
        return total / len(self.sigmas)


class RenderedMorphology(Drawn):
    """Squared difference of pictures whose strokes were thickened; the term `rendered_morphology`.

    `dilation` is a soft maximum of the ink over a rectangle of `radius` cells in each direction:
    temperature * log(mean(exp(ink / temperature))). It lies between the mean and the maximum, at
    most temperature * log(pixels of the rectangle) below the latter. `closing` shrinks the result
    again by the same radius, which joins strokes nearer than two radii into one shape and leaves
    single ones thin. Windows end at the picture's edge.

    Args:
        font_res, font_zoom, font, renderer: how characters are drawn; a small font will do.
        radii: in cells, above 0; at least one pixel.
        operations: of `dilation` and `closing`; the value is the mean over them and over radii.
        temperature: 0.02 (nearly the maximum) and above.
        reduction: `mean` or `sum` over the pixels of an image.

    Raises:
        ConfigError: no radius or operation, unknown ones, too low a temperature.

    Source: document 002, "Image Loss" (dilation and erosion, made differentiable). Shit et al.
        2021, arXiv:2003.07311, section 3 (pooling as morphology in a loss); Kirszenberg et al.
        2021, arXiv:2102.10038 (smooth operators); Boyd & Vandenberghe 2004, section 3.1.5 (bounds).
    """

    name = "rendered_morphology"

    def __init__(
        self,
        font_res: int = 5,
        font_zoom: int | None = None,
        font: str | Path | None = None,
        renderer: RendererKind = "font",
        radii: Sequence[float] = (1.0,),
        operations: Sequence[Morphology] = _MORPHOLOGIES,
        temperature: float = 0.05,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(font_res, font_zoom, font, renderer)
        self.radii = positive("radii", radii)
        chosen = [operations] if isinstance(operations, str) else list(operations)
        if not chosen or any(operation not in _MORPHOLOGIES for operation in chosen):
            raise ConfigError(f"operations must be of {one_of(_MORPHOLOGIES)}, not {operations!r}")
        if not temperature >= _COLDEST:
            raise ConfigError(f"temperature must be at least {_COLDEST}, not {temperature!r}")
        self.operations = tuple(chosen)
        self.temperature = temperature
        self.reduction: Reduction = reduction

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,), at least 0."""
        wanted = self.wanted(output, target)
        difference = self.difference(output, target)
        ink = 1 - torch.cat([wanted + difference, wanted])
        total = difference.new_zeros(len(difference))
        for radius in self.radii:
            reach = tuple(max(1, round(radius * size)) for size in self.cell)
            thick = dilated(ink, reach, self.temperature)
            found = {"dilation": thick}
            if "closing" in self.operations:
                found["closing"] = 1 - dilated(1 - thick, reach, self.temperature)
            for operation in self.operations:
                ours, true = found[operation].chunk(2)
                total = total + per_image((ours - true).square(), self.reduction)
        return total / (len(self.radii) * len(self.operations))


class RenderedEdges(Drawn):
    """Difference of the pictures' edges; the term `rendered_edges`.

    Args:
        font_res, font_zoom, font, renderer: how characters are drawn; `losses.drawing.Drawn`.
        kind: `laplacian`, the squared difference after the document's filter, a sampled Laplacian
            of a Gaussian with zeros outside of the picture; or `gradient`, the absolute difference
            of the slopes (`losses.gradient`).
        size: side of the filter in pixels, odd.
        sigma_pixels: standard deviation of its Gaussian. The document's size 15 and sigma 0.2 find
            no edges: next to the centre the weights have fallen to 1/23000, so that the loss is 63
            times `rendered_l2`. Its later 11 and 0.9, the default here, find edges.
        reduction: `mean` or `sum` over the pixels of an image.

    Raises:
        ConfigError: unknown kind, an even size, a sigma that is not above 0.

    Source: document 002, commit 66ea1d6, `edge_detector.py`; Marr & Hildreth 1980 for the filter.
    """

    name = "rendered_edges"

    def __init__(
        self,
        font_res: int = 9,
        font_zoom: int | None = None,
        font: str | Path | None = None,
        renderer: RendererKind = "font",
        kind: Edges = "laplacian",
        size: int = 11,
        sigma_pixels: float = 0.9,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(font_res, font_zoom, font, renderer)
        if kind not in _EDGES:
            raise ConfigError(f"kind must be {one_of(_EDGES)}, not {kind!r}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 1 or size % 2 == 0:
            raise ConfigError(f"size must be an odd number of pixels, not {size!r}")
        if not sigma_pixels > 0:
            raise ConfigError(f"sigma_pixels must be above 0, not {sigma_pixels!r}")
        self.kind, self.size, self.sigma_pixels = kind, size, sigma_pixels
        self.reduction: Reduction = reduction

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,), at least 0."""
        difference = self.difference(output, target)
        if self.kind == "gradient":
            slopes = gradient(difference, torch.zeros_like(difference))
            pixels = difference[0].numel() if self.reduction == "sum" else 1
            return slopes * pixels
        edges = laplacian_of_gaussian(difference, self.size, self.sigma_pixels)
        return per_image(edges.square(), self.reduction)


def dilated(ink: Tensor, reach: Sequence[int], temperature: float) -> Tensor:
    """A soft maximum of the ink around each pixel; see `RenderedMorphology`.

    Args:
        ink: (B, 1, H, W), about 0..1.
        reach: (rows, columns) in each direction.
        temperature: `_COLDEST` and above.

    Returns:
        (B, 1, H, W), at most the maximum of `ink`; a constant picture is unchanged.
    """
    boxes = [torch.ones(2 * size + 1).to(ink) for size in reach]
    # Relative to 1, the darkest ink, so that nothing overflows.
    warm = torch.exp((ink - 1) / temperature)
    counted = slide(torch.ones_like(ink[:1]), *boxes, padded=True)
    mean = slide(warm, *boxes, padded=True) / counted
    return 1 + temperature * torch.log(mean)


def laplacian_of_gaussian(images: Tensor, size: int, sigma_pixels: float) -> Tensor:
    """-1 / (pi s^2) (1 - r^2 / (2 s^2)) exp(-r^2 / (2 s^2)) at whole pixels, zeros outside.

    With g = exp(-x^2 / (2 s^2)) and a = x^2 / (2 s^2) g of a single coordinate, the filter is
    g(y) g(x) - a(y) g(x) - g(y) a(x), up to its factor: two products of lines.

    Args:
        images: (B, 1, H, W).
        size: side of the filter, odd.
        sigma_pixels: s.

    Returns:
        (B, 1, H, W).
    """
    places = torch.arange(size).to(images) - size // 2
    scaled = places.square() / (2 * sigma_pixels**2)
    gauss = torch.exp(-scaled)
    bent = scaled * gauss
    edges = slide(images, gauss - bent, gauss, padded=True)
    edges = edges - slide(images, gauss, bent, padded=True)
    return edges * (-1 / (math.pi * sigma_pixels**2))


def positive(what: str, values: Sequence[float]) -> tuple[float, ...]:
    """The numbers of an option as a tuple; a single number is allowed.

    Raises:
        ConfigError: no number, or one that is not above 0; the message names `what`.
    """
    found = [values] if isinstance(values, (int, float)) else list(values)
    if not found or not all(isinstance(value, (int, float)) and value > 0 for value in found):
        raise ConfigError(f"{what} must be numbers above 0, not {values!r}")
    return tuple(float(value) for value in found)


def _unit_gaussian(sigma_pixels: float, like: Tensor) -> Tensor:
    """A 1-D Gaussian of odd length, cut off at three sigmas, with squares that sum to 1."""
    window = gaussian_window(2 * math.ceil(3 * sigma_pixels) + 1, sigma_pixels, like)
    return window / window.square().sum().sqrt()
