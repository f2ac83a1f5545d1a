"""The identity of a run: a hash of everything in its text that can change the result.

Comments, spacing, the order of keys, names of experiments and branches not taken do not enter.
Neither do device, number of jobs, library versions and defaults: those are stored with the run and
compared when it continues. Needs no torch.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aelab.config.blocks import ParsedBlock
from aelab.config.settings import BLOCK_KEYS, Settings

#: Raised when the meaning of a file or of a run directory changes.
FORMAT_VERSION = 1

#: Settings that decide what is kept or logged, not what is computed.
NOT_PART_OF_IT = frozenset(
    {
        "keep_checkpoints",
        "num_inputs_between_checkpoints",
        "num_epochs_between_checkpoints",
        "num_train_loss_steps",
        "trials",
        "trainer",
    }
)

#: Parts of a syntax tree that say nothing about what it computes.
_SILENT = frozenset({"ctx", "type_comment", "kind", "type_ignores", "type_params"})


def identity(
    settings: Settings,
    seed: int,
    blocks: Mapping[str, ParsedBlock],
    variables: Mapping[str, Any],
) -> str:
    """The identity of one run, 64 hexadecimal digits.

    Args:
        settings: only what the file states enters, not the defaults.
        seed: of this trial.
        blocks: by key, imports resolved and choices reduced.
        variables: typed matrix values; those that no block mentions do not enter.
    """
    stated = settings.model_dump(mode="json", include=_stated(settings))
    for key in ("legacy",):
        if key in stated:
            stated[key] = sorted(stated[key])
    used = _names(tree for block in blocks.values() for tree in (*block.body, block.value))
    text = {
        "format": FORMAT_VERSION,
        "seed": seed,
        "max_inputs": settings.max_inputs,
        "settings": stated,
        "variables": {key: value for key, value in variables.items() if key in used},
        "blocks": {key: canonical_block(block) for key, block in blocks.items()},
    }
    return hashlib.sha256(json.dumps(text, sort_keys=True, default=repr).encode()).hexdigest()


def text_behind(
    blocks: Mapping[str, ParsedBlock],
    variables: Mapping[str, Any],
    wanted: Callable[[str], bool],
) -> dict[str, Any]:
    """What some values of a file rest on: their blocks, and the matrix values these mention.

    A call log does not have everything: it knows nothing of what a function of the file closes
    over, of a choice between two parts that both were made, nor of a method called on one.

    Args:
        blocks: by key, imports resolved and choices reduced.
        variables: typed matrix values by name.
        wanted: which keys; the blocks whose names these use count too.

    Returns:
        `blocks` in canonical form and `variables`, each by name; JSON-able but for odd constants.
    """
    trees = {key: (*block.body, block.value) for key, block in blocks.items()}
    made = {key: _names_made(key, block.body) for key, block in blocks.items()}
    kept = {key for key in trees if wanted(key)}
    while True:
        used = _names(tree for key in kept for tree in trees[key])
        more = {key for key in trees if key not in kept and made[key] & used}
        if not more:
            break
        kept |= more
    return {
        "blocks": {key: canonical_block(blocks[key]) for key in trees if key in kept},
        "variables": {key: value for key, value in variables.items() if key in used},
    }


def canonical_block(block: ParsedBlock) -> list[Any]:
    """A block as nested lists that spacing, comments and Python's version do not change."""
    body = [canonical(node) for node in block.body if not isinstance(node, ast.Pass)]
    return [*body, canonical(block.value)]


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


def _stated(settings: Settings) -> set[str]:
    blocks = {"loss_function"} if not isinstance(settings.loss_function, str) else set()
    return set(settings.model_fields_set) - NOT_PART_OF_IT - blocks - {*BLOCK_KEYS, "seed"}


def _names(trees: Iterable[ast.AST]) -> set[str]:
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _names_made(key: str, body: Iterable[ast.stmt]) -> set[str]:
    """Names that a block gives to later ones: its assignments, and `NAME` of `globals.NAME`."""
    found = {key.removeprefix("globals.")} if key.startswith("globals.") else set()
    for node in (node for tree in body for node in ast.walk(tree)):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name.partition(".")[0])
    return found
