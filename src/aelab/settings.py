"""The settings of a run: one field each, with its rule and its meaning.

A rule defines the valid values, converts given values, and is the source of the documentation and
the JSON schema. `OLD_NAMES` maps the keys of older files to these fields; only this module knows
old names. Needs no torch.
"""

# ruff: noqa: RUF009  (`_setting` makes a field, as `dataclasses.field` does)
from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

from aelab.errors import ConfigError, Where, did_you_mean, one_of, shown

#: Bit limit of whole numbers; larger ones do not fit into a float.
MOST_BITS = 1000
#: Limit of counts: up to here whole numbers are exact in every format, as in a float64.
MOST = 2**53
#: Limit of the runs of one file, including trials.
MOST_RUNS = 100_000

#: Key of an older file -> the setting. Old keys will always be readable. Identities are hashes with
#: the old keys, so that a run has the same identity with either key.
OLD_NAMES: dict[str, str] = {
    "max_inputs": "max_images",
    "max_epoch": "max_epochs",
    "num_inputs_between_validations": "validate_every_images",
    "num_epochs_between_validations": "validate_every_epochs",
    "num_inputs_between_checkpoints": "checkpoint_every_images",
    "num_epochs_between_checkpoints": "checkpoint_every_epochs",
    "num_train_loss_steps": "log_every_images",
    "train_input_transforms": "input_transforms",
    "ema": "ema_decay",
}
_FIRST_NAMES = {new: old for old, new in OLD_NAMES.items()}


def setting_of(key: str) -> str:
    """The setting for a key of a file: `max_images` for `max_inputs`; other keys unchanged."""
    return OLD_NAMES.get(key, key)


def first_name(setting: str) -> str:
    """The original name of a setting, which hashes and old records use."""
    return _FIRST_NAMES.get(setting, setting)


class Choice(NamedTuple):
    """A part chosen by name, with its keyword arguments: `Adam`, `{AdamW: {weight_decay: 0.01}}`.

    Attributes:
        name: of the part.
        arguments: plain values by name.
    """

    name: str
    arguments: Mapping[str, Any] = {}


class Clipping(NamedTuple):
    """How gradients are clipped just before a step of the optimiser.

    Attributes:
        value: every element is clipped to -value..value.
        norm: the whole gradient is scaled down to at most this norm.
    """

    value: float | None = None
    norm: float | None = None


NanAction = Literal["stop", "skip", "rollback"]
NAN_ACTIONS: tuple[NanAction, ...] = ("stop", "skip", "rollback")


class OnNan(NamedTuple):
    """The reaction to non-finite numbers: `stop`, or `{rollback: {lower_lr: 0.3, times: 5}}`.

    Attributes:
        action: `stop` ends the run as failed; `skip` leaves out the batch that caused it;
            `rollback` restores the latest good state and changes the settings below.
        times: at most this often; then the run fails.
        lower_lr: with `rollback`: multiplies the learning rate until the end of the run.
        clip: with `rollback`: the norm of the gradient is clipped to this from then on.
        float32: with `rollback`: the model computes in float32 from then on.
    """

    action: NanAction = "stop"
    times: int = 5
    lower_lr: float = 0.3
    clip: float | None = None
    float32: bool = False


LegacyOption = Literal["kl", "validation"]
LEGACY_OPTIONS: tuple[LegacyOption, ...] = ("kl", "validation")


class NotPossible(ValueError):
    """A value that a rule does not allow.

    Args:
        words: what is possible; empty: the words of the rule.
        given: the wrong part of the value, if it is not the whole value.
        path: position of that part in the value: names of entries of mappings.
    """

    def __init__(self, words: str = "", *, given: Any = ..., path: tuple[str, ...] = ()) -> None:
        super().__init__(words)
        self.words = words
        self.given = given
        self.path = path


