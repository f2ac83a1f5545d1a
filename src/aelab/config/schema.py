"""A JSON schema of the file format, for editors that complete and check YAML."""

from __future__ import annotations

from typing import Any

from aelab.config.settings import BLOCK_KEYS, REQUIRED_KEYS, STRUCTURE_KEYS, WITHOUT_EFFECT
from aelab.settings import OLD_NAMES, RULES

_REFERENCE = {"type": "string", "pattern": r"\$\{[^{}]+\}"}
_BLOCK = {"type": "string"}
_OF_STRUCTURE: dict[str, Any] = {
    "experiment_name": {"type": "string"},
    "$extends": {"type": "string"},
    "model": _BLOCK,
    "globals": {"type": "object"},
    "matrix": {
        "type": "object",
        "properties": {
            "$filter": {
                "type": ["string", "boolean"],
                "description": "an expression; false drops the run",
            }
        },
        "additionalProperties": {"type": "array", "minItems": 1},
    },
}


def json_schema() -> dict[str, Any]:
    """The JSON schema; every plain value may also be a text with a `${name}`, or a block.

    Old names of settings are separate properties with the rule of their setting. Use it in an
    editor with a first line such as `# yaml-language-server: $schema=aelab.schema.json`.
    """
    settings = {
        name: {"anyOf": [dict(rule.schema), _REFERENCE], "description": rule.meaning}
        for name, rule in RULES.items()
        if rule.is_key
    }
    settings |= {name: {**_BLOCK, "description": meaning} for name, meaning in BLOCK_KEYS.items()}
    properties = {
        **settings,
        **{
            old: {**settings[name], "description": f"old name of {name}"}
            for old, name in OLD_NAMES.items()
        },
        **{
            key: {**schema, "description": STRUCTURE_KEYS[key]}
            for key, schema in _OF_STRUCTURE.items()
        },
        **{key: {"description": f"does nothing: {why}"} for key, why in WITHOUT_EFFECT.items()},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aelab experiment",
        "type": "object",
        "properties": properties,
        "patternProperties": {r"^(train|validation)_set\d*$": _BLOCK},
        "required": list(REQUIRED_KEYS),
        "additionalProperties": False,
    }
