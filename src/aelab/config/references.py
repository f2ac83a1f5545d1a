"""Runs that the text of a run refers to, found without evaluating it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import Any

from aelab.config.blocks import ParsedBlock
from aelab.config.slugs import legible_folder

#: Parts whose argument names another run -> the name of this argument, which is the first.
NAMES_A_RUN = {"latents_of": "run"}


def runs_named(
    blocks: Mapping[str, ParsedBlock], variables: Mapping[str, Any], load: str | None = None
) -> tuple[str, ...]:
    """Folders of the runs that must be there before this one can be trained, each once.

    Names that only an evaluation could find are left out: such a run is looked for when its time
    has come.

    Args:
        blocks: by key, imports resolved and choices reduced.
        variables: typed matrix values by name.
        load: the setting of this name.
    """
    constants = {name: value for name, value in variables.items() if isinstance(value, str)}
    for key, block in blocks.items():
        if key.startswith("globals.") and isinstance(block.value, ast.Constant):
            constants[key.removeprefix("globals.")] = str(block.value.value)
    named = [load] if load else []
    for block in blocks.values():
        for node in _nodes((*block.body, block.value)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                argument = _argument(node)
                match argument:
                    case ast.Constant(value=str(text)):
                        named.append(text)
                    case ast.Name(id=name) if name in constants:
                        named.append(constants[name])
    return tuple(dict.fromkeys(legible_folder(name.partition("@")[0]) for name in named))


def _argument(call: ast.Call) -> ast.AST | None:
    """The argument of a call that names a run; None for other calls."""
    assert isinstance(call.func, ast.Name)
    keyword = NAMES_A_RUN.get(call.func.id)
    if keyword is None:
        return None
    by_name = (given.value for given in call.keywords if given.arg == keyword)
    return call.args[0] if call.args else next(by_name, None)


def _nodes(trees: Iterable[ast.AST]) -> Iterable[ast.AST]:
    return (node for tree in trees for node in ast.walk(tree))
