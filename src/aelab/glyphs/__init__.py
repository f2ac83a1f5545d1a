"""Characters as pictures: the alphabet, text as grids of numbers, and fonts that draw them.

A set of ASCII pictures is an `Images` whose `pixels` (N, 1, H, W) uint8 are numbers into
`ALPHABET`; a batch holds them divided by 255, like any image. Nothing here knows of models.
"""

from __future__ import annotations

from aelab.glyphs.alphabet import ALPHABET, SPACE, as_images, character_numbers, to_grid, to_lines
from aelab.glyphs.font import find_font, glyph_atlas
from aelab.glyphs.renderer import FontRenderer, font_renderer

__all__ = [
    "ALPHABET",
    "SPACE",
    "FontRenderer",
    "as_images",
    "character_numbers",
    "find_font",
    "font_renderer",
    "glyph_atlas",
    "to_grid",
    "to_lines",
]