@dataclass(frozen=True)
class Rule:
    """The rule of one setting.

    Attributes:
        meaning: for the documentation and editors.
        possible: the valid values, in words.
        read: converts a given value; raises `NotPossible`.
        schema: the JSON schema of valid values.
        example: a valid value, as written in a file.
        default: in words, for the documentation.
        is_key: whether it is a key of files; other settings are for Python only.
        is_required: whether a file must have it.
    """

    meaning: str
    possible: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]
    example: str
    default: str
    is_key: bool
    is_required: bool

    def checked(self, name: str, value: Any, places: Mapping[str, Where] | None = None) -> Any:
        """The converted value.

        Args:
            name: of the setting.
            value: as given.
            places: setting (dotted for entries of mappings) -> its place in the file.

        Raises:
            ConfigError: with the place, the given value, the valid values and what to write.
        """
        try:
            return self.read(value)
        except NotPossible as error:
            where = _place((name, *error.path), places or {})
            given = shown(value if error.given is ... else error.given)
            key = where.key.split(".")[0] if where.key else ""
            raise ConfigError(
                f"given {given}; possible: {error.words or self.possible}",
                where=where,
                hint=f"for instance {key}: {self.example}"
                if key
                else f"for instance {self.example}",
            ) from None


def _place(path: tuple[str, ...], places: Mapping[str, Where]) -> Where:
    """The place of the innermost part of a setting whose place is known."""
    known = (".".join(path[:n]) for n in range(len(path), 0, -1))
    return next((places[name] for name in known if name in places), Where(key=path[0]))


class _Values(NamedTuple):
    """A kind of value: in words, as a function that converts it, and as a JSON schema."""

    possible: str
    read: Callable[[Any], Any]
    schema: Mapping[str, Any]


def _setting(
    kind: _Values,
    meaning: str,
    *,
    example: str,
    default: Any = None,
    told: str | None = None,
    python_only: bool = False,
    required: bool = False,
) -> Any:
    """A field with a rule.

    Args:
        told: the default in words, if it is not the value itself.
    """
    words = told if told is not None else "none" if default is None else f"`{default}`"
    rule = Rule(
        meaning,
        kind.possible,
        kind.read,
        kind.schema,
        example,
        "required" if required else words,
        not python_only,
        required,
    )
    return field(default=default, metadata={"rule": rule})


def _whole(*, above: int = 0, most: int = MOST) -> _Values:
    """Whole numbers; also `1e6` and numbers in quotes, but not `true`."""
    both = f"a whole number from {above + 1:,} to {most:,}"
    words = both if most < MOST else f"a whole number above {above:,}"

    def read(given: Any) -> int:
        """The number."""
        value = _of_quotes(given)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value <= above:
            raise NotPossible
        if value > most:
            raise NotPossible(both)
        return value

    return _Values(words, read, {"type": "integer", "minimum": above + 1, "maximum": most})


def _number(
    *, at_least: float | None = None, above: float | None = None, below: float | None = None
) -> _Values:
    """Finite numbers in a range; also numbers in quotes, but not `true`."""
    words, schema = "a finite number", dict[str, Any](type="number")
    if above is not None and below is not None:
        words = f"a number between {above:g} and {below:g}"
        schema |= {"exclusiveMinimum": above, "exclusiveMaximum": below}
    elif above is not None:
        words, schema["exclusiveMinimum"] = f"a finite number above {above:g}", above
    elif at_least is not None:
        words, schema["minimum"] = f"a finite number of at least {at_least:g}", at_least

    def read(given: Any) -> float:
        """The number."""
        value = _of_quotes(given)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NotPossible
        if isinstance(value, int) and value.bit_length() > MOST_BITS:
            raise NotPossible("a number of less than 300 digits")
        value = float(value)
        if (
            not math.isfinite(value)
            or (at_least is not None and value < at_least)
            or (above is not None and value <= above)
            or (below is not None and value >= below)
        ):
            raise NotPossible
        return value

    return _Values(words, read, schema)


def _of_quotes(given: Any) -> Any:
    """Converts numbers in quotes to numbers, as in old files."""
    if not isinstance(given, str) or len(given) > MOST_BITS:
        return given
    for kind in (int, float):
        try:
            return kind(given)
        except ValueError:
            continue
    return given


