"""Curves of runs as pictures: any logged term, a panel for training and one for validation.

Draws with `Figure` and the Agg or SVG writer directly, without windows or global state. The same
runs give the same bytes.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from aelab.analysis.curves import Curve
from aelab.errors import UserError, one_of
from aelab.outputs import write_output
from aelab.report import series
from aelab.report.series import Rows
from aelab.runs.record import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Most lines named in a legend; further lines are only drawn.
LEGEND_LINES = 40

#: Markers, used after all dashes.
MARKERS = ("", "o", "s", "^", "D", "v", "x")

#: Style while drawing; not set for the whole process.
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8f98",
    "axes.labelcolor": "#30343b",
    "axes.titlelocation": "left",
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.grid": True,
    "axes.grid.which": "major",
    "grid.color": "#e3e5e9",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": "#5b616b",
    "ytick.color": "#5b616b",
    "text.color": "#22262c",
    "svg.hashsalt": "aelab",
    "svg.fonttype": "path",
    "path.simplify": False,
}


@dataclass
class PlottedLine:
    """One line of the plot: a run, or the repeats of a setting as a band.

    Attributes:
        label: its entry in the legend; for a group, the value shown by the colour.
        rest: for a group, the values of the other keys, shown by dash and marker.
    """

    label: str
    runs: list[int]
    colour: str
    dash: tuple[float, ...] = ()
    marker: str = ""
    rest: str = ""
    curves: dict[str, list[Curve]] = field(default_factory=dict)

    def last(self, splits: Sequence[str]) -> float:
        """The last finite value in the last of `splits` that has one; infinity if none has."""
        for split in reversed(splits):
            ends = [y for curve in self.curves.get(split, ()) for y in curve.y[-1:]]
            finite = [value for value in ends if math.isfinite(value)]
            if finite:
                return sum(finite) / len(finite)
        return math.inf


def plot(
    runs: Sequence[Run],
    *,
    term: str = "loss",
    x: Literal["images", "seconds"] = "images",
    splits: Sequence[str] = ("train", "validation"),
    group: str | None = None,
    band: bool = True,
    log_y: bool | None = None,
    log_x: bool | None = None,
    smooth: float = 0.0,
    size: tuple[float, float] | None = None,
    title: str | None = None,
) -> Figure:
    """Plots the curves of one term, in a panel for each split that logged it.

    Args:
        runs: any number, finished or not; a run without lines is left out.
        term: a column of the metrics: `loss`, or a term such as `kl`.
        x: the clock: `images` trained on, or `seconds` of training.
        splits: the panels: `train`, `validation` or both.
        group: a matrix key: one colour for each of its values, and a dash (or a marker) for each
            combination of values of the other keys. Default: one colour for each run.
        band: draw repeats of a setting (trials, seeds) as their mean with a shaded band from the
            lowest to the highest; otherwise one line each.
        log_y: a logarithmic axis; None decides: values are positive and their range exceeds 8.
        log_x: a logarithmic axis; None is linear.
        smooth: 0 draws the logged values; above 0 and below 1, the weight of the past in a running
            mean, with the logged values pale behind it.
        size: width and height in inches; None leaves room for the legend.
        title: a heading over the panels.

    Returns:
        A matplotlib figure that no window shows; write it with `save`.

    Raises:
        UserError: unknown term, clock, split or group, naming the possible ones.
    """
    _check(x, smooth, splits)
    all_rows: list[Rows] = [run.metrics() for run in runs]
    series.require_term(term, all_rows)
    heading, lines = make_lines(runs, group=group, band=band)
    for line in lines:
        for split in splits:
            curves = [series.points(all_rows[number], term, x, split) for number in line.runs]
            line.curves[split] = [curve for curve in curves if curve.x]
    lines = [line for line in lines if any(line.curves.values())]
    panels = [split for split in splits if any(line.curves[split] for line in lines)]
    if not panels:
        raise UserError(f"{term!r} was not logged in: {one_of(splits)}")
    if group is None:  # the legend then has the order of the lines' ends
        lines.sort(key=lambda line: line.last(panels), reverse=True)
    return _draw(
        lines, panels, smooth=smooth, title=title, size=size, heading=group or heading,
        y_label=_y_label(runs, term), x_label=series.X_LABELS[x],
        log_y=False if log_y is None and series.is_share(term) else log_y, log_x=bool(log_x),
    )  # fmt: skip


def _check(x: str, smooth: float, splits: Sequence[str]) -> None:
    if x not in series.X_LABELS:
        raise UserError(f"x is {x!r}; possible: {one_of(series.X_LABELS)}")
    if not 0.0 <= smooth < 1.0:
        raise UserError(f"smooth is {smooth!r}; possible are 0 (off) to 0.999")
    for split in splits:
        if split not in ("train", "validation"):
            raise UserError(f"no split {split!r}; possible: train, validation")


def make_lines(
    runs: Sequence[Run], *, group: str | None = None, band: bool = True
) -> tuple[str, list[PlottedLine]]:
    """The lines with their colours and dashes, and the legend's heading."""
    together = series.repeats(runs) if band else [[number] for number in range(len(runs))]
    heading, names = series.labels(runs, repeats=not band)
    colours = series.group_colours(runs, group) if group else {}
    rest = series.other_values(runs, group) if group else []
    styles = _styles(rest)
    lines = []
    for place, members in enumerate(together):
        if group:
            value = (runs[members[0]].record.get("matrix") or {}).get(group)
            label = series.value_text(value)
            dash, marker = styles[rest[members[0]]]
            lines.append(
                PlottedLine(label, members, colours[label], dash, marker, rest[members[0]])
            )
            continue
        turn, colour = divmod(place, len(series.PALETTE))
        dash = series.DASHES[turn % len(series.DASHES)]
        count = f"({len(members)} runs)" if len(members) > 1 else ""
        lines.append(
            PlottedLine(
                f"{names[members[0]]} {count}".strip(), members, series.PALETTE[colour], dash
            )
        )
    if group:
        lines.sort(key=lambda line: list(colours).index(line.label))
    return heading, lines


