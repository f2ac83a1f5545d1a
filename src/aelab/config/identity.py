"""The identity of a run: a hash of everything in its text that can change the result.

Comments, spacing, the order of keys, names of experiments and branches not taken are not part of
it. Neither are device, number of jobs, library versions and defaults: those are stored with the
run and compared when it continues. Does not need torch.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

from aelab.config.blocks import Block, ParsedBlock
from aelab.config.settings import BLOCK_KEYS, Stated
from aelab.settings import RULES, RULES_OF_FIT, Choice, Clipping, OnNan, Settings, first_name

#: Increased when the meaning of a file or of a run directory changes.
FORMAT_VERSION = 1

#: Settings that change only what is kept or logged, not what is computed.
NOT_PART_OF_IT = frozenset(
    {
        "keep_checkpoints",
        "checkpoint_every_images",
        "checkpoint_every_epochs",
        "log_every_images",
        "trials",
        "trainer",
    }
)

#: Settings added after the first stored runs: at their defaults they are left out of the hash.
_LATER = {"on_nan": OnNan()}


def identity(
    stated: Stated,
    seed: int,
    blocks: Mapping[str, ParsedBlock],
    variables: Mapping[str, Any],
) -> str:
    """The identity of one run, 64 hexadecimal digits.

    Args:
        stated: the settings; only those stated in the file count, not defaults.
        seed: the seed of this trial.
        blocks: by key, imports resolved and choices reduced.
        variables: typed matrix values; those that no block mentions are ignored.
    """
    plain = with_first_names(stated.settings)
    counted = stated.names - NOT_PART_OF_IT - {"seed"}
    used = frozenset[str]().union(*(block.names for block in blocks.values()))
    text = {
        "format": FORMAT_VERSION,
        "seed": seed,
        "max_inputs": stated.settings.fit.max_images,
        "settings": {name: plain[name] for name in map(first_name, counted) if name in plain},
        "variables": {key: value for key, value in variables.items() if key in used},
        "blocks": {first_name(key): block.canonical for key, block in blocks.items()},
    }
    return hashlib.sha256(json.dumps(text, sort_keys=True, default=repr).encode()).hexdigest()


def with_first_names(
    settings: Settings, blocks: Mapping[str, Block] | None = None
) -> dict[str, Any]:
    """Every setting as plain data under its first name, the form used for hashes.

    Older runs were hashed in this form; it must never change.

    Args:
        settings: settings of a run.
        blocks: blocks of that run; those in place of a setting are included with their place.
    """
    found: dict[str, Any] = {}
    for name, rule in RULES.items():
        if rule.is_key:
            owner = settings.fit if name in RULES_OF_FIT else settings
            value = getattr(owner, name)
            if name not in _LATER or value != _LATER[name]:
                found[first_name(name)] = _plain(value)
    for name in (*BLOCK_KEYS, "loss_function"):
        block = (blocks or {}).get(name)
        if block is not None:
            found[first_name(name)] = asdict(block)
        elif name in BLOCK_KEYS:
            found[first_name(name)] = None
    return found


def _plain(value: Any) -> Any:
    """Converts to plain data for JSON; infinity and NaN become None."""
    match value:
        case Choice() | Clipping() | OnNan():
            return _plain(value._asdict())
        case dict():
            return {_key(key): _plain(item) for key, item in value.items()}
        case frozenset() | set():
            return sorted(map(_plain, value), key=repr)
        case list() | tuple():
            return [_plain(item) for item in value]
        case float() if not math.isfinite(value):
            return None
    return value


def _key(key: Any) -> str:
    if isinstance(key, bool):
        return str(key).lower()
    return ",".join(map(_key, key)) if isinstance(key, tuple) else str(key)


def text_behind(
    blocks: Mapping[str, ParsedBlock],
    variables: Mapping[str, Any],
    wanted: Callable[[str], bool],
) -> dict[str, Any]:
    """The blocks that some keys depend on, and the matrix values that these mention.

    A log of calls is not enough: it lacks the values that a function of the file closes over, the
    choice between two parts that were both built, and methods called on a part.

    Args:
        blocks: by key, imports resolved and choices reduced.
        variables: typed matrix values by name.
        wanted: selects the keys; blocks that define names used by these are included.

    Returns:
        `blocks` in canonical form and `variables`, each by name; JSON-able except rare constants.
    """
    made = {key: _names_made(key, block.body) for key, block in blocks.items()}
    kept = {key for key in blocks if wanted(key)}
    while True:
        used = frozenset[str]().union(*(blocks[key].names for key in kept))
        more = {key for key in blocks if key not in kept and made[key] & used}
        if not more:
            break
        kept |= more
    return {
        "blocks": {key: blocks[key].canonical for key in blocks if key in kept},
        "variables": {key: value for key, value in variables.items() if key in used},
    }


def _names_made(key: str, body: Iterable[ast.stmt]) -> set[str]:
    """Names that a block defines for later ones: its assignments, and `NAME` of `globals.NAME`."""
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
