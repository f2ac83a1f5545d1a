"""Text that leaves for other programs, so written that it stays text there.

Names, matrix values and messages come from files of others. A spreadsheet takes some of them for
formulas, a Markdown reader for HTML, links and code.
"""

from __future__ import annotations

import re
from typing import Any

from aelab.errors import visible

#: What a cell begins with that a spreadsheet takes for a formula, the wide forms included.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\uff1d", "\uff0b", "\uff0d", "\uff20")

#: Backslashes that a Markdown reader takes for an escape.
_ESCAPES = re.compile(r"\\(?=[!-/:-@\[-`{-~]|$)")

#: The middle of a link, of an image and of the definition of either.
_LINKS = re.compile(r"\](?=[(:\[])")


def csv_cell(value: Any) -> Any:
    """A value as a spreadsheet may read it: numbers as they are, text never as a formula.

    A text that would be one begins with an apostrophe; control characters are written out.

    Source: OWASP, CSV injection.
    """
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raw = str(value)
    begins = raw.startswith(_FORMULA) or raw.lstrip().startswith(_FORMULA)
    text = visible(raw)
    return f"'{text}" if begins and not _is_number(raw) else text


def markdown_text(text: str) -> str:
    """Text that a Markdown reader shows as it is: no HTML, no link, no image, no code, no cell.

    Stars and underscores stay: they can only make letters bold or slanted.

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
