"""A JSON schema of the file format, for editors that complete and check YAML."""

from __future__ import annotations

from typing import Any

from aelab.config.settings import BLOCK_KEYS, REQUIRED_KEYS, WITHOUT_EFFECT, Settings

_REFERENCE = {"type": "string", "pattern": r"\$\{[^{}]+\}"}
_BLOCK = {"type": "string", "description": "Python; the last expression is the value"}


def json_schema() -> dict[str, Any]:
    """The schema; every plain value may also be a text that holds a `${name}`.

    Use it in an editor with a first line such as
    `# yaml-language-server: $schema=aelab.schema.json`.
    """
    settings = Settings.model_json_schema(by_alias=True)
    properties: dict[str, Any] = {
        key: {"anyOf": [_without_defaults(value), _REFERENCE],
              **{k: v for k, v in value.items() if k == "description"}}
        for key, value in settings["properties"].items()
    }  # fmt: skip
    properties["loss_function"] = {
        "type": "string",
        "description": "a name (l1, l2, ...) or a block",
    }
    properties |= dict.fromkeys(BLOCK_KEYS, _BLOCK)
    for key in ("optimizer", "scheduler"):
        properties[key] = {
            "anyOf": [{"type": "string"}, _named_arguments()],
            "description": properties[key]["description"],
        }
    properties["gradient_clipping"] = {"anyOf": [{"type": "number"}, _clipping(), _REFERENCE]}
    properties["legacy"] = {
        "anyOf": [
            {"type": "boolean"},
            {"type": "array", "items": {"enum": ["kl", "validation"]}},
            _REFERENCE,
        ]
    }
    properties |= {
        "experiment_name": {"type": "string", "description": "name and folder below runs/"},
        "$extends": {"type": "string", "description": "another file, whose keys are defaults"},
        "model": _BLOCK,
        "globals": {"type": "object", "description": "names for all blocks, evaluated in order"},
        "matrix": _matrix(),
    }
    properties |= {
        key: {"description": f"does nothing: {why}"} for key, why in WITHOUT_EFFECT.items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "aelab experiment",
        "type": "object",
        "properties": properties,
        "patternProperties": {r"^(train|validation)_set\d*$": _BLOCK},
        "required": [] if not REQUIRED_KEYS else list(REQUIRED_KEYS),
        "additionalProperties": False,
    }


def _without_defaults(value: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in value.items() if k not in ("default", "title", "description")}


def _named_arguments() -> dict[str, Any]:
    return {
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": {"type": ["object", "null"]},
    }


def _clipping() -> dict[str, Any]:
    number = {"type": "number", "exclusiveMinimum": 0}
    return {
        "type": "object",
        "properties": {"value": number, "norm": number},
        "additionalProperties": False,
    }


def _matrix() -> dict[str, Any]:
    return {
        "type": "object",
        "description": "every combination is a run; the first key varies slowest",
        "properties": {
            "$filter": {
                "type": ["string", "boolean"],
                "description": "an expression; false drops the run",
            }
        },
        "additionalProperties": {"type": "array", "minItems": 1},
    }
