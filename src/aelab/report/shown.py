"""What a notebook shows of a folder of runs and of tables; of one run: `aelab.runs.shown`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from html import escape

from aelab.errors import visible
from aelab.report.listing import listing
from aelab.runs.record import Run

#: Runs that a notebook lists of a folder; the others are counted.
LISTED = 40


class TableText(str):
    """A table as text, which a notebook shows as HTML.

    Args:
        text: the table.
        html: makes the same as HTML; called when a notebook asks.
    """

    _html: Callable[[], str]

    def __new__(cls, text: str, html: Callable[[], str]) -> TableText:
        made = super().__new__(cls, text)
        made._html = html
        return made

    def _repr_html_(self) -> str:
        return self._html()


def runs_html(runs: Sequence[Run], where: str) -> str:
    """The stored runs of a folder: how many in which state, and the latest of them as a table."""
    counted = Counter(run.state for run in runs)
    states = ", ".join(f"{count} {state}" for state, count in counted.most_common()) or "no runs"
    head = f"<p><b>Lab</b> <code>{escape(visible(where))}</code>: {escape(states)}</p>"
    if not runs:
        return head
    more = len(runs) - LISTED
    rest = f"<p>and {more:,} more: <code>lab.ls()</code></p>" if more > 0 else ""
    return head + listing(list(runs)[:LISTED], format="html") + rest
