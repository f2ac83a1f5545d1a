"""Stored texts of runs with ASCII art: originals and reproductions side by side.

A run keeps `text/heldout-000060000.txt` (up to 16 examples, an empty line between them, each line
`original   |   reconstruction`), the same for `train`; the number is that of images trained on.
Control characters are removed, because a run may come from somebody else.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from aelab.errors import UserError, one_of, visible
from aelab.report.harmless import markdown_text
from aelab.report.moments import SPLITS, stored_moments
from aelab.report.series import labels
from aelab.runs.record import Run

#: Examples of a run in a table; examples of a run and set in a page, and all their characters.
IN_TABLE, IN_PAGE, PAGE_CHARACTERS = 1, 4, 400_000

#: Heading of the two halves of an example.
HEADING = "original   |   reconstruction"


class Texts(NamedTuple):
    """Examples of one run at one moment.

    Attributes:
        images: number of images the model was trained on.
        blocks: one text for each example, with lines `original   |   reconstruction`.
    """

    images: int
    blocks: list[str]


def moments(run: Run, split: str = "heldout") -> dict[int, Path]:
    """Images trained on -> file of the texts, ascending."""
    return stored_moments(run, "text", split, ".txt")


def examples(
    run: Run, split: str = "heldout", *, count: int = 16, images: int | None = None
) -> Texts | None:
    """The first examples of a run; None if it has none.

    Args:
        run: finished or not.
        split: `heldout` or `train`.
        count: greatest number of examples.
        images: use the last moment at or before this number of images; None for the latest.
    """
    stored = [moment for moment in moments(run, split) if images is None or moment <= images]
    if not stored:
        return None
    text = run.read_text(f"text/{moments(run, split)[stored[-1]].name}")
    lines = [visible(line) for line in text.split("\n")]
    blocks = [block.strip("\n") for block in re.split(r"\n{2,}", "\n".join(lines))]
    return Texts(stored[-1], [without_blank_edges(block) for block in blocks if block][:count])


def without_blank_edges(block: str) -> str:
    """Removes lines at the top and bottom of an example that are blank on both sides."""
    lines = block.split("\n")
    # A line that is blank on both sides consists of the bar alone.
    inked = [number for number, line in enumerate(lines) if line.strip() not in ("", "|")]
    return "\n".join(lines[inked[0] : inked[-1] + 1]) if inked else lines[0]


def examples_text(
    run: Run, split: str = "heldout", *, count: int = 4, images: int | None = None
) -> str:
    """Examples of one run for a terminal.

    Raises:
        UserError: unknown split, or the run has no texts; the message lists what it has.
    """
    if split not in SPLITS:
        raise UserError(f"no split {split!r}; possible: {one_of(SPLITS)}")
    found = examples(run, split, count=count, images=images)
    if found is not None and found.blocks:
        head = f"{run.folder}: {SPLITS[split]} after {found.images:,} images, {HEADING}"
        return "\n\n".join([head, *found.blocks])
    if not run.record.get("cell"):
        raise UserError(
            f"run {run.folder} outputs pictures, it has no text",
            hint=f"to see its pictures: aelab figure reproductions {run.folder}",
        )
    when = f" at or before {images:,} images" if images is not None else " yet"
    known = ", ".join(f"{moment:,}" for moment in moments(run, split))
    raise UserError(
        f"run {run.folder} has no stored texts of {SPLITS[split]}{when}",
        hint=f"there are those after {known} images"
        if known
        else "they are stored during training",
    )


def below_table(runs: Sequence[Run], format: str, count: int = IN_TABLE) -> str:
    """Side-by-side texts of each run that has them, for below a table.

    Args:
        runs: in the order of the table; those without texts are left out.
        format: `terminal`, `markdown` (fenced) or `html` (escaped, in `<pre>`).
        count: examples for each run.

    Raises:
        UserError: another format, or no run has texts.
    """
    if format not in ("terminal", "markdown", "html"):
        raise UserError(
            f"texts of runs cannot be in {format}",
            hint="use --text with --format terminal, markdown or html",
        )
    parts = []
    for label, run in zip(labels(runs)[1], runs, strict=True):
        found = examples(run, count=count)
        if found is not None and found.blocks:
            text = "\n\n".join(found.blocks)
            parts.append(_block(f"{label} ({HEADING})", text, format))
    if not parts:
        raise UserError(
            "none of these runs has texts", hint="--text is for runs that write ASCII art"
        )
    return "\n".join(parts)


def _block(title: str, text: str, format: str) -> str:
    if format == "html":
        return f"<h4>{html.escape(title)}</h4>\n<pre>{html.escape(text)}</pre>\n"
    # ASCII art may contain backticks, so the fence must be longer than any of them.
    longest = max((len(ticks) for ticks in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    title = markdown_text(title) if format == "markdown" else title
    return f"{title}\n\n{fence}text\n{text}\n{fence}\n"


def of_page(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The texts of each run for the page.

    Returns:
        `run` (its number) and `parts`: `title` and `blocks` of held-out and training images.
        Later runs get fewer examples, or none, if the page would become too large.
    """
    found, room = [], PAGE_CHARACTERS
    for number, run in enumerate(runs):
        parts = []
        for split, words in SPLITS.items():
            texts = examples(run, split, count=IN_PAGE)
            blocks = []
            for block in texts.blocks if texts else []:
                room -= len(block)
                blocks += [block] if room >= 0 else []
            if texts and blocks:
                title = f"{words} after {texts.images:,} images: {HEADING}"
                parts.append({"title": title, "blocks": blocks})
        if parts:
            found.append({"run": number, "parts": parts})
    return found
