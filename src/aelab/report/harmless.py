"""Escapes text for other programs, so that it stays text there.

Names, matrix values and messages may come from other people's files. A spreadsheet could read them
as formulas, a Markdown reader as HTML, links and code.
"""

from __future__ import annotations

import re
from typing import Any

from aelab.errors import visible

#: First characters of cells that spreadsheets read as formulas, including full-width forms.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")

#: Backslashes that a Markdown reader reads as an escape.
_ESCAPES = re.compile(r"\\(?=[!-/:-@\[-`{-~]|$)")

#: The middle of a link, of an image, and of a definition of either.
_LINKS = re.compile(r"\](?=[(:\[])")


def csv_cell(value: Any) -> Any:
    """A value for a spreadsheet: numbers unchanged, text never as a formula.

    A text that would be a formula gets an apostrophe; control characters are written out.

    Source: OWASP, CSV injection.
    """
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raw = str(value)
    begins = raw.startswith(_FORMULA) or raw.lstrip().startswith(_FORMULA)
    text = visible(raw)
    return f"'{text}" if begins and not _is_number(raw) else text


def markdown_text(text: str) -> str:
    """Text that a Markdown reader shows unchanged: no HTML, link, image, code or table cell.

    Stars and underscores are kept: they can only make letters bold or italic.

    Source: CommonMark 0.31, 2.4 (escapes), 2.5 (entities); GitHub Flavored Markdown, 4.10 (tables).
    """
    text = _ESCAPES.sub(r"\\\\", visible(text))
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;")
    text = _LINKS.sub(r"]\\", text)
    text = text.replace("|", r"\|").replace("`", r"\`")
    return re.sub(r"^([#>])", r"\\\1", text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return "_" not in text
