"""Losses of drawn characters, pixel by pixel, against the true picture.

`relaxed` characters are drawn as weighted sums of glyphs, the true ones exactly. White paper is 1,
black ink 0. Losses on shapes instead of strokes are in `losses.shapes`.
"""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from aelab.ascii.losses.drawing import Drawn, RendererKind
from aelab.losses.reconstruction import Reduction, per_image
from aelab.losses.structure import ssim
from aelab.types import Output


class RenderedL1(Drawn):
    """Absolute difference of the drawn pictures; the term `rendered_l1`.

    Args:
        font_res, font_zoom, font, renderer: how characters are drawn; `losses.drawing.Drawn`.
        reduction: `mean` or `sum` over the pixels of an image.

    Source: document 002, commits cb2c7dd to 4dfffc0.
    """

    name = "rendered_l1"

    def __init__(
        self,
        font_res: int = 9,
        font_zoom: int | None = None,
        font: str | Path | None = None,
        renderer: RendererKind = "font",
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(font_res, font_zoom, font, renderer)
        self.reduction: Reduction = reduction

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,), 0..1 for `mean`."""
        return per_image(self.difference(output, target).abs(), self.reduction)


class RenderedL2(RenderedL1):
    """Squared difference of the drawn pictures; the term `rendered_l2`.

    Args:
        font_res, font_zoom, font, renderer, reduction: of `RenderedL1`.

    Source: document 002, from commit 20717f2 on (mean); 469523a and 9b3168b (sum, there over the
        batch too).
    """

    name = "rendered_l2"

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,), 0..1 for `mean`."""
        return per_image(self.difference(output, target).square(), self.reduction)


class RenderedSSIM(Drawn):
    """1 - structural similarity of the drawn pictures; the term `rendered_ssim`.

    Args:
        font_res, font_zoom, font, renderer: how characters are drawn; `losses.drawing.Drawn`.
        window: side in pixels, odd.
        sigma_pixels: of the window's Gaussian.

    Source: document 002, commit 333d74a (window 11, sigma 1.5); `losses.ssim` for the formula.
    """

    name = "rendered_ssim"

    def __init__(
        self,
        font_res: int = 9,
        font_zoom: int | None = None,
        font: str | Path | None = None,
        renderer: RendererKind = "font",
        window: int = 11,
        sigma_pixels: float = 1.5,
    ) -> None:
        super().__init__(font_res, font_zoom, font, renderer)
        self.window, self.sigma_pixels = window, sigma_pixels

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """The output of a model that writes, and images (B, 1, H, W) -> (B,), 0 to 2."""
        wanted = self.wanted(output, target)
        ours = wanted + self.difference(output, target)
        return ssim(ours, wanted, self.window, self.sigma_pixels)


#: Other names of these terms in old files.
RENDERED_MAE, RENDERED_MSE = "rendered_l1", "rendered_l2"
