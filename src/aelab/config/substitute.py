"""Text substitution: `${name}` in every scalar, after parsing and before typing.

Parsing first keeps line numbers and ignores comments; typing afterwards lets `${name}` become a
number. Comments inside Python blocks are not substituted either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from aelab.config.document import Entry, Items, Text, Tree, YamlMapping, scalar_value
from aelab.errors import ConfigError, or_possible

_REFERENCE = re.compile(r"\$\{([^{}\n]*)\}")
_SINGLE = re.compile(r"\s*\$\{([^{}\n]*)\}\s*\Z")
_COMMENT_OR_STRING = re.compile(
    r"(?P<comment>\#[^\n]*)"
    r"|'''.*?'''|\"\"\".*?\"\"\""
    r"|'(?:\\.|[^'\\\n])*'|\"(?:\\.|[^\"\\\n])*\"",
    re.DOTALL,
)


def unquoted(value: Any) -> Any:
    """`'l1'` -> `l1`: removes one pair of quotes, which old files needed around texts."""
    if isinstance(value, str) and len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1]
    return value


def has_reference(text: str) -> bool:
    """Whether `text` contains a `${name}`."""
    return _REFERENCE.search(text) is not None


class Substitution:
    """Replaces `${name}` in trees, by the values of one matrix entry.

    Args:
        values: name -> value, inserted as `str(value)`.
        errors: errors for unknown names are appended here, with their line.
    """

    def __init__(self, values: Mapping[str, Any], errors: list[ConfigError]) -> None:
        self.values = values
        self.errors = errors

    def tree(self, tree: Tree) -> Tree:
        """Substitutes in every scalar and key of a tree."""
        if isinstance(tree, Text):
            return self.scalar(tree)
        if isinstance(tree, Items):
            return Items(tuple(self.tree(item) for item in tree.items), tree.where)
        return self.table(tree)

    def table(self, table: YamlMapping) -> YamlMapping:
        """Substitutes in a mapping; two keys that become equal are an error."""
        entries: dict[str, Entry] = {}
        for key, entry in table.entries.items():
            name = self.plain(key, entry_text(key, entry))
            if name in entries:
                message = f"'{key}' becomes '{name}', which is there already"
                if name == key:
                    message = f"another key becomes '{name}' too: two names of one setting"
                self.errors.append(ConfigError(message, where=entry.where))
            entries[name] = Entry(entry.where, self.tree(entry.tree))
        return YamlMapping(entries, table.where)

    def scalar(self, scalar: Text) -> Text:
        """Substitutes in a scalar and types it again.

        A scalar that is exactly one `${name}` becomes the typed value itself, quoted or not (so
        `["${x}", 2]` holds a number); other quoted scalars and blocks stay text.
        """
        if not has_reference(scalar.text):
            return scalar
        text = self.plain(scalar.text, scalar)
        single = _SINGLE.match(scalar.text)
        if single and single.group(1) in self.values and scalar.style != "block":
            value = self.values[single.group(1)]
            if isinstance(value, str):
                value = unquoted(text) if unquoted(text) != text else scalar_value(text.strip())
            return replace(scalar, text=text, value=value)
        value = unquoted(scalar_value(text)) if scalar.style == "plain" else text
        return replace(scalar, text=text, value=value)

    def plain(self, text: str, scalar: Text) -> str:
        """Replaces references in `text`, except in Python comments."""
        code_like = scalar.style == "block" or "\n" in text
        spared = comment_spans(text) if code_like else []

        def insert(found: re.Match[str]) -> str:
            """The value of a reference; the reference itself if unknown or in a comment."""
            if any(start <= found.start() < end for start, end in spared):
                return found.group()
            name = found.group(1)
            if name not in self.values:
                line = text.count("\n", 0, found.start())
                self.errors.append(self.unknown(name, scalar, line))
                return found.group()
            return str(self.values[name])

        return _REFERENCE.sub(insert, text)

    def unknown(self, name: str, scalar: Text, line: int) -> ConfigError:
        """The error for an unknown reference, `line` lines below the start of its scalar."""
        where = scalar.where.at(line=(scalar.where.line or 1) + line)
        possible = or_possible(name, sorted(self.values), form="${{{}}}".format)
        return ConfigError(f"${{{name}}} is not defined{possible}", where=where)


def entry_text(key: str, entry: Entry) -> Text:
    """A key as a scalar, so that errors in it have a place."""
    return Text(key, key, "plain", entry.where)


def comment_spans(text: str) -> list[tuple[int, int]]:
    """(start, end) of every Python comment in `text`."""
    return [
        found.span() for found in _COMMENT_OR_STRING.finditer(text) if found.lastgroup == "comment"
    ]
