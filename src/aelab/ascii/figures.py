"""The figure `edges`: contours in ASCII art, of originals and reconstructions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from aelab.ascii.glyphs import font_renderer
from aelab.ascii.metrics.characters import clamped_numbers
from aelab.ascii.metrics.contours import (
    TOLERANCE_CELLS,
    agreement,
    contours,
    count_components,
    legacy_edges,
)
from aelab.errors import UserError, did_you_mean, one_of
from aelab.report.pictures import sheet
from aelab.study.figures import Figure
from aelab.tensor_pictures import picture_line

if TYPE_CHECKING:
    from aelab.metrics import Subject

#: Methods of finding edges, for `method`.
METHODS = ("contours", "log")
#: Pictures lower than this number of pixels are shown twice as large.
LEAST_PIXELS = 160
#: Margin around the text in pixels, so that contours fit.
MARGIN = 10


def edges(subject: Subject, count: int = 6, method: str = "contours", font_res: int = 9) -> bytes:
    """Held-out pictures, their edges, their reconstructions and the edges of these, side by side.

    Args:
        subject: a run whose medium is characters.
        count: number of rows: held-out pictures drawn at random.
        method: `contours` joins near strokes; the number at a row is their agreement, 1 is equal.
            `log` is the filter of document 002 (15 pixels, sigma 0.2), scaled to 0..1; the number
            is the mean squared difference of the filtered pictures, the loss at 66ea1d6.
        font_res: size of the font in pixels.

    Raises:
        UserError: an unknown method.
    """
    if method not in METHODS:
        raise UserError(
            f"the figure 'edges' has no method {method!r}{did_you_mean(method, METHODS)}",
            hint=f"possible: {one_of(METHODS)}; contours is the usual one",
        )
    renderer = font_renderer(font_res)
    ours, theirs = (
        renderer.draw(clamped_numbers(images[subject.shown[:count]]))
        for images in (subject.images, subject.reconstructions)
    )
    compare = _compare_contours if method == "contours" else _compare_filtered
    wanted, found, words = compare(ours, theirs, renderer.cell[0])
    rows = _framed(torch.stack([ours, wanted, theirs, found], 1))
    lines = [picture_line(word, row) for word, row in zip(words, rows, strict=True)]
    return sheet(lines, scale=2 if rows.shape[-2] < LEAST_PIXELS else 1)


def _framed(rows: Tensor) -> Tensor:
    """Cuts margins that are blank in all texts of (B, 4, 1, H, W), and adds grey frames."""
    ink = (rows[:, [0, 2], 0] < 1).flatten(0, 1).any(0)
    for axis in (0, 1):
        places = ink.any(1 - axis).nonzero().flatten().tolist()
        if places:
            size = ink.shape[axis]
            first, last = max(0, places[0] - MARGIN), min(size, places[-1] + 1 + MARGIN)
            rows = rows.narrow(3 + axis, first, last - first)
    return F.pad(rows, (1, 1, 1, 1), value=0.7)


def _compare_contours(
    ours: Tensor, theirs: Tensor, cell_pixels: int
) -> tuple[Tensor, Tensor, list[str]]:
    """Contours of both, black on white (B, 1, H, W), and a caption for each row."""
    wanted, found = contours(ours, cell_pixels), contours(theirs, cell_pixels)
    scores = agreement(wanted, found, TOLERANCE_CELLS * cell_pixels).tolist()
    counts = zip(count_components(wanted).tolist(), count_components(found).tolist(), strict=True)
    words = [
        f"agreement {score:.2f}, contours {before} > {after}"
        for score, (before, after) in zip(scores, counts, strict=True)
    ]
    return (~wanted).float(), (~found).float(), words


def _compare_filtered(
    ours: Tensor, theirs: Tensor, cell_pixels: int
) -> tuple[Tensor, Tensor, list[str]]:
    """Both pictures after document 002's filter in a common grey scale, and the errors."""
    both = torch.stack([legacy_edges(ours), legacy_edges(theirs)])
    errors = (both[0] - both[1]).square().flatten(1).mean(1).tolist()
    grey = (both - both.min()) / (both.max() - both.min()).clamp(min=1e-6)
    return grey[0], grey[1], [f"filtered: L2 {error:.3g}" for error in errors]


EDGES = Figure(edges, "ASCII art and its contours: method=contours or log", medium="characters")
