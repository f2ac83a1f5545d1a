"""Syntax trees in a form that is compared and hashed."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

#: Fields of a syntax tree that do not change what it computes.
_SILENT = frozenset({"ctx", "type_comment", "kind", "type_ignores", "type_params"})


def canonical(node: Any) -> Any:
    """Like `ast.dump`, but equal on every version of Python: empty fields are left out."""
    if isinstance(node, ast.AST):
        fields = {
            name: canonical(value)
            for name, value in ast.iter_fields(node)
            if name not in _SILENT and (value or not isinstance(value, list | None))
        }
        return [type(node).__name__, fields]
    if isinstance(node, list):
        return [canonical(item) for item in node]
    return node if isinstance(node, str | int | bool | None) else repr(node)


def names_in(trees: Iterable[ast.AST]) -> frozenset[str]:
    """All names in syntax trees, read or assigned."""
    nodes = (node for tree in trees for node in ast.walk(tree))
    return frozenset(node.id for node in nodes if isinstance(node, ast.Name))
