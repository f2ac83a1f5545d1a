"""The plain keys of a file: one field a key, checked by pydantic, reported in our words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    ValidationError,
    model_validator,
)

from aelab.config.blocks import Block
from aelab.config.load import option_of
from aelab.config.old_programs import OldTrainer, find_trainer
from aelab.errors import ConfigError, Where, did_you_mean, one_of, shown

#: Keys that are Python whatever they look like, by pattern.
DATA_KEY = re.compile(r"(train|validation)_set\d*\Z")
#: Keys with a meaning of their own, outside `Settings`.
STRUCTURE_KEYS = (
    "experiment_name",
    "model",
    "train_set",
    "validation_set",
    "globals",
    "matrix",
    "$extends",
)
#: Plain keys whose value is always a block of Python.
BLOCK_KEYS = ("train_input_transforms", "perceptual_model")
#: Without these a file describes no run.
REQUIRED_KEYS = ("experiment_name", "model", "train_set", "batch_size", "learnrate", "optimizer")
#: Old keys that are read and do nothing here, with the reason.
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


def _whole(value: Any) -> Any:
    """`1e6` means 1,000,000; `true` is no number."""
    if isinstance(value, bool):
        raise ValueError("must be a whole number")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def _number(value: Any) -> Any:
    """Numbers in quotes are numbers, as in old files; `true` is none."""
    if isinstance(value, bool):
        raise ValueError("must be a number")
    if isinstance(value, int) and value.bit_length() > MOST_BITS:
        raise ValueError("must be a number of less than 300 digits")
    return value


#: A float holds no larger numbers.
MOST_BITS = 1000
#: No count of images, epochs or batches is larger: whole numbers are exact in every format so far.
MOST = 2**53
#: No file describes more runs, trials included.
MOST_RUNS = 100_000

Whole = Annotated[int, BeforeValidator(_whole)]
Positive = Annotated[Whole, Field(gt=0, le=MOST)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]
PositiveNumber = Annotated[Number, Field(gt=0)]


def _keep_rule(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"best\+latest|all|(last|every) [\d_,]+", value):
        raise ValueError("possible: best+latest, all, a number, 'last N', 'every N' (images)")
    return value


KeepRule = Annotated[StrictStr | Positive, BeforeValidator(_keep_rule)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class Choice(_Frozen):
    """One of several things by name, with arguments: `Adam`, or `{AdamW: {weight_decay: 0.01}}`."""

    name: StrictStr
    arguments: dict[str, Any] = {}

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"name": given}
        if isinstance(given, Mapping) and "name" not in given:
            if len(given) != 1:
                raise ValueError("must be a name, or {Name: {argument: value}}")
            name, arguments = next(iter(given.items()))
            return {"name": name, "arguments": arguments or {}}
        return given


class Clipping(_Frozen):
    """How gradients are clipped: each by value (a plain number means this), or by their norm."""

    value: PositiveNumber | None = None
    norm: PositiveNumber | None = None

    @model_validator(mode="before")
    @classmethod
    def _plain_number(cls, given: Any) -> Any:
        return given if isinstance(given, Mapping | Clipping) else {"value": given}


LEGACY_OPTIONS = ("kl", "validation")


def _legacy(given: Any) -> Any:
    if isinstance(given, bool):
        return frozenset(LEGACY_OPTIONS if given else ())
    return frozenset([given]) if isinstance(given, str) else given


class Settings(_Frozen):
    """Everything in a file that is no Python: how to train, on what clock, with which objective.

    Counts named `num_inputs_...` and `max_inputs` are images, never optimiser steps.
    """

    batch_size: Positive = Field(description="images a batch")
    validation_batch_size: Positive | None = Field(None, description="default: batch_size")
    learnrate: Annotated[Number, Field(ge=0)] = Field(description="peak learning rate")
    optimizer: Choice = Field(
        description="a class of torch.optim, or {AdamW: {weight_decay: 0.01}}"
    )
    scheduler: Choice | None = Field(
        None, description="CosineAnnealingLR, {WarmupCosine: {...}}, ..."
    )
    loss_function: StrictStr | Block = Field("l1", description="l1, l2, bce, huber, or a block")
    objective: dict[StrictStr, Number | dict[str, Any]] | None = Field(
        None, description="terms by name: a weight, or {weight, formula, options}"
    )
    max_inputs: Positive | None = Field(None, description="images to train on in total")
    max_epoch: Positive | None = Field(None, description="epochs to train in total")
    min_loss: Number | None = Field(None, description="stop once the validation loss is this low")
    num_inputs_between_validations: Positive | None = Field(None, description="images")
    num_epochs_between_validations: Positive | None = Field(
        None, description="epochs; 1 if not given in images either"
    )
    num_inputs_between_checkpoints: Positive | None = Field(None, description="images")
    num_epochs_between_checkpoints: Positive | None = Field(None, description="epochs")
    freeze_validation_set: StrictBool = Field(False, description="augment validation images once")
    training_noise: Annotated[Number, Field(ge=0)] = Field(
        0.0, description="standard deviation of noise added to training images"
    )
    train_input_transforms: Block | None = Field(None, description="a block: list of functions")
    perceptual_model: Block | None = Field(
        None, description="a block: module or function; the loss compares what it makes of images"
    )
    gradient_clipping: Clipping | None = Field(None, description="number (by value) or {norm: 1.0}")
    gradient_accumulation: Positive = Field(1, description="batches an optimiser step")
    num_train_loss_steps: Positive = Field(1000, description="images between two logged losses")
    seed: Annotated[Whole, Field(ge=0, lt=2**32)] = Field(0, description="of everything random")
    trials: Annotated[Positive, Field(le=MOST_RUNS)] = Field(
        1, description="repeat with seeds seed, seed + 1, ..."
    )
    ema: Annotated[Number, Field(gt=0, lt=1)] | None = Field(
        None, description="decay of averaged weights, used in validation"
    )
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    legacy: Annotated[frozenset[Literal["kl", "validation"]], BeforeValidator(_legacy)] = Field(
        frozenset(), description="reproduce old numbers; implied by an old trainer"
    )
    feature_loss_weight: Annotated[Number, Field(ge=0)] | None = Field(
        None, description="weight of the penalty on mean and deviation of the latent over a batch"
    )
    load: StrictStr | None = Field(None, description="RUN or RUN@images: start from its weights")
    keep_checkpoints: KeepRule = Field(
        "best+latest", description="best+latest, all, a number, 'last N' or 'every N' (images)"
    )
    validation_limit: Positive | None = Field(
        None, description="validate on at most this many images, drawn at random"
    )
    trainer: StrictStr | None = Field(None, description="for old files; implies legacy options")

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_depend(cls, given: Any) -> Any:
        given = dict(given)
        if not (
            given.get("num_inputs_between_validations")
            or given.get("num_epochs_between_validations")
        ):
            given["num_epochs_between_validations"] = 1
        trainer = _implied(given.get("trainer"))
        if trainer is not None:
            if given.get("legacy") is None:
                given["legacy"] = trainer.legacy
            if given.get("feature_loss_weight") is None and trainer.feature_loss_weight is not None:
                given["feature_loss_weight"] = trainer.feature_loss_weight
        if given.get("legacy") is None:
            given.pop("legacy", None)
        return given


#: Every plain key with an effect.
SETTING_KEYS = tuple(Settings.model_fields)
#: Every key a file may have, for messages.
ALL_KEYS = (*STRUCTURE_KEYS, *SETTING_KEYS)


def is_known_key(key: str) -> bool:
    """Whether a file may have `key` at its top level."""
    return key in ALL_KEYS or key in WITHOUT_EFFECT or DATA_KEY.match(key) is not None


class UnknownKey(ConfigError):
    """A key that no file may have; the rest of the file can be looked at without it."""


def unknown_key(key: str, where: Where) -> UnknownKey:
    """The error for a key that no file may have."""
    near = did_you_mean(key, ALL_KEYS)
    return UnknownKey(
        f"is not a key of an experiment; possible: {one_of(ALL_KEYS)}{near}", where=where
    )


def make_settings(
    given: Mapping[str, Any], places: Mapping[str, Where], errors: list[ConfigError]
) -> Settings | None:
    """Checked settings; None where anything is wrong, which is then in `errors`.

    Args:
        given: plain keys and their typed values; None counts as not given.
        places: key, dotted for entries of mappings -> where it stands.
    """
    given = {key: value for key, value in given.items() if value is not None}
    before = len(errors)
    trainer = given.get("trainer")
    if isinstance(trainer, str):
        try:
            find_trainer(trainer)
        except ConfigError as error:
            error.where = places.get("trainer")
            errors.append(error)
    if not any(given.get(key) is not None for key in ("max_inputs", "max_epoch", "min_loss")):
        where = places.get("learnrate", Where()).at(key="max_inputs")
        errors.append(ConfigError("missing: training would never end", where=where,
                                  hint="write for instance: max_inputs: 1_000_000"))  # fmt: skip
    try:
        settings = Settings.model_validate(given)
    except ValidationError as error:
        missing = set(REQUIRED_KEYS)
        found = [_in_our_words(item, places) for item in error.errors()
                 if not (item["type"] == "missing" and item["loc"][0] in missing)]  # fmt: skip
        errors += {str(e): e for e in found}.values()
        return None
    return settings if len(errors) == before else None


def _implied(trainer: Any) -> OldTrainer | None:
    try:
        return find_trainer(trainer) if isinstance(trainer, str) else None
    except ConfigError:
        return None  # reported by make_settings


_POSSIBLE: dict[str, str] = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "string_type": "text",
    "dict_type": "a mapping {name: value}",
    "dataclass_type": "a block of Python, as text",
    "model_type": "a name, or {name: {argument: value}}",
    "frozen_set_type": f"true, false, or a list of {', '.join(LEGACY_OPTIONS)}",
    "finite_number": "a finite number",
}


def _in_our_words(item: Any, places: Mapping[str, Where]) -> ConfigError:
    names = [str(part) for part in item["loc"]]
    top = names[0]
    where = next(
        (
            places[path]
            for path in (".".join(names[:n]) for n in range(len(names), 0, -1))
            if path in places
        ),
        Where(key=top),
    )
    message: str = item["msg"]
    match item["type"]:
        case "value_error":
            message = message.removeprefix("Value error, ")
        case "greater_than" | "greater_than_equal" | "less_than" | "less_than_equal":
            message = message.replace("Input should be", "possible is a value")
        case "literal_error":
            expected = item["ctx"]["expected"]
            near = did_you_mean(str(item["input"]), re.findall(r"[\w+]+", expected))
            message = f"possible: {expected}{near}"
        case "extra_forbidden":
            possible: dict[str, type[_Frozen]] = {
                "gradient_clipping": Clipping,
                "optimizer": Choice,
                "scheduler": Choice,
            }
            fields = possible[top].model_fields if top in possible else {}
            message = f"'{names[-1]}' is not possible here; possible: {one_of(fields)}"
            return ConfigError(message + did_you_mean(names[-1], fields), where=where)
        case kind if kind in _POSSIBLE:
            message = f"possible: {_POSSIBLE[kind]}"
    place = where if where == Where(option_of(top)) else where.at(key=top)
    return ConfigError(f"given {shown(item['input'])}; {message}", where=place)
