"""Names and titles of pictures are not cut."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from aelab.report.frequency import Spectrum, spectra_figure
from aelab.report.pictures import GAP, IMAGE_GAP, SheetRow, sheet
from aelab.report.scatter import histogram_against_normal, scatter_map

BLACK = Image.new("L", (48, 48))


def _opened(columns: list[str], images: int) -> Image.Image:
    rows = [SheetRow("", [BLACK] * images), SheetRow("", [BLACK] * images)]
    return Image.open(io.BytesIO(sheet(rows, columns=columns))).convert("L")


def _ink(picture: Image.Image, left: int, right: int, bottom: int) -> np.ndarray:
    """(H, W) whether a pixel above the first row, between two edges, is not white."""
    return np.asarray(picture.crop((left, 0, right, bottom))) < 250


@pytest.mark.parametrize("last", ["9", "a class of a very long name"])
def test_every_column_has_its_name_above_its_images(last: str) -> None:
    without, picture = _opened([], 3), _opened(["original", "0", last], 3)
    head = picture.height - without.height
    assert picture.width == without.width and head > 12
    for number in range(3):
        left = GAP + number * (48 + IMAGE_GAP)
        ink = _ink(picture, left, left + 48, head)
        assert ink.any() and not ink[:, [0, -1]].any() and not ink[0].any()
    # The whole name is there: upright, it is as long as in a row.
    if len(last) > 2:
        assert head > 120


def test_long_titles_are_drawn_in_lines_inside_the_figure() -> None:
    title = "codes of 1,024 numbers of 10,000 of 60,000 held-out images: mean -0.0593 " * 3
    points = np.random.default_rng(0).normal(size=(50, 2))
    spectrum = Spectrum("run", [0.0, 0.1, 0.2], [1.0, 0.5, 0.2], [1.0, 0.9, 0.8])
    for figure in (
        histogram_against_normal(points, title),
        scatter_map(points, None, title),
        spectra_figure([spectrum], title=title),
    ):
        figure.canvas.draw()
        inside = figure.get_window_extent()
        text = figure._suptitle or figure.axes[0]._left_title
        box = text.get_window_extent()
        assert text.get_text().replace("\n", " ") == title.strip()
        assert inside.x0 <= box.x0 and box.x1 <= inside.x1 and box.y1 <= inside.y1