def _styles(rest: Sequence[str]) -> dict[str, tuple[tuple[float, ...], str]]:
    """Dash and marker for each combination of values; markers only after all dashes."""
    found = {}
    for place, text in enumerate(dict.fromkeys(rest)):
        turn, dash = divmod(place, len(series.DASHES))
        found[text] = (series.DASHES[dash], MARKERS[turn % len(MARKERS)])
    return found


@contextmanager
def styled_figure(size_inches: tuple[float, float]) -> Iterator[Figure]:
    """Context manager: an empty figure; inside, drawing uses the common style."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size_inches, layout="constrained")
        FigureCanvasAgg(figure)
        # A notebook shows what has this method; without a backend a figure has none.
        figure._repr_png_ = lambda: figure_png(figure)  # type: ignore[attr-defined]
        yield figure


def figure_png(figure: Figure) -> bytes:
    """The bytes of a PNG file; equal figures, equal bytes."""
    import matplotlib

    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(content, format="png", dpi=144, metadata={"Software": None})
    return content.getvalue()


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG or SVG by the name's ending, without a date: equal runs, equal bytes.

    Raises:
        UserError: for another ending, or a folder that cannot be written to.
    """
    import matplotlib

    kind = path.suffix.lower().lstrip(".")
    if kind not in ("png", "svg"):
        raise UserError(f"{path}: a plot is written as .png or .svg", hint="choose such a name")
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    content = io.BytesIO()
    with matplotlib.rc_context(STYLE):  # type: ignore[arg-type]
        figure.savefig(content, format=kind, dpi=144, metadata=metadata)
    return write_output(path, content.getvalue())


def _y_label(runs: Sequence[Run], term: str) -> str:
    units = {**series.UNITS}
    for run in runs:
        units.update(run.record.get("units") or {})
    return f"{term} ({units[term]})" if units.get(term) else term


def _draw(
    lines: list[PlottedLine], panels: list[str], *, smooth: float, title: str | None, heading: str,
    size: tuple[float, float] | None, y_label: str, x_label: str, log_y: bool | None, log_x: bool,
) -> Figure:  # fmt: skip
    entries = _legend_entries(lines)
    height = max(4.2, 0.9 + 0.175 * len(entries))
    with styled_figure(size or (4.9 * len(panels) + 2.2, height)) as figure:
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        everything = [
            y for line in lines for split in panels for c in line.curves[split] for y in c.y
        ]
        logarithmic = series.log_helps(everything) if log_y is None else log_y
        for number, (panel, split) in enumerate(zip(axes, panels, strict=True)):
            for line in lines:
                _draw_line(panel, line, split, smooth)
            panel.set_title(split)
            panel.set_xlabel(x_label)
            if number == 0:
                panel.set_ylabel(y_label)
            panel.tick_params(labelleft=True)
            _scale_axes(panel, log_x, logarithmic)
        _draw_legend(
            figure, entries, heading, more=len({line.label for line in lines}) > LEGEND_LINES
        )
        if title:
            width = figure.get_figwidth()
            figure.suptitle(
                wrapped(title, width, 13), x=0.01, ha="left", fontsize=12, fontweight="bold"
            )
    return figure


def wrapped(title: str, width_inches: float, points: float) -> str:
    """A title in lines that are not wider than a figure; matplotlib would cut it.

    Args:
        title: one line.
        width_inches: of the figure, less its left margin.
        points: size of the letters, of which one is about 0.6 high as wide.
    """
    letters = max(20, int(width_inches * 72 / (0.6 * points)))
    return "\n".join(textwrap.wrap(title, letters, break_on_hyphens=False)) or title