def _truth() -> _Values:
    def read(given: Any) -> bool:
        """Only booleans: `yes` is text in YAML 1.2."""
        if not isinstance(given, bool):
            raise NotPossible
        return given

    return _Values("true or false", read, {"type": "boolean"})


def _text(possible: str) -> _Values:
    def read(given: Any) -> str:
        """Text that is not empty."""
        if not isinstance(given, str) or not given.strip():
            raise NotPossible
        return given

    return _Values(possible, read, {"type": "string"})


def _one_of(*names: str) -> _Values:
    possible = ", ".join(names)

    def read(given: Any) -> str:
        """One of the names."""
        if given not in names:
            raise NotPossible(f"{possible}{did_you_mean(str(given), names)}")
        return str(given)

    return _Values(possible, read, {"enum": list(names)})


def _functions() -> _Values:
    def read(given: Any) -> tuple[Callable[..., Any], ...]:
        """The functions, in order."""
        if not isinstance(given, list | tuple) or not all(map(callable, given)):
            raise NotPossible
        return tuple(given)

    return _Values("a sequence of functions of images", read, {})


def as_choice(given: Any) -> Choice:
    """A `Choice` from `Adam`, `{Adam: {eps: 1e-7}}`, or `("Adam", {...})` in Python.

    `{name: Adam, arguments: {...}}` is the same.

    Raises:
        ConfigError: for anything else.
    """
    try:
        return _read_choice(given)
    except NotPossible as error:
        wrong = given if error.given is ... else error.given
        raise ConfigError(
            f"given {shown(wrong)}; possible: {error.words or _CHOICE.possible}",
            hint="write its name, or its name with arguments: {AdamW: {weight_decay: 0.01}}",
        ) from None


def _read_choice(given: Any) -> Choice:
    name: Any
    arguments: Any = None
    if isinstance(given, str):
        name = given
    elif isinstance(given, tuple) and len(given) == 2:
        name, arguments = given
    elif isinstance(given, Mapping) and "name" in given:
        for key in given:
            if key not in ("name", "arguments"):
                near = did_you_mean(str(key), ("name", "arguments"))
                raise NotPossible(f"the entries arguments, name{near}", given=key, path=(str(key),))
        name, arguments = given["name"], given.get("arguments")
    elif isinstance(given, Mapping) and len(given) == 1:
        name, arguments = next(iter(given.items()))
    else:
        raise NotPossible
    if not isinstance(name, str) or not name.strip():
        raise NotPossible("text, the name of a part", given=name)
    if not isinstance(arguments or {}, Mapping):
        raise NotPossible("a mapping {argument: value}", given=arguments, path=(name,))
    arguments = dict(arguments or {})
    for key, value in arguments.items():
        if not isinstance(key, str):
            raise NotPossible("text, the name of an argument", given=key, path=(name,))
        if not _is_plain(value):
            raise NotPossible(
                "numbers, text, true, false, and lists or mappings of them",
                given=value,
                path=(name, key),
            )
    return Choice(name, arguments)


def _is_plain(value: Any) -> bool:
    """Whether a value can be written into a file."""
    if isinstance(value, Mapping):
        return all(_is_plain(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return all(_is_plain(item) for item in value)
    return value is None or isinstance(value, bool | int | float | str)


_CHOICE = _Values(
    "a name, or {Name: {argument: value}}",
    _read_choice,
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": {"type": ["object", "null"]},
            },
            {
                "type": "object",
                "properties": {"name": {"type": "string"}, "arguments": {"type": "object"}},
                "required": ["name"],
                "additionalProperties": False,
            },
        ]
    },
)

_ABOVE_0 = _number(above=0)


