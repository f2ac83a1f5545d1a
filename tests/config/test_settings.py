"""The plain keys: short forms, defaults, and every complaint."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aelab.config import Choice, Clipping, Experiment, json_schema, load
from aelab.config.settings import ALL_KEYS, SETTING_KEYS
from aelab.errors import Problems
from aelab.settings import OLD_NAMES, RULES, RULES_OF_FIT

#: How the minimal file says it.
FIRST_NAME = {"max_images": "max_inputs"}

Load = Callable[..., Experiment]
Write = Callable[..., Path]
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
    assert (settings.fit.optimizer.name, settings.fit.optimizer.arguments) == (name, arguments)


@pytest.mark.parametrize(
    ("line", "setting", "value"),
    [
        ("scheduler: {WarmupCosine: {warmup_images: 50_000}}", "scheduler",
         Choice("WarmupCosine", {"warmup_images": 50_000})),
        ("scheduler: CosineAnnealingLR", "scheduler", Choice("CosineAnnealingLR")),
        ("scheduler: null", "scheduler", None),
        ("gradient_clipping: 0.5", "gradient_clipping", Clipping(value=0.5)),
        ("gradient_clipping: {norm: 2}", "gradient_clipping", Clipping(norm=2.0)),
        ("keep_checkpoints: all", "keep_checkpoints", "all"),
        ("keep_checkpoints: 3", "keep_checkpoints", 3),
        ("keep_checkpoints: every 50_000", "keep_checkpoints", "every 50_000"),
        ("legacy: true", "legacy", {"kl", "validation"}),
        ("legacy: validation", "legacy", {"validation"}),
        ("load: vae/x@1000", "load", "vae/x@1000"),
        ("validate_every_images: 1e5", "validate_every_images", 100_000),
        ("validate_every_images: 1e5", "validate_every_epochs", None),
        ("batch_size: '16'", "batch_size", 16),
        ("min_loss: 1e-3", "min_loss", 0.001),
        ("ema_decay: '0.99'", "ema_decay", 0.99),
        ("objective: {l1: 1, kl: {weight: 0.1, free_bits_nats: 2}}", "objective",
         {"l1": 1.0, "kl": {"weight": 0.1, "free_bits_nats": 2}}),
    ],
)  # fmt: skip
def test_values_are_understood(load_text: Load, line: str, setting: str, value: Any) -> None:
    settings = load_text(f"{line}\n", without=line.split(":")[0]).runs()[0].settings
    assert getattr(settings.fit if setting in RULES_OF_FIT else settings, setting) == value


@pytest.mark.parametrize("name", [name for name, rule in RULES.items() if rule.is_key])
def test_the_example_of_every_rule_is_possible(load_text: Load, name: str) -> None:
    text = f"{name}: {RULES[name].example}\n"
    settings = load_text(text, without=FIRST_NAME.get(name, name)).runs()[0].settings
    assert getattr(settings.fit if name in RULES_OF_FIT else settings, name) is not None


@pytest.mark.parametrize(("old", "new"), OLD_NAMES.items())
def test_an_old_name_is_the_same_setting_and_the_same_run(
    load_text: Load, problems: Find, old: str, new: str
) -> None:
    example = RULES[new].example if new in RULES and RULES[new].is_key else "'[lambda x: x]'"
    without = FIRST_NAME.get(new, "")
    (one,) = load_text(f"{old}: {example}\n", without=without).runs()
    (other,) = load_text(f"{new}: {example}\n", without=without).runs()
    assert one.settings == other.settings
    assert one.identity == other.identity
    assert f"\n{old}: " in one.resolved_text and f"\n{new}: " in other.resolved_text
    (found,) = problems(f"{new}: {example}\n{old}: {example}\n", without=without)
    assert found.startswith(f"file.yml:2:1: {old}: is given as {new} in line 1 too")
    assert f"keep one of them: {new} is the newer name" in found


def test_an_old_name_and_a_new_one_replace_each_other(write: Write, load_text: Load) -> None:
    write("max_inputs: 5\nema: 0.5\n", "parent.yml", without="max_inputs")
    (run,) = load_text("$extends: parent.yml\nmax_images: 7\n", without="max_inputs").runs()
    assert (run.settings.fit.max_images, run.settings.fit.ema_decay) == (7, 0.5)
    path = write("max_images: 7\n", without="max_inputs")
    assert load(path, changes={"max_inputs": 9}).runs()[0].settings.fit.max_images == 9
    with pytest.raises(Problems, match="--max-images: is given as --set max_inputs too"):
        load(path, changes={"max_inputs": 9, "max_images": 8})


def test_a_key_may_be_substituted_into_an_old_or_a_new_name(
    load_text: Load, problems: Find
) -> None:
    text = "matrix: {key: [max_inputs, max_epochs]}\n${key}: 3\n"
    first, second = load_text(text, without="max_inputs").runs()
    assert (first.settings.fit.max_images, second.settings.fit.max_epochs) == (3, 3)
    (found,) = problems("matrix: {key: [max_images]}\n${key}: 3\n")
    assert "two names of one setting" in found


#: For every kind of value what it is not: (value as written, what is said of it).
WRONG: dict[str, list[tuple[str, str]]] = {
    "above 0": [
        ("0", "given 0; possible: a whole number above 0"),
        ("-3", "given -3; possible"),
        ("1.5", "given 1.5; possible"),
        ("true", "given True; possible"),
        ("many", "given 'many'; possible"),
        ("[1]", "given [1]; possible"),
        ("{a: 1}", "given {'a': 1}; possible"),
        (".inf", "given inf; possible"),
        ("9007199254740993", "possible: a whole number from 1 to 9,007,199,254,740,992"),
    ],
    "a number": [
        (".nan", "given nan; possible"),
        ("-.inf", "given -inf; possible"),
        ("true", "given True; possible"),
        ("low", "given 'low'; possible"),
        ("[0.1]", "given [0.1]; possible"),
        ("1" + "0" * 400, "possible: a number of less than 300 digits"),
    ],
    "at least 0": [("-0.1", "given -0.1; possible: a finite number of at least 0")],
    "positive": [
        ("0", "given 0; possible: a finite number above 0"),
        ("-1e-3", "given -0.001; possible: a finite number above 0"),
    ],
    "part": [
        ("3", "given 3; possible: a name, or {Name: {argument: value}}"),
        ("true", "given True; possible"),
        ("{a: 1, b: 2}", "given {'a': 1, 'b': 2}; possible: a name"),
        ("{Adam: 3}", "Adam: given 3; possible: a mapping {argument: value}"),
        ("{name: Adam, argument: {}}", "given 'argument'; possible: the entries arguments, name"),
        ("{name: 3}", "given 3; possible: text, the name of a part"),
        ("[Adam]", "given ['Adam']; possible"),
    ],
    "truth": [
        ("yes", "given 'yes'; possible: true or false"),
        ("1", "given 1; possible: true or false"),
        ("'true'", "given 'true'; possible"),
    ],
    "text": [("3", "given 3; possible: text"), ("[a]", "given ['a']; possible: text")],
    "block": [("3", "must be a block of Python"), ("[1]", "must be a block of Python")],
}
KINDS: dict[str, tuple[str, ...]] = {
    "above 0": (
        "batch_size", "max_images", "max_epochs", "validate_every_images", "validate_every_epochs",
        "checkpoint_every_images", "checkpoint_every_epochs", "log_every_images",
        "validation_batch_size", "validation_limit", "gradient_accumulation",
    ),
    "a number": (
        "learnrate", "min_loss", "training_noise", "feature_loss_weight", "ema_decay",
    ),
    "at least 0": ("training_noise", "feature_loss_weight"),
    "positive": ("learnrate",),
    "part": ("optimizer", "scheduler"),
    "truth": ("freeze_validation_set",),
    "text": ("load", "trainer"),
    "block": ("input_transforms", "perceptual_model"),
}  # fmt: skip
#: Keys with mistakes of their own.
OF_ONE_KEY = [
    ("trials: 0", "trials: given 0; possible: a whole number from 1 to 100,000"),
    ("trials: 1.5", "given 1.5; possible: a whole number"),
    ("trials: 100_001", "given 100001; possible: a whole number from 1 to 100,000"),
    ("seed: -1", "given -1; possible: a whole number from 0 to 4,294,967,295"),
    ("seed: 4294967296", "possible: a whole number from 0 to 4,294,967,295"),
    ("ema_decay: 0", "given 0; possible: a number between 0 and 1"),
    ("ema_decay: 1", "given 1; possible: a number between 0 and 1"),
    ("on_nan: retry", "given 'retry'; possible: rollback, skip, stop"),
    ("on_nan: {rollback: {times: 0}}", "on_nan.rollback.times: given 0; possible"),
    ("on_nan: {stop: {times: 2}}", "on_nan.stop.times: given 'times'; possible: nothing"),
    ("precision: float16", "possible: float32, bfloat16, auto; did you mean 'bfloat16'"),
    ("precision: 32", "given 32; possible: float32"),
    ("loss_function: 3", "given 3; possible: a name (l1, l2, bce, huber, ...), or a block"),
    ("objective: l1", "given 'l1'; possible: a mapping {name of a term: weight}"),
    ("objective: {l1: much}", "objective.l1: given 'much'; possible: a finite number, or"),
    ("objective: {l1: .nan}", "objective.l1: given nan; possible"),
    ("objective: {}", "given {}; possible: a mapping"),
    ("gradient_clipping: 0", "given 0; possible: a number above 0, {norm: 1.0}"),
    ("gradient_clipping: {norm: -1}", "clipping.norm: given -1; possible: a finite number above 0"),
    ("gradient_clipping: {norm: }", "given {'norm': None}; possible"),
    ("gradient_clipping: {norn: 1}", "given 'norn'; possible: the entries norm, value; did you"),
    ("legacy: [kl, validate]", "given 'validate'; possible: kl, validation; did you mean 'valid"),
    ("legacy: 3", "given 3; possible: true, false, or a list of kl, validation"),
    ("legacy: old", "given 'old'; possible: kl, validation"),
    ("keep_checkpoints: some", "given 'some'; possible: best+latest, all"),
    ("keep_checkpoints: every 0", "given 'every 0'; possible: best+latest, all"),
    ("keep_checkpoints: last ,", "given 'last ,'; possible: best+latest, all"),
    ("keep_checkpoints: 0", "given 0; possible: best+latest, all, a number above 0"),
    ("lr: 3", "did you mean 'learnrate'?"),
    ("Seed: 3", "did you mean 'seed'?"),
    ("epochs: 3", "did you mean 'max_epochs'?"),
    ("max_inputss: 3", "did you mean 'max_inputs'?"),
    ("validation_set_5: f(1)", "is not a key"),
    ("trainer: my.Trainer", "given 'my.Trainer'; possible: Trainer"),
]
COMPLAINTS = [
    (f"{key}: {value}", message)
    for kind, keys in KINDS.items()
    for key in keys
    for value, message in WRONG[kind]
] + OF_ONE_KEY


@pytest.mark.parametrize(("line", "message"), COMPLAINTS)
def test_a_wrong_value_is_told_with_its_line_and_what_is_possible(
    problems: Find, line: str, message: str
) -> None:
    key = line.split(":")[0]
    without = FIRST_NAME.get(key, key)
    (found,) = problems(f"{line}\n", without=without)
    assert re.match(rf"file\.yml:1:\d+: {key}\b", found)
    assert message in found


def test_every_key_is_tried_with_wrong_values() -> None:
    tried = {key for keys in KINDS.values() for key in keys}
    tried |= {line.split(":")[0] for line, _ in OF_ONE_KEY}
    assert set(SETTING_KEYS) <= tried


def test_old_names_in_messages_are_those_of_the_file(problems: Find) -> None:
    (found,) = problems("num_inputs_between_validations: often\n")
    assert found == (
        "file.yml:1:1: num_inputs_between_validations: given 'often'; possible: a whole number "
        "above 0\n  for instance num_inputs_between_validations: 50_000"
    )


def test_only_legacy_validation_puts_the_noise_into_the_target(load_text: Load) -> None:
    """`legacy: [kl]` is about the KL term alone."""
    (kl,) = load_text("legacy: kl\ntraining_noise: 0.1\n").runs()
    assert (kl.settings.fit.noise_in_target, kl.settings.fit.validation) == (
        False,
        "evaluation_mode",
    )
    (old,) = load_text("legacy: validation\ntraining_noise: 0.1\n").runs()
    assert (old.settings.fit.noise_in_target, old.settings.fit.validation) == (True, "legacy")


def test_a_loss_alone_may_be_the_end(load_text: Load, problems: Find) -> None:
    (run,) = load_text("min_loss: 0.3\n", without="max_inputs").runs()
    fit = run.settings.fit
    assert (fit.min_loss, fit.max_images, fit.max_epochs) == (0.3, None, None)
    (found,) = problems("", without="max_inputs")
    assert "missing: training would never end; possible: max_images, max_epochs, min_loss" in found
    assert re.match(r"file\.yml:\d+:1: max_images: ", found)


def test_the_schema_names_every_key() -> None:
    schema = json_schema()
    assert set(ALL_KEYS) - {"train_set", "validation_set"} <= set(schema["properties"])
    assert set(OLD_NAMES) < set(schema["properties"])
    assert "^(train|validation)_set\\d*$" in schema["patternProperties"]
    assert schema["additionalProperties"] is False
    assert all(schema["properties"][name]["description"] for name in ALL_KEYS if "_set" not in name)
