"""Parses a YAML file into a tree in which every node has its line and column.

    text  ->  ruamel.yaml's node graph  ->  Table | Items | Text

Only the structure is taken from ruamel.yaml; scalars are typed here (`scalar_value`), because after
substitution they are typed a second time by the same rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from aelab.errors import ConfigError, Problems, Where
from aelab.findings import Finding

#: Most nodes of a file; more are an alias bomb (`&a [*b, *b, ...]`), not an experiment.
MOST_NODES = 100_000

_NULL = re.compile(r"(~|null|Null|NULL|)\Z")
_TRUE = re.compile(r"(true|True|TRUE)\Z")
_FALSE = re.compile(r"(false|False|FALSE)\Z")
_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*\Z")
_BASED = re.compile(r"0(x[0-9a-fA-F_]+|o[0-7_]+|b[01_]+)\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9][0-9_]*|[0-9][0-9_]*(\.[0-9_]*)?)([eE][-+]?[0-9]+)?\Z")
_INFINITE = re.compile(r"([-+]?)\.(inf|Inf|INF)\Z")
_NAN = re.compile(r"\.(nan|NaN|NAN)\Z")
_OLD_BOOLEAN = re.compile(r"(yes|no|on|off)\Z", re.IGNORECASE)
_REFERENCE_IN_FLOW = re.compile(r"""[^\s,\[\]{}"':]*\$\{\w+\}[^\s,\[\]{}"']*""")


@dataclass(frozen=True)
class Text:
    """A scalar.

    Attributes:
        text: the text of the file without YAML's quotes.
        value: the typed value: a number, a boolean, None, or text.
        style: "plain", "quoted" or "block" (`|` and `>`).
        where: the place of its first character; for a block, of its first line of text.
    """

    text: str
    value: Any
    style: str
    where: Where

    @property
    def is_code_like(self) -> bool:
        """Whether the text is Python: a block scalar (`|`), or any text with a line break."""
        return isinstance(self.value, str) and (self.style == "block" or "\n" in self.text)


@dataclass(frozen=True)
class Items:
    """A sequence."""

    items: tuple[Tree, ...]
    where: Where


class Entry(NamedTuple):
    """One key of a mapping: its place, and its value."""

    where: Where
    tree: Tree


@dataclass(frozen=True)
class YamlMapping:
    """A mapping with text keys, in the order of the file."""

    entries: dict[str, Entry]
    where: Where


Tree = Text | Items | YamlMapping


def scalar_value(text: str) -> Any:
    """The typed value of an unquoted scalar, by YAML 1.2 with `_` between digits.

    `1e-4` is a number, `1_000_000` an integer, `yes` and `1:30` are text.
    """
    if _NULL.match(text):
        return None
    if _TRUE.match(text):
        return True
    if _FALSE.match(text):
        return False
    if len(text) > 3000:  # Python converts no whole numbers of more than 4,300 digits
        return text
    if _INTEGER.match(text):
        return int(text.replace("_", ""))
    if _BASED.match(text):
        return int(text.replace("_", ""), 0)
    if _FLOAT.match(text):
        return float(text.replace("_", ""))
    if infinite := _INFINITE.match(text):
        return float(infinite.group(1) + "inf")
    return float("nan") if _NAN.match(text) else text


class Written(str):
    """The value of a key as one writes it in a file: `1e-3`, `[a, b]`, `{l1: 1}`, or Python."""


def given_tree(value: Any, where: Where, *, is_code: bool = False) -> Tree:
    """The tree of a value that is given beside a file; every node has the place `where`.

    Args:
        value: `Written`, or the value itself: scalars, lists and mappings.
        is_code: a written `[...]` or `{...}` is Python, not YAML.
    """
    if isinstance(value, Mapping):
        below = {str(key): Entry(where, given_tree(each, where)) for key, each in value.items()}
        return YamlMapping(below, where)
    if isinstance(value, list | tuple):
        return Items(tuple(given_tree(each, where) for each in value), where)
    if not isinstance(value, Written):
        return Text(str(value), value, "plain", where)
    text = str(value)
    if text.startswith(("[", "{")) and not is_code:
        try:
            return given_tree(to_python(parse(f"value: {text}", "").entries["value"].tree), where)
        except Problems:
            pass  # Python, such as {'a': 1}[key]
    return Text(text, scalar_value(text), "plain", where)


def to_python(tree: Tree) -> Any:
    """Converts a tree to plain dictionaries, lists and scalars."""
    if isinstance(tree, YamlMapping):
        return {key: to_python(entry.tree) for key, entry in tree.entries.items()}
    if isinstance(tree, Items):
        return [to_python(item) for item in tree.items]
    return tree.value


def scalars(tree: Tree) -> Iterator[Text]:
    """Every scalar below `tree`, in the order of the file."""
    if isinstance(tree, Text):
        yield tree
        return
    below = tree.items if isinstance(tree, Items) else [e.tree for e in tree.entries.values()]
    for item in below:
        yield from scalars(item)


def old_booleans(tree: Tree) -> list[Finding]:
    """Notes for unquoted `yes`, `no`, `on`, `off`: booleans in YAML 1.1, text in 1.2."""
    return [
        Finding(
            "note",
            "old-boolean",
            f"{scalar.where.key}: '{scalar.text}' is text here (YAML 1.2), not a boolean",
            f"write {'true' if scalar.text.lower() in ('yes', 'on') else 'false'},"
            f' or "{scalar.text}" in quotes if text is meant',
            scalar.where,
        )
        for scalar in scalars(tree)
        if scalar.style == "plain" and _OLD_BOOLEAN.match(scalar.text)
    ]


def parse(text: str, file: str) -> YamlMapping:
    """Parses one YAML file.

    Raises:
        Problems: one or more ConfigErrors with line and column: not YAML at all, a key given
            twice, a key that is not text, a tag such as `!!python/name`, too many aliases.
    """
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        raise Problems([_syntax_error(error, text, file)]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise Problems([ConfigError(f"this is not YAML: {error}", where=Where(file))]) from None
    if not isinstance(root, MappingNode):
        raise Problems(
            [
                ConfigError(
                    "the file holds no keys; it must be 'key: value' lines", where=Where(file)
                )
            ]
        )
    reader = _Reader(file, text)
    try:
        tree = reader.table(root, key=None)
    except RecursionError:
        raise Problems([ConfigError("nested too deeply", where=Where(file))]) from None
    if reader.errors:
        raise Problems(reader.errors)
    return tree


def _syntax_error(error: MarkedYAMLError, text: str, file: str) -> ConfigError:
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    where = Where(file, line + 1, (mark.column if mark else 0) + 1)
    raw = (text.splitlines() or [""])[min(line, max(len(text.splitlines()) - 1, 0))]
    if "${" in raw and re.search(r"[\[{].*\$\{", raw):
        quoted = _REFERENCE_IN_FLOW.sub(lambda found: f'"{found.group()}"', raw).strip()
        return ConfigError(
            "a ${...} inside [ ] or { } needs quotes, because YAML reads the brace as its own",
            where=where,
            hint=f"write: {quoted}",
        )
    hint = "tabs cannot indent YAML; use spaces" if "\\t" in str(error.problem) else None
    key, colon, value = raw.partition(":")
    if colon and "mapping values" in str(error.problem) and value.strip():
        hint = (
            f"Python with a colon stands below its key: '{key.strip()}: |', and in the next line, "
            f"indented: {value.strip()}"
        )
    context = f" ({error.context})" if error.context else ""
    return ConfigError(
        f"this is not YAML: {error.problem}{context}: {raw.strip()}", where=where, hint=hint
    )


class _Reader:
    """Turns nodes into a tree; collects errors instead of stopping at the first."""

    def __init__(self, file: str, text: str) -> None:
        self.file = file
        self.lines = text.splitlines()
        self.errors: list[ConfigError] = []
        self.nodes = 0

    def tree(self, node: Node, key: str | None) -> Tree:
        """Converts a YAML node with its places; problems are added to `errors`.

        Raises:
            Problems: if there are more values than `MOST_NODES`.
        """
        self.nodes += 1
        if self.nodes > MOST_NODES:
            raise Problems(
                [
                    ConfigError(
                        f"more than {MOST_NODES:,} values (aliases repeated in aliases?)",
                        where=self.place(node, key),
                    )
                ]
            )
        if not str(node.tag).startswith("tag:yaml.org,2002:") or "python" in str(node.tag):
            self.errors.append(
                ConfigError(
                    f"the tag '{node.tag}' has no meaning here", where=self.place(node, key)
                )
            )
        if isinstance(node, MappingNode):
            return self.table(node, key)
        if isinstance(node, SequenceNode):
            return Items(tuple(self.tree(item, key) for item in node.value), self.place(node, key))
        assert isinstance(node, ScalarNode)
        return self.scalar(node, key)

    def table(self, node: MappingNode, key: str | None) -> YamlMapping:
        """Converts a mapping with unique text keys; own keys take precedence over `<<`."""
        entries: dict[str, Entry] = {}
        merged: dict[str, Entry] = {}
        for key_node, value_node in node.value:
            name = key_node.value if isinstance(key_node, ScalarNode) else None
            if name is None:
                self.errors.append(
                    ConfigError("a key must be text", where=self.place(key_node, key))
                )
                continue
            path = name if key is None else f"{key}.{name}"
            where = self.place(key_node, path)
            tree = self.tree(value_node, path)
            if name == "<<" and isinstance(tree, YamlMapping):
                merged.update(tree.entries)
            elif name in entries:
                first = entries[name].where.line
                self.errors.append(
                    ConfigError(f"is given twice, first in line {first}", where=where)
                )
            else:
                entries[name] = Entry(where, tree)
        return YamlMapping({**merged, **entries}, self.place(node, key))

    def scalar(self, node: ScalarNode, key: str | None) -> Text:
        """Converts a scalar, with its value and the place where its text begins."""
        where = self.place(node, key)
        if node.style in ("|", ">"):
            line = node.start_mark.line + 1
            return Text(
                node.value, node.value, "block", where.at(line=line + 1, column=self.indent(line))
            )
        if node.style in ("'", '"'):
            return Text(node.value, node.value, "quoted", where)
        return Text(node.value, scalar_value(node.value), "plain", where)

    def indent(self, first: int) -> int:
        """The column (from 1) of a block's text; `first` is its first line, counted from 0."""
        for line in self.lines[first:]:
            if line.strip():
                return len(line) - len(line.lstrip(" ")) + 1
        return 1

    def place(self, node: Node, key: str | None) -> Where:
        """The place where a node begins."""
        mark = node.start_mark
        return Where(self.file, mark.line + 1, mark.column + 1, key)