def _read_clipping(given: Any) -> Clipping:
    if isinstance(given, Clipping):
        given = {key: value for key, value in given._asdict().items() if value is not None}
    if not isinstance(given, Mapping):
        return Clipping(value=_ABOVE_0.read(given))
    for key in given:
        if key not in Clipping._fields:
            near = did_you_mean(str(key), Clipping._fields)
            words = f"the entries {one_of(Clipping._fields)}{near}"
            raise NotPossible(words, given=key, path=(str(key),))
    read = {}
    for key, value in given.items():
        try:
            read[key] = None if value is None else _ABOVE_0.read(value)
        except NotPossible as error:
            words = error.words or _ABOVE_0.possible
            raise NotPossible(words, given=value, path=(key,)) from None
    if not any(value is not None for value in read.values()):
        raise NotPossible
    return Clipping(**read)


_CLIPPING = _Values(
    "a number above 0, {norm: 1.0} or {value: 0.5}",
    _read_clipping,
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0},
            {
                "type": "object",
                "minProperties": 1,
                "properties": {name: dict(_ABOVE_0.schema) for name in Clipping._fields},
                "additionalProperties": False,
            },
        ]
    },
)

_LOWER = _number(above=0, below=1)
#: Entries of `on_nan` by action, each with its rule.
_OF_ACTIONS: dict[str, dict[str, _Values]] = {
    "stop": {},
    "skip": {"times": _whole()},
    "rollback": {"times": _whole(), "lower_lr": _LOWER, "clip": _ABOVE_0, "float32": _truth()},
}


def _read_on_nan(given: Any) -> OnNan:
    if isinstance(given, OnNan):
        known = _OF_ACTIONS.get(given.action, {})
        named = {key: value for key, value in given._asdict().items() if key in known}
        given = {given.action: {k: v for k, v in named.items() if v is not None}}
    if isinstance(given, str):
        given = {given: {}}
    if not isinstance(given, Mapping) or len(given) != 1:
        raise NotPossible
    ((action, entries),) = given.items()
    if action not in NAN_ACTIONS:
        near = did_you_mean(str(action), NAN_ACTIONS)
        raise NotPossible(f"{one_of(NAN_ACTIONS)}{near}", given=action)
    if not isinstance(entries or {}, Mapping):
        raise NotPossible("a mapping such as {times: 3}", given=entries, path=(action,))
    rules, read = _OF_ACTIONS[action], {}
    for key, value in (entries or {}).items():
        if key not in rules:
            words = f"the entries {one_of(rules)}" if rules else "nothing"
            near = did_you_mean(str(key), rules)
            raise NotPossible(f"{words}{near}", given=key, path=(action, str(key)))
        try:
            read[key] = rules[key].read(value)
        except NotPossible as error:
            words = error.words or rules[key].possible
            raise NotPossible(words, given=value, path=(action, key)) from None
    return OnNan(action, **read)


_ON_NAN = _Values(
    "stop, skip, rollback, or {rollback: {times: 5, lower_lr: 0.3, clip: 1.0, float32: true}}",
    _read_on_nan,
    {
        "anyOf": [
            {"enum": list(NAN_ACTIONS)},
            *(
                {
                    "type": "object",
                    "properties": {
                        action: {
                            "type": ["object", "null"],
                            "properties": {key: dict(kind.schema) for key, kind in kinds.items()},
                            "additionalProperties": False,
                        }
                    },
                    "required": [action],
                    "additionalProperties": False,
                }
                for action, kinds in _OF_ACTIONS.items()
            ),
        ]
    },
)

_WEIGHT = _number()


def _read_terms(given: Any) -> dict[str, float | dict[str, Any]]:
    if not isinstance(given, Mapping) or not given:
        raise NotPossible
    read: dict[str, float | dict[str, Any]] = {}
    for name, term in given.items():
        if not isinstance(name, str):
            raise NotPossible("text, the name of a term", given=name)
        if isinstance(term, Mapping):
            read[name] = dict(term)
            continue
        try:
            read[name] = _WEIGHT.read(term)
        except NotPossible as error:
            words = error.words or "a finite number, or a mapping {weight: 0.1, formula: kl}"
            raise NotPossible(words, given=term, path=(name,)) from None
    return read


