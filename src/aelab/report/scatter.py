"""Draws maps of points, histograms and bars as matplotlib figures from given numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from aelab.report.plots import styled_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Ten colours that differ in print and for colour-blind readers: Paul Tol's "muted" set plus
#: black, https://personal.sron.nl/~pault/.
CLASS_COLOURS = (
    "#332288", "#88CCEE", "#44AA99", "#117733", "#999933",
    "#DDCC77", "#CC6677", "#882255", "#AA4499", "#222222",
)  # fmt: skip
#: Shapes of points: each ten classes beyond the colours use the next shape.
MARKERS = "osD^vP*X"
#: Most classes named inside a map; Omniglot has 50 alphabets, FIGlet 300 fonts.
MOST_NAMED = 64
#: Most classes in a legend.
MOST_LISTED = 30
#: Classes with fewer points have their name beside them.
FEW = 10
#: Most letters of a class's name in a map.
NAME_LENGTH = 18
#: Share of points on each side that the frame leaves out if it then becomes much smaller.
FAR_OUT = 0.01
#: Least and greatest side of a thumbnail in pixels.
THUMBNAIL = (24, 64)


def scatter_map(
    points: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any] | None,
    title: str,
    axes: tuple[str, str] = ("", ""),
    names: Sequence[str] = (),
    *,
    ticks: bool = False,
) -> Figure:
    """Draws (N, 2) points, coloured by class if labels (N,) are given.

    Each class is named at the median of its points, for readers who do not see colours, and in a
    legend with its number of points. With more classes than `MOST_NAMED` names are left out, since
    they would cover the points. A few points far from all others do not set the scale: they are
    drawn at the edge, and the heading gives their number.

    Args:
        points: the coordinates.
        labels: whole numbers.
        title: heading.
        axes: labels of the axes.
        names: names of the classes by number; () shows the numbers.
        ticks: whether to show values on the axes.
    """
    window = shown_frame(points)
    far = ((points < window[0]) | (points > window[1])).any(1)
    points = np.clip(points, *window)
    figure, panel = _panel((7.6, 6.0))
    size = float(np.clip(20_000 / max(1, len(points)), 2, 24))
    panel.set_xlim(*_with_margin(window[:, 0]))
    panel.set_ylim(*_with_margin(window[:, 1]))
    if labels is None:
        panel.scatter(*points.T, s=size, color="#22262c", alpha=0.5, linewidths=0)
    else:
        _classes(panel, points, labels, names, size)
    if far.any():
        title += f"; {int(far.sum())} far out, at the edge"
    _finish(panel, title, axes, ticks=ticks)
    return figure


def _classes(
    panel: Any,
    points: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    names: Sequence[str],
    size: float,
) -> None:
    """Draws the points of each class, the names at their medians, and the legend."""
    classes = [int(label) for label in np.unique(labels)]
    letters = NAME_LENGTH if len(classes) <= MOST_LISTED else NAME_LENGTH // 2
    badges: list[tuple[np.ndarray[Any, Any], str, str, bool]] = []
    for number, label in enumerate(classes):
        here = points[labels == label]
        colour = CLASS_COLOURS[number % len(CLASS_COLOURS)]
        marker = MARKERS[number // len(CLASS_COLOURS) % len(MARKERS)]
        name = _short(names[label] if label < len(names) else str(label), letters)
        panel.scatter(
            *here.T, s=size, color=colour, marker=marker, alpha=0.6, linewidths=0,
            label=f"{name} ({len(here):,})",
        )  # fmt: skip
        badges.append((np.median(here, axis=0), name, colour, len(here) < FEW))
    if len(classes) <= MOST_LISTED:
        panel.legend(
            loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8,
            markerscale=max(1.0, 4 / size**0.5),
        )  # fmt: skip
    if len(classes) <= MOST_NAMED:
        _badges(panel, badges)


def _badges(panel: Any, badges: list[tuple[np.ndarray[Any, Any], str, str, bool]]) -> None:
    """Draws names at their places, moved where they would overlap.

    The name of a class with few points is drawn beside them, to keep them visible.
    """
    low, high = np.array([panel.get_xlim(), panel.get_ylim()]).T
    room = high - low
    taken: list[tuple[float, float, float]] = []  # centre, half width
    for place, name, colour, few in badges:
        half = 0.008 * len(name) + 0.012
        start = np.clip((place - low) / room, (half, 0.03), (max(half, 1 - half), 0.97))
        aside = np.array([0.0, 0.06 if start[1] < 0.8 else -0.06]) if few else 0.0
        spot = _free_spot(start + aside, half, taken)
        taken.append((*spot, half))
        box = {"boxstyle": "round,pad=0.15", "fc": "white", "ec": colour, "alpha": 0.85}
        moved = bool(np.abs(np.asarray(spot) - start).max() > 1e-9)
        panel.annotate(
            name, place, low + np.asarray(spot) * room, ha="center", va="center", fontsize=8,
            bbox=box, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.8} if moved else None,
        )  # fmt: skip


def _free_spot(
    start: np.ndarray[Any, Any], half: float, taken: list[tuple[float, float, float]]
) -> tuple[float, float]:
    """The free place nearest to `start`, searched on a spiral."""
    for step in range(4000):
        turn, reach = 2.4 * step, 0.012 * step**0.5
        x = float(np.clip(start[0] + reach * np.cos(turn), half, max(half, 1 - half)))
        y = float(np.clip(start[1] + reach * np.sin(turn), 0.03, 0.97))
        if all(abs(x - a) >= half + width or abs(y - b) >= 0.045 for a, b, width in taken):
            return x, y
    return float(start[0]), float(start[1])


def shown_frame(points: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """(2, 2): the least and the greatest x and y that a map shows.

    The frame includes all points, unless the outer 1 % on a side make it more than twice as wide.
    """
    low, high = points.min(0), points.max(0)
    inner = np.quantile(points, [FAR_OUT, 1 - FAR_OUT], axis=0)
    reach = 0.5 * (inner[1] - inner[0])
    tight = np.stack([np.maximum(low, inner[0] - reach), np.minimum(high, inner[1] + reach)])
    widths = high - low, tight[1] - tight[0]
    # Few points have no outliers, and equal points have no width to compare with.
    far = (len(points) >= 20) & (widths[0] > 2 * widths[1]) & (widths[1] > 0)
    return np.where(far, tight, np.stack([low, high]))


def _with_margin(window: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Adds a margin around the outermost points; a window of width 0 gets some width."""
    low, high = float(window[0]), float(window[1])
    margin = 0.04 * (high - low) or max(1.0, abs(low)) * 0.5
    return low - margin, high + margin


