"""The plain keys: short forms, defaults, and every complaint."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from aelab.config import Experiment, Settings, json_schema
from aelab.config.settings import SETTING_KEYS

Load = Callable[..., Experiment]
Find = Callable[..., list[str]]


@pytest.mark.parametrize(
    ("line", "name", "arguments"),
    [
        ("optimizer: AdamW", "AdamW", {}),
        ("optimizer: {AdamW: {weight_decay: 0.01, betas: [0.9, 0.99]}}", "AdamW",
         {"weight_decay": 0.01, "betas": [0.9, 0.99]}),
        ("optimizer:\n  SGD:\n    momentum: 0.9", "SGD", {"momentum": 0.9}),
        ("optimizer: {SGD: }", "SGD", {}),
        ("optimizer: {name: SGD, arguments: {momentum: 1}}", "SGD", {"momentum": 1}),
    ],
)  # fmt: skip
def test_optimizers_take_arguments(load_text: Load, line: str, name: str, arguments: Any) -> None:
    settings = load_text(f"{line}\n", without="optimizer").runs()[0].settings
    assert (settings.optimizer.name, settings.optimizer.arguments) == (name, arguments)


@pytest.mark.parametrize(
    ("line", "attribute", "value"),
    [
        ("scheduler: {WarmupCosine: {warmup_images: 50_000}}", "scheduler.arguments",
         {"warmup_images": 50_000}),
        ("scheduler: CosineAnnealingLR", "scheduler.name", "CosineAnnealingLR"),
        ("scheduler: null", "scheduler", None),
        ("gradient_clipping: 0.5", "gradient_clipping.value", 0.5),
        ("gradient_clipping: {norm: 2}", "gradient_clipping.norm", 2.0),
        ("keep_checkpoints: all", "keep_checkpoints", "all"),
        ("keep_checkpoints: 3", "keep_checkpoints", 3),
        ("keep_checkpoints: every 50_000", "keep_checkpoints", "every 50_000"),
        ("legacy: true", "legacy", {"kl", "validation"}),
        ("legacy: validation", "legacy", {"validation"}),
        ("load: vae/x@1000", "load", "vae/x@1000"),
        ("num_inputs_between_validations: 1e5", "num_inputs_between_validations", 100_000),
        ("num_inputs_between_validations: 1e5", "num_epochs_between_validations", None),
        ("min_loss: 1e-3", "min_loss", 0.001),
        ("ema: '0.99'", "ema", 0.99),
        ("objective: {l1: 1, kl: {weight: 0.1, free_bits_nats: 2}}", "objective",
         {"l1": 1.0, "kl": {"weight": 0.1, "free_bits_nats": 2}}),
    ],
)  # fmt: skip
def test_values_are_understood(load_text: Load, line: str, attribute: str, value: Any) -> None:
    found: Any = load_text(f"{line}\n").runs()[0].settings
    for name in attribute.split("."):
        found = getattr(found, name)
    assert found == value


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("trials: 0", "given 0; possible is a value greater than 0"),
        ("trials: 1.5", "given 1.5; possible: a whole number"),
        ("trials: true", "given True; must be a whole number"),
        ("ema: 1", "given 1; possible is a value less than 1"),
        ("ema: .nan", "possible: a finite number"),
        ("objective: l1", "given 'l1'; possible: a mapping {name: value}"),
        ("scheduler: {a: 1, b: 2}", "must be a name, or {Name: {argument: value}}"),
        ("scheduler: 3", "scheduler: given 3"),
        (
            "legacy: [kl, validate]",
            "given 'validate'; possible: 'kl' or 'validation'; did you mean 'validation'",
        ),
        ("load: 3", "given 3; possible: text"),
        ("seed: 4294967296", "possible is a value less than 4294967296"),
        ("lr: 3", "did you mean 'learnrate'?"),
        ("Seed: 3", "did you mean 'seed'?"),
        ("validation_set_5: f(1)", "is not a key"),
    ],
)
def test_complaints_say_what_is_possible(problems: Find, line: str, message: str) -> None:
    (found,) = problems(f"{line}\n")
    assert found.startswith("file.yml:1:")
    assert message in found


def test_the_schema_names_every_key() -> None:
    schema = json_schema()
    assert set(SETTING_KEYS) < set(schema["properties"])
    assert {"matrix", "globals", "$extends", "model", "experiment_name"} < set(schema["properties"])
    assert "^(train|validation)_set\\d*$" in schema["patternProperties"]
    assert schema["additionalProperties"] is False
    assert all(field.description or name in ("precision", "keep_checkpoints", "validation_limit")
               for name, field in Settings.model_fields.items())  # fmt: skip
