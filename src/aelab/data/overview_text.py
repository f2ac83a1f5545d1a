"""One set of ASCII pictures at a glance: numbers, texts and what a font makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aelab.data.characters import character_counts
from aelab.glyphs import ALPHABET, SPACE, font_renderer, to_lines
from aelab.types import Images

#: Texts that are shown in full, pictures of the sheet, and the font's size in pixels.
EXAMPLES, FONT_RES = 3, 8
#: Endings that texts have; files without any count too.
ENDINGS = (".txt", ".asc", ".art", "")


def is_text(path: Path) -> bool:
    """Whether a path means ASCII art: a file by its ending, a folder that holds texts only."""
    if path.is_file():
        return path.suffix.lower() in ENDINGS
    endings = {file.suffix.lower() for file in path.rglob("*") if file.is_file()}
    return ".txt" in endings and endings <= set(ENDINGS)


def text_statistics(images: Images, pixels: Tensor) -> dict[str, Any]:
    """Plain numbers that tell how hard a set of ASCII pictures is.

    Args:
        images: the whole set.
        pixels: (n, 1, H, W) uint8, those that are looked at.

    Returns:
        `blank_share` of the cells, `characters` that occur, `entropy_bits` of their distribution,
        and the floors: the accuracy of a model that always writes the same text (in each place the
        most frequent character), with and without places where the original is blank.
    """
    counts = character_counts(images).double()
    shares = counts[counts > 0] / counts.sum()
    constant = pixels.flatten(1).mode(0).values
    right, inked = pixels.flatten(1) == constant, pixels.flatten(1) != SPACE
    return {
        "blank_share": float(counts[SPACE] / counts.sum()),
        "characters": int((counts > 0).sum()),
        "entropy_bits": float(-(shares * shares.log2()).sum()),
        "floor_accuracy": float(right.float().mean()),
        "floor_accuracy_without_spaces": float(right[inked].float().mean()) if inked.any() else 0.0,
    }


def text_examples(pixels: Tensor) -> list[str]:
    """(n, 1, H, W) uint8 as texts without the blank lines around and blanks at the right."""
    found = []
    for grid in pixels[:, 0]:
        lines = [line.rstrip() for line in to_lines(grid)]
        inked = [number for number, line in enumerate(lines) if line]
        found.append("\n".join(lines[inked[0] : inked[-1] + 1] if inked else []))
    return found


def drawn(pixels: Tensor) -> Tensor:
    """(n, 1, H, W) uint8 numbers of characters -> (n, 1, H h, W w) uint8, drawn in a font."""
    numbers = pixels[:, 0].clamp(max=len(ALPHABET) - 1)
    return (font_renderer(FONT_RES).draw(numbers) * 255).round().to(torch.uint8)
