"""Draws the written characters for losses, once for all terms of an objective."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from aelab.ascii.glyphs import FontRenderer, font_renderer, learned_renderer
from aelab.ascii.losses.characters import cells
from aelab.errors import ConfigError, one_of
from aelab.losses.sharing import once
from aelab.types import Images, Output

#: `font`: weighted sums of glyphs. `learned`: a small network trained to draw like the font.
RendererKind = Literal["font", "learned"]

_KINDS = ("font", "learned")

#: A glyph whose darkest pixel has less ink counts as blank.
_FAINT = 0.02


class Drawn(nn.Module):
    """Base of the terms that compare pictures of characters.

    Args:
        font_res, font_zoom, font: of `aelab.ascii.glyphs.FontRenderer`.
        renderer: `font`, or `learned` (document 002's onehot2raa), which is trained, or read from
            the cache, before the first batch.

    Raises:
        ConfigError: unknown renderer; a font that cannot be drawn.
    """

    #: The term's name, for messages.
    name = "drawn"

    def __init__(
        self,
        font_res: int = 9,
        font_zoom: int | None = None,
        font: str | Path | None = None,
        renderer: RendererKind = "font",
    ) -> None:
        super().__init__()
        if renderer not in _KINDS:
            raise ConfigError(f"renderer must be {one_of(_KINDS)}, not {renderer!r}")
        self.font_res, self.font_zoom, self.font = font_res, font_zoom, font
        self.renderer = renderer
        self.font_renderer: FontRenderer = font_renderer(font_res, font_zoom, font)
        self.learned: nn.Module | None = None
        ink = 1 - self.font_renderer.atlas.flatten(1)
        #: Numbers of the characters that are drawn white, including the space.
        self.inkless = frozenset((ink.amax(1) < _FAINT).nonzero().flatten().tolist())

    @property
    def cell(self) -> tuple[int, int]:
        """(h, w) of a character's cell, in pixels."""
        return self.font_renderer.cell

    def prepare(self, images: Images) -> None:
        """Trains or reads the learned renderer, if it is used."""
        if self.renderer == "learned" and self.learned is None:
            learned = learned_renderer(self.font_res, self.font_zoom, self.font)
            self.learned = learned.requires_grad_(False).eval()

    def difference(self, output: Output, target: Tensor) -> Tensor:
        """The picture of `relaxed` minus the true one, (B, 1, H * h, W * w), with gradient.

        Drawing with a font is linear, so the difference of the weights is drawn, only once.

        Raises:
            ConfigError: the model paints, or the learned renderer was not prepared.
            ShapeError: another grid.
        """
        relaxed, numbers = cells(output, target, "relaxed", self.name)
        if self.renderer == "learned" and not relaxed.is_meta:
            learned = self._learned()
            return once(
                (id(learned), id(relaxed), id(target)),
                lambda: learned(relaxed) - self.font_renderer.draw(numbers).to(relaxed),
            )
        return once(
            (id(self.font_renderer), id(relaxed), id(target)),
            lambda: self.font_renderer(_less_truth(relaxed, numbers)),
        )

    def wanted(self, output: Output, target: Tensor) -> Tensor:
        """The true picture, (B, 1, H * h, W * w), 0 (ink) to 1 (paper)."""
        relaxed, numbers = cells(output, target, "relaxed", self.name)
        return once(
            (id(self.font_renderer), id(target)),
            lambda: self.font_renderer.draw(numbers).to(relaxed),
        )

    def extra_repr(self) -> str:
        """The settings, as one types them."""
        names = inspect.signature(type(self)).parameters
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def _learned(self) -> nn.Module:
        if self.learned is None:
            raise ConfigError(
                f"{self.name} has no learned renderer yet",
                hint="call objective.prepare(images) before the first batch",
            )
        return self.learned


def _less_truth(relaxed: Tensor, numbers: Tensor) -> Tensor:
    """`relaxed` (B, 95, H, W) minus the one-hots of `numbers` (B, H, W), without making these."""
    places = numbers[:, None]
    return relaxed.scatter_add(1, places, relaxed.new_full((), -1.0).expand(places.shape))