def _scale_axes(panel: Axes, log_x: bool, log_y: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if log_x:
        panel.set_xscale("log")
    else:
        panel.set_xlim(left=0)
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    if log_y:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(visible=True, which="minor", axis="y", linewidth=0.3)


def short_number(value: float) -> str:
    """Text such as `0`, `250k`, `1.5M`, for images on an axis."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


def _draw_line(panel: Axes, line: PlottedLine, split: str, smooth: float) -> None:
    curves = line.curves[split]
    if not curves:
        return
    style: dict[str, Any] = {"color": line.colour, "linewidth": 1.4, "label": line.label}
    if line.dash:
        style["dashes"] = line.dash
    if len(curves) > 1:
        x, low, mean, high = mean_and_band(curves)
        panel.fill_between(x, low, high, color=line.colour, alpha=0.18, linewidth=0)
        curve = Curve(x, mean)
    else:
        curve = curves[0]
    if line.marker:
        style |= {"marker": line.marker, "markersize": 4, "markevery": 0.12}
    if len(curve.x) == 1:
        style |= {"marker": line.marker or "o", "markevery": 1}
    if smooth > 0:
        panel.plot(curve.x, curve.y, color=line.colour, linewidth=0.7, alpha=0.3)
        curve = Curve(curve.x, smoothed(curve.y, smooth))
    panel.plot(curve.x, curve.y, **style)
    for member in curves:
        _mark_end(panel, member, line.colour)


def _mark_end(panel: Axes, curve: Curve, colour: str) -> None:
    """Draws a cross where values stop being finite, so that a diverged run is recognised."""
    finite = [i for i, value in enumerate(curve.y) if math.isfinite(value)]
    if finite and finite[-1] < len(curve.y) - 1:
        place = finite[-1]
        panel.plot(
            [curve.x[place]], [curve.y[place]], marker="x", color=colour, markersize=7,
            markeredgewidth=2, linestyle="none", label="_not finite from here",
        )  # fmt: skip


def mean_and_band(
    curves: Sequence[Curve],
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Clock, minimum, mean and maximum of several curves.

    Each curve is interpolated to the clock values of all, only within its own range and where it
    is finite. So an unfinished repeat drops out of the band but does not end it.

    Args:
        curves: at least one; clocks may differ.

    Returns:
        Four lists of equal length.
    """
    import numpy as np

    clock = np.unique(np.concatenate([curve.x for curve in curves]))
    stacked = np.full((len(curves), len(clock)), np.nan)
    for row, curve in zip(stacked, curves, strict=True):
        xs, ys = np.asarray(curve.x, float), np.asarray(curve.y, float)
        fine = np.isfinite(ys)
        if fine.any():
            row[:] = np.interp(clock, xs[fine], ys[fine], left=np.nan, right=np.nan)
    used = np.isfinite(stacked).any(axis=0)
    clock, stacked = clock[used], stacked[:, used]
    parts = clock, np.nanmin(stacked, 0), np.nanmean(stacked, 0), np.nanmax(stacked, 0)
    low, mean, high = parts[1].tolist(), parts[2].tolist(), parts[3].tolist()
    return clock.tolist(), low, mean, high


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential running mean, corrected for bias at the start; NaN stays NaN."""
    total = norm = 0.0
    result = []
    for value in values:
        if math.isnan(value):
            result.append(math.nan)
            continue
        total, norm = weight * total + (1 - weight) * value, weight * norm + (1 - weight)
        result.append(total / norm)
    return result


def _legend_entries(lines: list[PlottedLine]) -> list[PlottedLine]:
    """One entry for each label, the lowest ones if too many; for groups also one for each dash."""
    if len({line.rest for line in lines}) < 2:
        return list({line.label: line for line in lines}.values())[-LEGEND_LINES:]
    colours = {line.label: PlottedLine(line.label, [], line.colour) for line in lines}
    dashes = {
        line.rest: PlottedLine(line.rest, [], "#5b616b", line.dash, line.marker) for line in lines
    }  # fmt: skip
    return [*colours.values(), *dashes.values()][:LEGEND_LINES]


def _draw_legend(figure: Figure, entries: list[PlottedLine], heading: str, more: bool) -> None:
    from matplotlib.lines import Line2D

    if len(entries) == 1 and not heading:
        return
    handles = []
    for line in entries:
        dashes: dict[str, Any] = {"dashes": line.dash} if line.dash else {}
        marks: dict[str, Any] = {"marker": line.marker, "markersize": 4} if line.marker else {}
        style = {"color": line.colour, "linewidth": 1.8, "label": line.label, **dashes, **marks}
        handles.append(Line2D([], [], **style))
    note = f"{heading}\n(the {len(entries)} that end lowest)" if more else heading
    legend = figure.legend(
        handles=handles, loc="outside right upper", frameon=False, title=note or None,
        fontsize=8.5 if len(entries) <= 20 else 7.5, handlelength=2.6, labelspacing=0.35,
        alignment="left",
    )  # fmt: skip
    legend.get_title().set_fontweight("bold")