_TERMS = _Values(
    "a mapping {name of a term: weight}",
    _read_terms,
    {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {"type": ["number", "string", "object"]},
    },
)


def _read_legacy(given: Any) -> frozenset[str]:
    if isinstance(given, bool):
        return frozenset(LEGACY_OPTIONS if given else ())
    names = [given] if isinstance(given, str) else given
    if not isinstance(names, list | tuple | set | frozenset):
        raise NotPossible
    for name in names:
        if name not in LEGACY_OPTIONS:
            near = did_you_mean(str(name), LEGACY_OPTIONS)
            raise NotPossible(f"{', '.join(LEGACY_OPTIONS)}{near}", given=name)
    return frozenset(names)


_LEGACY = _Values(
    f"true, false, or a list of {', '.join(LEGACY_OPTIONS)}",
    _read_legacy,
    {
        "anyOf": [
            {"type": "boolean"},
            {"enum": list(LEGACY_OPTIONS)},
            {"type": "array", "items": {"enum": list(LEGACY_OPTIONS)}},
        ]
    },
)

_COUNT = _whole()


def _read_keep(given: Any) -> str | int:
    if isinstance(given, str):
        rule = re.fullmatch(r"best\+latest|all|(?:last|every) +([\d_,]+)", given)
        digits = re.sub(r"[_,]", "", rule.group(1) or "1") if rule else ""
        if not digits or int(digits) == 0:
            raise NotPossible
        return given
    return int(_COUNT.read(given))


_KEEP = _Values(
    "best+latest, all, a number above 0, 'last N', 'every N' (N above 0)",
    _read_keep,
    {
        "anyOf": [
            {"type": "integer", "exclusiveMinimum": 0},
            {"type": "string", "pattern": r"^(best\+latest|all|(last|every) +[\d_,]+)$"},
        ]
    },
)


