"""What a person writes about a run: a text and some tags, in the run's `notes.json`.

Notes belong to the reader. They do not enter the identity of a run, training never touches them,
and they may be written while the run trains.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

from aelab.errors import StoreError, UserError, visible
from aelab.runs.files import read_json
from aelab.runs.foreign import refuse_links
from aelab.runs.record import Run
from aelab.runs.status import now

FILE = "notes.json"
#: Most characters of the text and of a tag, and most tags of a run.
LONGEST_TEXT, LONGEST_TAG, MOST_TAGS = 10_000, 40, 20

_TAG = re.compile(r"[^\s,\"]+")


@dataclass(frozen=True)
class Notes:
    """The notes of a run.

    Attributes:
        text: any number of lines.
        tags: words without spaces, commas and quotes; sorted, each once.
        updated: time of the last change (ISO, UTC); empty if there was none.
    """

    text: str = ""
    tags: tuple[str, ...] = ()
    updated: str = ""

    @property
    def first_line(self) -> str:
        """The first line of the text, cut after 160 characters, for lists of runs."""
        return self.text.partition("\n")[0][:160]


NONE = Notes()


def read_notes(run: Run) -> Notes:
    """The notes of a run; empty where it has none, or where they cannot be read."""
    if not os.path.lexists(run.path / FILE):
        return NONE
    try:
        found = read_json(run.path / FILE, run.path)
    except StoreError:
        return NONE
    text, tags, updated = (found.get(key) for key in ("text", "tags", "updated"))
    kept = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    with contextlib.suppress(UserError):
        return Notes(
            _lines(text if isinstance(text, str) else ""),
            checked_tags(kept),
            visible(updated) if isinstance(updated, str) else "",
        )
    return NONE


def write_notes(run: Run, text: str, tags: Iterable[str]) -> Notes:
    """Replaces the notes of a run; waits for nobody, because training never writes them.

    Args:
        run: a readable run.
        text: at most `LONGEST_TEXT` characters.
        tags: at most `MOST_TAGS`, see `Notes`.

    Raises:
        UserError: a text or a tag is not allowed.
        StoreError: the system refuses, or the run's folder leads elsewhere.
    """
    if len(text) > LONGEST_TEXT:
        raise UserError(f"a note has at most {LONGEST_TEXT:,} characters, this one {len(text):,}")
    made = Notes(_lines(text), checked_tags(tags), now())
    refuse_links(run.path)
    run.write_json(FILE, {"text": made.text, "tags": list(made.tags), "updated": made.updated})
    return made


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """The tags, sorted, each once.

    Raises:
        UserError: one is not a single word, too long, or there are too many.
    """
    found = tuple(sorted(set(tags)))
    for tag in found:
        if not _TAG.fullmatch(tag) or len(tag) > LONGEST_TAG or visible(tag) != tag:
            raise UserError(
                f"{visible(tag)!r} cannot be a tag",
                hint=f"a tag is one word of at most {LONGEST_TAG} letters, without commas",
            )
    if len(found) > MOST_TAGS:
        raise UserError(f"a run has at most {MOST_TAGS} tags, these are {len(found)}")
    return found


def _lines(text: str) -> str:
    """The text with line ends of one kind, and control characters made visible."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")[:LONGEST_TEXT]
    return "\n".join(visible(line) for line in plain.split("\n"))