def _short(name: str, letters: int) -> str:
    # The text comes from names of folders: `$` would begin a formula.
    name = name if len(name) <= letters else name[: letters - 1] + "…"
    return name.replace("$", r"\$")


def thumbnail_map(
    points: np.ndarray[Any, Any], images: Sequence[Image.Image], title: str, side_pixels: int = 1100
) -> Image.Image:
    """Draws images at their points; a later one is left out if it would cover an earlier one.

    Small images are enlarged by whole numbers and large ones reduced, so that all are legible and
    lie completely inside the sheet.
    """
    images = [_thumbnail(image) for image in images]
    width, height = images[0].size
    window = shown_frame(points)
    far = int(((points < window[0]) | (points > window[1])).any(1).sum())
    low, high = window
    head, margin = 30, 12
    inner = side_pixels - 2 * margin
    room = np.array([inner - width, inner - height])
    shares = (np.clip(points, low, high) - low) / np.maximum(high - low, 1e-300)
    shares[:, high <= low] = 0.5  # no extent in this direction: in the middle
    places = (shares * room).round().astype(int)
    picture = Image.new("RGB", (side_pixels, side_pixels + head), "white")
    title += f"; {far} far out, at the edge" if far else ""
    ImageDraw.Draw(picture).text((margin, head / 2), title, "#111111", _text_font(15), anchor="lm")
    taken = np.zeros((inner, inner), dtype=bool)
    for (left, up), image in zip(places, images, strict=True):
        top = inner - height - up
        cell = taken[top : top + height, left : left + width]
        if cell.any():
            continue
        cell[:] = True
        picture.paste(image.convert("RGB"), (int(left) + margin, int(top) + head + margin))
    return picture


def _text_font(size: int) -> Any:
    """The font of the other maps."""

    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def _thumbnail(image: Image.Image) -> Image.Image:

    least, most = THUMBNAIL
    larger = max(image.size)
    if larger > most:
        size = (max(1, round(side * most / larger)) for side in image.size)
        return image.convert("RGB").resize(tuple(size), Image.Resampling.BOX)  # type: ignore[arg-type]
    times = max(1, -(-least // larger))
    return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)


def histogram_against_normal(values: np.ndarray[Any, Any], title: str) -> Figure:
    """Draws a histogram of all codes with the density of N(0, 1).

    Args:
        values: codes (N, D).
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
    panel.legend(
        loc="upper right", frameon=False, title=f"{outside:.1%} outside" if outside else None
    )
    _finish(panel, title, ("value of one dimension", "density"))
    return figure


def sorted_bars(values: np.ndarray[Any, Any], title: str, axes: tuple[str, str]) -> Figure:
    """Draws (D,) values as bars, largest first."""
    figure, panel = _panel((7.2, 3.8))
    ordered = np.sort(values)[::-1]
    panel.bar(np.arange(1, len(ordered) + 1), ordered, width=1.0, color="#117733")
    panel.set_xlim(0.5, len(ordered) + 0.5)
    _finish(panel, title, axes)
    return figure


def _panel(size_inches: tuple[float, float]) -> tuple[Figure, Any]:
    with styled_figure(size_inches) as figure:
        return figure, figure.subplots()


def _finish(panel: Any, title: str, axes: tuple[str, str], *, ticks: bool = True) -> None:
    panel.set_title(wrapped(title, panel.figure.get_figwidth() - 0.9, 11), loc="left", fontsize=11)
    panel.set_xlabel(axes[0])
    panel.set_ylabel(axes[1])
    if not ticks or not any(axes):  # positions of a map have no meaning
        panel.set_xticks([])
        panel.set_yticks([])


def heading_values(values: Mapping[str, float]) -> str:
    """Text such as `a 1.23, b 4.56` for a heading."""
    return ", ".join(f"{name} {value:.3g}" for name, value in values.items())