@dataclass(frozen=True)
class FitSettings:
    """All arguments of `fit` besides model, objective and images; time is counted in images.

    Each field has a `Rule` (`RULES`), which checks values from files and from Python.

    Raises:
        ConfigError: a value that its rule does not allow, or no end.
    """

    batch_size: int = _setting(
        _COUNT,
        "images per batch; the last batch of an epoch is the remainder",
        example="64",
        default=64,
        required=True,
    )
    learnrate: float = _setting(
        _ABOVE_0,
        "peak learning rate; a scheduler multiplies it",
        example="0.0003",
        default=3e-4,
        required=True,
    )
    optimizer: Choice = _setting(
        _CHOICE,
        "any class of `torch.optim`: `AdamW`, or `{AdamW: {weight_decay: 0.01}}`",
        example="{AdamW: {weight_decay: 0.01}}",
        default=Choice("Adam"),
        required=True,
    )
    scheduler: Choice | None = _setting(
        _CHOICE,
        "`CosineAnnealingLR`, `{WarmupCosine: {warmup_images: 50_000}}`, any scheduler of torch",
        example="CosineAnnealingLR",
    )
    max_images: int | None = _setting(
        _COUNT,
        "the end: after the first batch that reaches this many images",
        example="1_000_000",
        told="one end is required",
    )
    max_epochs: int | None = _setting(
        _COUNT,
        "the end: after this many epochs",
        example="20",
        told="one end is required",
    )
    min_loss: float | None = _setting(
        _number(),
        "the end: once a validation loss is at most this",
        example="0.01",
        told="one end is required",
    )
    validate_every_images: int | None = _setting(
        _COUNT, "images between two validations", example="50_000"
    )
    validate_every_epochs: int | None = _setting(
        _COUNT,
        "epochs between two validations",
        example="1",
        told="1, if the above is not given",
    )
    checkpoint_every_images: int | None = _setting(
        _COUNT, "images between two times that the state is also stored", example="100_000"
    )
    checkpoint_every_epochs: int | None = _setting(
        _COUNT, "epochs between two times that the state is also stored", example="1"
    )
    log_every_images: int = _setting(
        _COUNT,
        "images between two logged training losses; each is the mean over them",
        example="1000",
        default=1000,
    )
    validation_batch_size: int | None = _setting(
        _COUNT,
        "images per validation batch",
        example="256",
        told="up to 256, as many as are fast; kept for the whole run",
    )
    validation_limit: int | None = _setting(
        _COUNT,
        "validate on at most this many images: a random draw, spread over classes, the same at "
        "every validation and for every run on the set",
        example="5_000",
        told="all",
    )
    freeze_validation_set: bool = _setting(
        _truth(),
        "draw the random augmentation of validation images once",
        example="true",
        default=False,
        told="`false`",
    )
    training_noise: float = _setting(
        _number(at_least=0),
        "standard deviation of Gaussian noise added to training images (pixels are 0..1)",
        example="0.1",
        default=0.0,
        told="0",
    )
    input_transforms: tuple[Callable[..., Any], ...] = _setting(
        _functions(),
        "functions applied to the input but not to the target; in validation too",
        example="[torch.Tensor.round]",
        default=(),
        python_only=True,
    )
    gradient_clipping: Clipping | None = _setting(
        _CLIPPING, "a number (each value), `{norm: 1.0}` or `{value: 0.5}`", example="{norm: 1.0}"
    )
    on_nan: OnNan = _setting(
        _ON_NAN,
        "when a number is infinite, not a number, or far too large: `stop`, `skip` that batch, or "
        "`rollback` (entries `lower_lr`, `clip`, `float32`, `times`)",
        example="{rollback: {lower_lr: 0.3, clip: 1.0, times: 5}}",
        default=OnNan(),
        told="`stop`",
    )
    gradient_accumulation: int = _setting(
        _COUNT, "batches per optimiser step", example="4", default=1
    )
    ema_decay: float | None = _setting(
        _number(above=0, below=1),
        "decay of the averaged weights; validation then uses them",
        example="0.999",
    )
    precision: Literal["float32", "bfloat16", "auto"] = _setting(
        _one_of("float32", "bfloat16", "auto"),
        "`float32`, `bfloat16` (the model under autocast), or `auto`: bfloat16 where a trial shows "
        "that it pays",
        example="float32",
        default="auto",
        told="`auto`; `float32` with `trainer` or `legacy`",
    )
    seed: int = _setting(
        _whole(above=-1, most=2**32 - 1),
        "of everything random: weights, order, noise, augmentation",
        example="1",
        default=0,
        told="0",
    )
    shuffle: bool = _setting(
        _truth(),
        "a new keyed order each epoch; False: the order of the set",
        example="True",
        default=True,
        python_only=True,
    )
    micro_batch_size: int | None = _setting(
        _COUNT,
        "cut a batch into pieces of this many images to save memory",
        example="16",
        python_only=True,
    )
    sum_gradients: bool = _setting(
        _truth(),
        "accumulated gradients are summed instead of averaged",
        example="True",
        default=False,
        python_only=True,
    )
    noise_in_target: bool = _setting(
        _truth(),
        "the noise is in the target too",
        example="True",
        default=False,
        python_only=True,
    )
    validation: str = _setting(
        _text("a name of `aelab.train.VALIDATIONS`"),
        "how held-out images are measured: a name of `VALIDATIONS`",
        example="evaluation_mode",
        default="evaluation_mode",
        python_only=True,
    )
    channels_last: bool | None = _setting(
        _truth(),
        "memory layout of 4D tensors; None: where the model has convolutions",
        example="True",
        python_only=True,
    )
    threads: int | None = _setting(
        _COUNT, "CPU threads; None: free cores at the start", example="1", python_only=True
    )
    deterministic: bool = _setting(
        _truth(),
        "ask torch for deterministic algorithms (needed on CUDA only)",
        example="True",
        default=False,
        python_only=True,
    )

    def __post_init__(self) -> None:
        _check_fields(self)
        refuse_endless(self)


