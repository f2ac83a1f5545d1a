"""Every part stands in a table of the documents, and every part of the tables exists.

A table of parts is marked by the line before it: `<!-- parts: penalty -->`, or several kinds with
commas. Its first column names the parts; a column `arguments` or `options` names their arguments.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from aelab import parts
from aelab.catalogue import names
from aelab.data import COMBINATORS, METHODS, TRANSFORMS

DOCS = Path(__file__).parents[1] / "docs"
#: Kinds of a few parts each, which are described in the running text.
IN_TEXT = (
    "helper",
    "set of sets",
    "data set of torchvision",
    "loss",
    "loss name",
    "writer",
    "verb",
    "table layout",
)
#: An old program is described as a whole: docs/experiment-language.md, "Old files".
KINDS = tuple(
    kind for kind in parts.kinds() if kind not in (*IN_TEXT, "old program", "path reader")
)


class Row(NamedTuple):
    """One row of a table of parts: the kinds that the table is of, and its cells by column."""

    page: str
    kinds: tuple[str, ...]
    cells: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The parts of the row."""
        return re.findall(r"`([\w.]+)`", next(iter(self.cells.values())))


def _rows() -> Iterator[Row]:
    for page in sorted(DOCS.rglob("*.md")):
        found = re.findall(r"^<!-- parts: (.+) -->\n((?:\|.*\n)+)", page.read_text("utf-8"), re.M)
        for kinds, text in found:
            lines = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines()]
            head = [cell.strip() for cell in lines[0]]
            for cells in lines[2:]:
                cells = dict(zip(head, (cell.strip() for cell in cells), strict=True))
                yield Row(page.name, tuple(kinds.split(", ")), cells)


ROWS = list(_rows())
WRITTEN = "\n".join(page.read_text("utf-8") for page in sorted(DOCS.rglob("*.md")))


def _signature(part: Any) -> dict[str, inspect.Parameter]:
    """Arguments that a file may give: those of a metric or figure without the subject."""
    function: Callable[..., Any] = parts.function_of(part)
    return dict(inspect.signature(function).parameters) if callable(function) else {}


@pytest.mark.parametrize("kind", KINDS)
def test_every_part_is_documented(kind: str) -> None:
    table = parts.table_of(kind)
    documented = {name for row in ROWS if kind in row.kinds for name in row.names}
    missing = [name for name in table.ours if name not in documented]
    lines = [f"| `{name}` | {', '.join(_signature(table[name]))} | {table.summary(name)} |"
             for name in missing]  # fmt: skip
    assert not missing, (
        f"no page of docs/ has the {kind} {', '.join(missing)}; "
        f"add to a table below <!-- parts: {kind} --> something like\n" + "\n".join(lines)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_documented_part_exists(kind: str) -> None:
    there = set(parts.table_of(kind)) | set(COMBINATORS if kind == "data set" else ())
    for row in ROWS:
        if row.kinds == (kind,):
            gone = [name for name in row.names if name not in there]
            assert not gone, f"docs/{row.page} describes {gone}, and there is no such {kind}"


def test_a_marked_table_is_of_kinds_that_exist() -> None:
    assert {kind for row in ROWS for kind in row.kinds} == set(KINDS)


#: One argument, with its default where it is told.
_ARGUMENT = re.compile(r"(\w+)(?:=((?:\([^)]*\)|\[[^]]*\]|\"[^\"]*\"|[^,\s])+))?")


def _described(row: Row) -> Iterator[tuple[str, str]]:
    """Each part of a row with the arguments that the row gives of it.

    One cell may be of several parts: `a, b` of the first; `c` of the second.
    """
    cell = row.cells.get("arguments", row.cells.get("options", ""))
    # Values in brackets, or after "or", are no arguments: `method` (`pca`, `tsne`).
    cell = re.sub(r"\((?=`)[^)]*\)|(?<=`) or `[^`]*`|all but `[^`]*`", "", cell)
    pieces = re.split(r";(?=[^`]*(?:`[^`]*`[^`]*)*$)", cell)
    yield from zip(row.names, pieces if len(pieces) > 1 else [cell], strict=False)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.page}-{row.names[0]}")
def test_documented_arguments_are_those_of_the_part(row: Row) -> None:
    known = {**parts.table_of(row.kinds[0]), **(COMBINATORS if "data set" in row.kinds else {})}
    for part, cell in _described(row):
        taken = _signature(known[part])
        if any(p.kind is p.VAR_POSITIONAL for p in taken.values()):
            continue
        told = [pair for code in re.findall(r"`([^`]+)`", cell) for pair in _ARGUMENT.findall(code)]
        told = [(name, default) for name, default in told if name not in known]  # as `Other`
        for name, default in told:
            assert name in taken, f"docs/{row.page}: {part} has no argument {name}"
            assert not default or _value(default) == _plain(taken[name].default), (
                f"docs/{row.page}: {part}, the default of {name} is not {default}"
            )
        if "arguments" in row.cells and not re.sub(r"`[^`]*`", "", cell).strip() and told:
            missing = set(taken) - {name for name, _ in told}
            assert "..." in cell or not missing, f"docs/{row.page}: {part} takes {missing} too"


class _Words(dict[str, Any]):
    """Names of a default stand for themselves: `[dilation, closing]`, `act_fn=ReLU`."""

    def __missing__(self, name: str) -> str:
        return name


def _value(text: str) -> Any:
    return _plain(eval(text, {"__builtins__": {}}, _Words(true=True, false=False)))


def _plain(value: Any) -> Any:
    """Lists as tuples, classes as their names."""
    if isinstance(value, type):
        return value.__name__
    return tuple(value) if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("what", "known"),
    [
        ("parts described in the text", [n for kind in IN_TEXT for n in parts.table_of(kind).ours]),
        ("transforms", [f"VT.{name}" for name in TRANSFORMS]),
        ("methods of a data set", [f".{name}" for name in METHODS if name != "offset"]),
        ("names that a block may use", [name for name in names() if name[0].isupper()]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_names_beside_the_tables_are_written_down_too(what: str, known: list[str]) -> None:
    missing = [name for name in known if not re.search(rf"{re.escape(name)}\b", WRITTEN)]
    assert not missing, f"docs/ does not mention {missing}, {what}"
