"""A figure of the errors of several runs over spatial frequency."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from aelab.errors import UserError
from aelab.report import series
from aelab.report.plots import styled_figure, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class Spectrum(NamedTuple):
    """The spectrum of one run, averaged over rings of equal frequency.

    Attributes:
        label: its name in the legend.
        frequency: cycles per pixel, ascending from 0.
        relative: squared error divided by the square of the target.
        transfer: share of the target's amplitude that is reproduced.
    """

    label: str
    frequency: Sequence[float]
    relative: Sequence[float]
    transfer: Sequence[float]


def spectra_figure(lines: Sequence[Spectrum], *, title: str | None = None) -> Figure:
    """Draws two panels over spatial frequency: the relative error, and the transfer.

    Args:
        lines: at least one; the first is the reference for the others and is drawn black and
            thicker. Frequency 0, the mean of the image, is not drawn.
        title: a heading over the panels.

    Returns:
        A matplotlib figure; write it with `plots.save`.

    Raises:
        UserError: no line.
    """
    if not lines:
        raise UserError("there is nothing to draw: no run was measured")
    with styled_figure((10.5, 4.0)) as drawn:
        left, right = drawn.subplots(1, 2)
        for number, line in enumerate(lines):
            colour = series.PALETTE[(number - 1) % len(series.PALETTE)] if number else "#22262c"
            width = 1.3 if number else 2.2
            style = {"color": colour, "linewidth": width, "label": line.label}
            left.plot(line.frequency[1:], line.relative[1:], **style)
            right.plot(line.frequency[1:], line.transfer[1:], **style)
        _name(left, "squared error / square of the target", 1.0)
        _name(right, "share of the amplitude that is reproduced", 1.0)
        left.set_yscale("log")
        left.legend(frameon=False, fontsize=8.5)
        if title:
            drawn.suptitle(
                wrapped(title, drawn.get_figwidth(), 13),
                x=0.01,
                ha="left",
                fontsize=12,
                fontweight="bold",
            )
    return drawn


def _name(panel: Axes, y_label: str, reference: float) -> None:
    panel.set_xlabel("spatial frequency (cycles per pixel)")
    panel.set_ylabel(y_label)
    panel.set_xlim(left=0)
    panel.axhline(reference, color="#8a8f98", linewidth=0.8, linestyle="--")
    panel.axvline(0.5, color="#8a8f98", linewidth=0.8, linestyle=":")
