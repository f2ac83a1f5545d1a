"""`aelab parts`."""

from __future__ import annotations

import inspect
import json
from typing import Annotated, Any

import typer

from aelab.cli.options import Json
from aelab.cli.output import print_or_write, tabulated
from aelab.errors import UserError, did_you_mean, one_of
from aelab.parts import function_of, kinds, summary_of, tables


def parts(
    name: Annotated[
        str | None,
        typer.Argument(help="A kind of part, or one part; default: all.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what a file may name: models, data sets, losses, optimizers, ...; or explain one."""
    if name is None or name in kinds():
        rows = _rows(name)
        print_or_write(json.dumps(rows, indent=2) if as_json else _table(rows), None)
        return
    found = [(kind, table[name]) for kind, table in tables().items() if name in table]
    if not found:
        known = [*kinds(), *(part for table in tables().values() for part in table)]
        raise UserError(
            f"there is no part '{name}'{did_you_mean(name, known)}",
            hint=f"aelab parts lists them all; kinds: {one_of(kinds())}",
        )
    if as_json:
        rows = [row for row in _rows(None) if row["name"] == name]
        print_or_write(json.dumps(rows, indent=2), None)
    else:
        print_or_write("\n\n".join(_explained(kind, name, part) for kind, part in found), None)


def _rows(kind: str | None) -> list[dict[str, str]]:
    """`{kind, name, description, package}` of all parts, or of those of one kind."""
    return [
        {
            "kind": table.kind,
            "name": name,
            "description": table.summary(name),
            "package": table.package(name),
        }
        for table in tables().values()
        if kind in (None, table.kind)
        for name in table
    ]


def _table(rows: list[dict[str, str]]) -> str:
    """A table with a line for each part; the package only if it is not aelab."""
    shown = [[row["kind"], row["name"], _described(row)] for row in rows]
    header = ["kind", "name", "what it is"]
    return tabulated(shown, header, disable_numparse=True)


def _described(row: dict[str, str]) -> str:
    package = row["package"] or "registered"
    return row["description"] + ("" if package == "aelab" else f" ({package})")


def _explained(kind: str, name: str, part: Any) -> str:
    """The kind, the arguments with their defaults, and the docstring of one part."""
    function = function_of(part)
    if not callable(function):
        return f"{kind} {name}\n\n{summary_of(part)}"
    taken = [
        parameter.name
        if parameter.default is parameter.empty
        else f"{parameter.name}={_default(parameter.default)}"
        for parameter in inspect.signature(function).parameters.values()
    ]
    return f"{kind} {name}({', '.join(taken)})\n\n{inspect.getdoc(function) or ''}".rstrip()


def _default(value: Any) -> str:
    return value.__name__ if isinstance(value, type) else repr(value)
