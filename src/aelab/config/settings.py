"""The keys of a file, and reading their values into `Settings` with errors for each line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from aelab.config.blocks import Block
from aelab.config.document import Entry, YamlMapping
from aelab.config.old_programs import OldTrainer, find_trainer, old_numbers
from aelab.errors import MOST_LISTED, ConfigError, Where, did_you_mean, one_of
from aelab.settings import (
    OLD_NAMES,
    RULES,
    RULES_OF_FIT,
    FitSettings,
    Settings,
    no_end,
    setting_of,
)

#: Pattern of the keys of data sets, whose value is always Python.
DATA_KEY = re.compile(r"(train|validation)_set\d*\Z")
#: Keys that are not part of `Settings`, and their meaning.
STRUCTURE_KEYS: dict[str, str] = {
    "experiment_name": "name of the run and its folder below `runs/`; usually ends in "
    "`${matrix_slug}`",
    "model": "a block: a model of the lab, or any `nn.Module` that maps images to images",
    "train_set": "a block: the data set to train on; `train_setN`: from epoch N on",
    "validation_set": "a block: the data set to validate on; `validation_setN`: from epoch N on",
    "globals": "names for all blocks, evaluated in order",
    "matrix": "every combination is a run; the first key varies slowest",
    "$extends": "another file, whose keys are defaults",
}
#: The key of `matrix:` whose expression selects combinations.
FILTER = "$filter"
#: Plain keys whose value is always a block of Python.
BLOCK_KEYS: dict[str, str] = {
    "input_transforms": "a block: functions applied to the input but not to the target; in "
    "validation too",
    "perceptual_model": "a block: a module, a function or `None`; the loss then compares its "
    "outputs for reconstruction and image (term `perceptual`), and the plain loss is only logged",
}
#: Every plain key with an effect.
SETTING_KEYS = (*(name for name, rule in RULES.items() if rule.is_key), *BLOCK_KEYS)
#: Every key a file may have, for messages; older files have some by `OLD_NAMES`.
ALL_KEYS = (*STRUCTURE_KEYS, *SETTING_KEYS)
#: Keys that every file must have.
REQUIRED_KEYS = (
    "experiment_name",
    "model",
    "train_set",
    *(name for name, rule in RULES.items() if rule.is_required),
)
#: Old keys that are accepted without effect, with the reason.
WITHOUT_EFFECT: dict[str, str] = {
    "num_workers": "data are in memory, near the compute",
    "dataloader_collate_fn": "data are in memory, as one tensor",
    "weight_image_kwargs": "weight images are not drawn while training",
    "hparams": "it never had one",
    "model_forward_kwargs": "models take their arguments where they are built",
    "device": "the device is chosen on the command line: --device",
    "reset": "use the command line: --restart",
    "$visible": "every file is visible",
}


def is_known_key(key: str) -> bool:
    """Whether a file may have `key` at its top level."""
    key = setting_of(key)
    return key in ALL_KEYS or key in WITHOUT_EFFECT or DATA_KEY.match(key) is not None


def is_block_key(key: str) -> bool:
    """Whether the value of a top-level key is always Python."""
    return key == "model" or key in BLOCK_KEYS or DATA_KEY.match(key) is not None


class UnknownKey(ConfigError):
    """The error for an unknown key; the rest of the file can be checked without it."""


def unknown_key(key: str, where: Where) -> UnknownKey:
    """Makes the error for an unknown key."""
    near = did_you_mean(key, ALL_KEYS) or did_you_mean(key, OLD_NAMES)
    listed = one_of(ALL_KEYS, limit=MOST_LISTED, like=key)
    hint = f"possible: {listed}; all of them: aelab schema"
    return UnknownKey(f"is not a key of an experiment{near}", where=where, hint=hint)


def with_settings_names(table: YamlMapping, errors: list[ConfigError]) -> YamlMapping:
    """Renames old keys at the top level of a file to the names of their settings.

    Args:
        table: the top level of one file; places keep the key as written.
        errors: an error for a setting given under two names is appended here.
    """
    entries: dict[str, Entry] = {}
    for key, entry in table.entries.items():
        name = setting_of(key)
        if name not in entries:
            entries[name] = entry
            continue
        other = entries[name].where
        line = f" in line {other.line}" if other.line else ""
        errors.append(
            ConfigError(
                f"is given as {other.key or name}{line} too: two names of one setting",
                where=entry.where,
                hint=f"keep one of them: {name} is the newer name",
            )
        )
    return YamlMapping(entries, table.where)


class Stated(NamedTuple):
    """Settings, and the names of those stated in the file, which alone enter identities.

    Attributes:
        settings: the checked settings.
        names: settings given by the file, or implied by an old `trainer:`.
    """

    settings: Settings
    names: frozenset[str]


def read_settings(
    given: Mapping[str, Any], places: Mapping[str, Where], errors: list[ConfigError]
) -> Stated | None:
    """Reads and checks settings; returns None after adding problems to `errors`.

    Args:
        given: values by setting, including blocks; None counts as not given.
        places: setting, dotted for entries of mappings -> its place.
    """
    before = len(errors)
    values: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or isinstance(value, Block):
            continue
        try:
            if name in BLOCK_KEYS:
                raise ConfigError("must be a block of Python, as text", where=places.get(name))
            values[name] = RULES[name].checked(name, value, places)
        except ConfigError as error:
            errors.append(error)
    values |= _implied(values, places, errors)
    if not any(given.get(name) is not None for name in ("max_images", "max_epochs", "min_loss")):
        errors.append(no_end(places.get("learnrate", Where()).at(key="max_images")))
    required = [name for name, rule in RULES.items() if rule.is_required]
    if len(errors) > before or not all(name in values for name in required):
        return None  # missing keys were reported before the substitution
    return Stated(_made(values), frozenset(values))


def _implied(
    values: Mapping[str, Any], places: Mapping[str, Where], errors: list[ConfigError]
) -> dict[str, Any]:
    """Settings implied by others, unless the file gives them itself."""
    implied: dict[str, Any] = {}
    if not {"validate_every_images", "validate_every_epochs"} & set(values):
        implied["validate_every_epochs"] = 1
    trainer = _trainer(values.get("trainer"), places, errors)
    if trainer is not None:
        implied["legacy"] = trainer.legacy
        if trainer.feature_loss_weight is not None:
            implied["feature_loss_weight"] = trainer.feature_loss_weight
    return {name: value for name, value in implied.items() if name not in values}


def _trainer(
    name: str | None, places: Mapping[str, Where], errors: list[ConfigError]
) -> OldTrainer | None:
    if name is None:
        return None
    try:
        return find_trainer(name)
    except ConfigError as error:
        error.where = places.get("trainer")
        errors.append(error)
        return None


def _made(values: Mapping[str, Any]) -> Settings:
    loop = {name: value for name, value in values.items() if name in RULES_OF_FIT}
    rest = {name: value for name, value in values.items() if name not in RULES_OF_FIT}
    for old in old_numbers(values.get("legacy", ())):
        loop |= old.fit
    if "trainer" in values or values.get("legacy"):
        loop.setdefault("precision", "float32")  # as old programs computed
    fit = FitSettings(**loop, sum_gradients="trainer" in values)
    return Settings(fit, **rest)