@dataclass(frozen=True)
class Settings:
    """All settings of a file that are not Python: training, objective, checkpoints.

    A loss that the file defines itself is one of its blocks; `loss_function` is a name, if used.

    Attributes:
        fit: settings of the loop.
    """

    fit: FitSettings
    loss_function: str = _setting(
        _text("a name (l1, l2, bce, huber, ...), or a block"),
        "`l1`, `l2`, `bce`, `huber`, ..., or a block that returns a function of (output, target)",
        example="l2",
        default="l1",
    )
    objective: Mapping[str, float | Mapping[str, Any]] | None = _setting(
        _TERMS,
        "terms by name: a weight, or `{weight: 0.1, formula: kl, warmup_images: 10_000}`",
        example="{l1: 1.0, kl: 0.0001}",
        told="the model's own",
    )
    feature_loss_weight: float | None = _setting(
        _number(at_least=0),
        "weight of the penalty on mean and deviation of the latent over a batch",
        example="0.0001",
        told="none, or by `trainer`",
    )
    legacy: frozenset[str] = _setting(
        _LEGACY,
        "how to reproduce old numbers: `true`, `[kl]`, `[validation]`",
        example="[validation]",
        default=frozenset(),
        told="`false`, or by `trainer`",
    )
    trials: int = _setting(
        _whole(most=MOST_RUNS),
        "repeat with the seeds `seed`, `seed + 1`, ...",
        example="5",
        default=1,
        told="1",
    )
    load: str | None = _setting(
        _text("text, RUN or RUN@images"),
        "`RUN` or `RUN@IMAGES`: start a new run from a kept checkpoint's weights (also `--load`)",
        example="vae/first@best",
    )
    keep_checkpoints: str | int = _setting(
        _KEEP,
        "`best+latest`, `all`, the number of further ones to keep (spread evenly), `last N`, or "
        "`every N` images",
        example="every 50_000",
        default="best+latest",
    )
    trainer: str | None = _setting(
        _text("text, such as src.train.TrainAutoencoder"),
        "for old files, see below",
        example="src.train.TrainAutoencoder",
    )

    def __post_init__(self) -> None:
        _check_fields(self)


def refuse_endless(settings: FitSettings) -> None:
    """Raises if nothing would ever end a run.

    Raises:
        ConfigError: no end is given, or only a loss that is never measured.
    """
    if settings.max_images is not None or settings.max_epochs is not None:
        return
    if settings.min_loss is None:
        raise no_end()
    if settings.validate_every_images is None and settings.validate_every_epochs is None:
        raise ConfigError(
            "min_loss is the only end, and no validation would measure the loss",
            hint="set validate_every_epochs: 1, or max_images: 1_000_000",
        )


def no_end(where: Where | None = None) -> ConfigError:
    """The error for a run without an end."""
    return ConfigError(
        "missing: training would never end; possible: max_images, max_epochs, min_loss",
        where=where,
        hint="write for instance: max_images: 1_000_000",
    )


def _check_fields(settings: FitSettings | Settings) -> None:
    """Converts every field by its rule; None stays if it is the default."""
    kind: type = type(settings)
    for name, rule, default in _ruled(kind):
        value = getattr(settings, name)
        if value is not None or default is not None:
            object.__setattr__(settings, name, rule.checked(name, value))


@cache
def _ruled(kind: type) -> tuple[tuple[str, Rule, Any], ...]:
    """Name, rule and default of the fields of a class that have a rule."""
    fields = [each for each in dataclasses.fields(kind) if "rule" in each.metadata]
    return tuple((each.name, each.metadata["rule"], each.default) for each in fields)


def _rules_of(kind: type) -> dict[str, Rule]:
    return {
        each.name: each.metadata["rule"]
        for each in dataclasses.fields(kind)
        if "rule" in each.metadata
    }


#: The rules of the loop's settings, and of all of them.
RULES_OF_FIT: dict[str, Rule] = _rules_of(FitSettings)
RULES: dict[str, Rule] = {**RULES_OF_FIT, **_rules_of(Settings)}
