"""Maps of points, histograms and bars as matplotlib figures; numbers come from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from aelab.report.plots import STYLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

#: Ten colours that stay apart in print and for colour-blind readers; Paul Tol's "muted" set plus
#: black, https://personal.sron.nl/~pault/.
CLASS_COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#222222",
)  # fmt: skip
#: Classes that a map names; Omniglot's alphabets are 50, the fonts of FIGlet words 300.
MOST_NAMED = 64


def scatter_map(
    points: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any] | None,
    title: str,
    axes: tuple[str, str] = ("", ""),
) -> Figure:
    """(N, 2) points, coloured by class where labels (N,) are known.

    Every class is also named by its number at the median of its points, for readers who do not see
    colours; more classes than `MOST_NAMED` would cover the points with their numbers, and are
    given none.
    """
    figure, panel = _panel((6.4, 6.0))
    size = float(np.clip(20_000 / len(points), 2, 24))
    if labels is None:
        panel.scatter(*points.T, s=size, color="#22262c", alpha=0.5, linewidths=0)
    else:
        classes = np.unique(labels)
        for number, label in enumerate(classes):
            here = points[labels == label]
            colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
            panel.scatter(*here.T, s=size, color=colour, alpha=0.6, linewidths=0)
            if len(classes) > MOST_NAMED:
                continue
            box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": colour, "alpha": 0.85}
            middle = np.median(here, axis=0)
            panel.text(*middle, str(label), ha="center", va="center", fontsize=9, bbox=box)
    _finish(panel, title, axes)
    return figure


def thumbnail_map(
    points: np.ndarray[Any, Any], images: Sequence[Image], title: str, side_pixels: int = 1100
) -> Image:
    """Images at their points, later ones left out where they would cover an earlier one."""
    from PIL import Image, ImageDraw, ImageFont

    width, height = images[0].size
    low, high = points.min(0), points.max(0)
    room = np.array([side_pixels - width, side_pixels - height])
    places = ((points - low) / np.maximum(high - low, 1e-12) * room).round().astype(int)
    head = 26
    picture = Image.new("RGB", (side_pixels, side_pixels + head), "white")
    font = ImageFont.load_default(14)
    ImageDraw.Draw(picture).text((6, head / 2), title, "#111111", font, anchor="lm")
    taken = np.zeros((side_pixels, side_pixels), dtype=bool)
    for (left, up), image in zip(places, images, strict=True):
        top = side_pixels - height - up
        cell = taken[top : top + height, left : left + width]
        if cell.any():
            continue
        cell[:] = True
        picture.paste(image.convert("RGB"), (int(left), int(top) + head))
    return picture


def histogram_against_normal(values: np.ndarray[Any, Any], title: str) -> Figure:
    """All codes as one histogram beside the density of N(0, 1).

    Args:
        values: (N, D).
        title: heading.
    """
    figure, panel = _panel((7.2, 3.8))
    flat = values.reshape(-1)
    limit = float(np.clip(np.abs(flat).max(), 3.5, 12))
    panel.hist(
        flat, bins=160, range=(-limit, limit), density=True, color="#88CCEE", label="mean codes"
    )
    x = np.linspace(-limit, limit, 400)
    normal = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    panel.plot(x, normal, color="#22262c", linewidth=1.4, label="N(0, 1)")
    outside = float((np.abs(flat) > limit).mean())
    panel.legend(frameon=False, title=f"{outside:.1%} outside" if outside else None)
    _finish(panel, title, ("value of one dimension", "density"))
    return figure


def sorted_bars(values: np.ndarray[Any, Any], title: str, axes: tuple[str, str]) -> Figure:
    """(D,) values, largest first, as bars."""
    figure, panel = _panel((7.2, 3.8))
    ordered = np.sort(values)[::-1]
    panel.bar(np.arange(1, len(ordered) + 1), ordered, width=1.0, color="#117733")
    panel.set_xlim(0.5, len(ordered) + 0.5)
    _finish(panel, title, axes)
    return figure


def _panel(size_inches: tuple[float, float]) -> tuple[Figure, Any]:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size_inches, layout="constrained")
        FigureCanvasAgg(figure)
        return figure, figure.subplots()


def _finish(panel: Any, title: str, axes: tuple[str, str]) -> None:
    panel.set_title(title, loc="left", fontsize=11)
    panel.set_xlabel(axes[0])
    panel.set_ylabel(axes[1])
    if not any(axes):  # positions of a map mean nothing in themselves
        panel.set_xticks([])
        panel.set_yticks([])


def notes_of(values: Mapping[str, float]) -> str:
    """`a 1.23, b 4.56` for a heading."""
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
