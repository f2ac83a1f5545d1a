"""Characters as pictures: the alphabet, texts as grids of numbers, and fonts to draw them.

A set of ASCII pictures is an `Images` whose `pixels` (N, 1, H, W) uint8 are numbers into
`ALPHABET`; a batch holds them divided by 255, like any image. Independent of models.
"""

from __future__ import annotations

from aelab.ascii.glyphs.alike import AlikePair, alike_pairs
from aelab.ascii.glyphs.alphabet import (
    ALPHABET,
    SPACE,
    character_numbers,
    numbers_to_images,
    to_grid,
    to_lines,
)
from aelab.ascii.glyphs.font import find_font, glyph_atlas
from aelab.ascii.glyphs.learned import (
    LearnedRenderer,
    RendererError,
    learned_renderer,
    noisy_onehots,
    renderer_error,
)
from aelab.ascii.glyphs.match import match_glyphs
from aelab.ascii.glyphs.renderer import FontRenderer, font_renderer
from aelab.ascii.glyphs.text import MIRRORED_PAIRS, mirrored_numbers, side_by_side

__all__ = [
    "ALPHABET",
    "MIRRORED_PAIRS",
    "SPACE",
    "AlikePair",
    "FontRenderer",
    "LearnedRenderer",
    "RendererError",
    "alike_pairs",
    "character_numbers",
    "find_font",
    "font_renderer",
    "glyph_atlas",
    "learned_renderer",
    "match_glyphs",
    "mirrored_numbers",
    "noisy_onehots",
    "numbers_to_images",
    "renderer_error",
    "side_by_side",
    "to_grid",
    "to_lines",
]
