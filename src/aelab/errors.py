"""The exception tree, and the words "did you mean".

    AelabError               anything that ends in one message instead of a traceback
    ├── UserError            something the user can correct (exit code 2)
    │   ├── ConfigError      the experiment file: file, line, key, value, what is possible
    │   │   ├── RefusedError a block asked for something only --trust allows
    │   │   └── NotTrained   the run whose latents are used is not trained to its end
    │   ├── DataError        missing, corrupt or unexpected data files
    │   ├── ShapeError       sizes that do not fit together
    │   ├── MissingExtra     a part needs a package that is not installed
    │   └── StoreError       a run directory that cannot be read, written, or is not ours
    ├── Problems             several errors of one file at once (exit code 2)
    └── RunFailed            training itself failed (exit code 1)
        └── DivergedError    a loss or a weight is no longer finite

A message says where, what was given, what is possible, and what to type.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from typing import Any

#: Terminal control characters, marks of text direction, surrogates; not newline and tab.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


#: Numbers with more digits than any hash.
_LONG_NUMBER = re.compile(r"\d{80,}")


def visible(text: str) -> str:
    """The text with control characters escaped (`\\x1b`), so that no name controls the terminal."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


#: Longer foreign texts are cut in messages.
MOST_CHARACTERS = 300
#: Choices in a message with many: those most like what was given.
MOST_LISTED = 12


def _shortened(text: str) -> str:
    """The text with very long numbers cut in the middle."""
    return _LONG_NUMBER.sub(
        lambda found: f"{found[0][:6]}...{found[0][-3:]} ({len(found[0])} digits)", text
    )


@dataclass(frozen=True)
class Where:
    """A place in a file; lines and columns count from 1."""

    file: str | None = None
    line: int | None = None
    column: int | None = None
    key: str | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part)
        return ": ".join(part for part in (place, self.key) if part)

    def at(self, **changes: object) -> Where:
        """The same place with some parts replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def before(self, message: str) -> str:
        """The message after the place; a key that both start with appears once."""
        if not str(self):
            return message
        return f"{self}: {message.removeprefix(f'{self.key}: ') if self.key else message}"


class AelabError(Exception):
    """Anything that ends in one message instead of a traceback.

    Args:
        message: what is wrong, with the given value and what is possible.
        where: the place in a file, if there is one.
        hint: what to type or change.
        code: the stable name of the mistake, see `findings.CODES`; None: that of the class.
    """

    exit_code = 1
    code = "mistake"

    def __init__(
        self,
        message: str,
        *,
        where: Where | None = None,
        hint: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        if code is not None:
            self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors of a worker process are pickled for the process that started it.
        return _remade, (type(self), self.__dict__)

    def __str__(self) -> str:
        text = self.where.before(self.message) if self.where else self.message
        return _shortened(visible(f"{text}\n  {self.hint}" if self.hint else text))


def _remade(kind: type[AelabError], attributes: dict[str, Any]) -> AelabError:
    """Restores a pickled error without calling its constructor, which may take other arguments."""
    error = kind.__new__(kind)
    error.args = (attributes["message"],)
    error.__dict__.update(attributes)
    return error


class UserError(AelabError):
    """Something the user can correct."""

    exit_code = 2


class ConfigError(UserError):
    """The experiment file is wrong."""

    code = "config"


class RefusedError(ConfigError):
    """A block asked for something that the restricted evaluator does not allow."""

    code = "not-allowed"


class NotTrained(ConfigError):
    """The run whose latents another one uses is not trained to its end."""

    code = "not-trained"


class DataError(UserError):
    """A data file is missing, corrupt, or not what it should be."""

    code = "data"


class ShapeError(UserError):
    """Sizes that do not fit together."""

    code = "shapes"


class MissingExtra(UserError):
    """A part needs a package that comes with one of aelab's extras.

    Args:
        part: the requested part.
        package: the package that cannot be imported.
        extra: the extra of aelab that contains it.
    """

    code = "package-missing"

    def __init__(self, part: str, package: str, extra: str) -> None:
        super().__init__(
            f"{part} needs the package {package}, which is not installed",
            hint=f'type: pip install "aelab[{extra}]"',
        )


class StoreError(UserError):
    """A run directory that cannot be read or written."""

    code = "store"


class Problems(UserError):
    """Several errors at once, in the order of the file."""

    def __init__(self, errors: Sequence[AelabError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(str(error) for error in self.errors))

    def __str__(self) -> str:
        return self.message


class Mistakes:
    """Collects the errors of independent steps, so that one does not hide the next.

    Attributes:
        errors: so far, in order.
    """

    def __init__(self) -> None:
        self.errors: list[AelabError] = []

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Context manager: catches an error and keeps it for `tell`."""
        try:
            yield
        except Problems as problems:
            self.errors += problems.errors
        except AelabError as error:
            self.errors.append(error)

    def tell(self) -> None:
        """Raises the collected errors, if there are any.

        Raises:
            AelabError: the only one.
            Problems: several.
        """
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise Problems(self.errors)


class RunFailed(AelabError):
    """At least one run failed; the others are unaffected."""

    code = "failed"


class DivergedError(RunFailed):
    """Training made a loss or a weight infinite, not a number, or meaningless.

    Attributes:
        what: the problem, in a few words.
        incident: all facts about it, as plain data; None if they were not collected.
    """

    what: str = ""
    incident: dict[str, Any] | None = None

    code = "diverged"


def in_words(error: BaseException) -> str:
    """A foreign exception in one line: its class and its text."""
    kind = type(error).__name__
    if isinstance(error, MemoryError):  # has no text
        return "out of memory"
    if isinstance(error, SystemExit):
        return "code of a file must not end the program (SystemExit)"
    try:
        said = " ".join(str(error).split())
    except Exception:  # str() itself fails, for instance for a number of 5,000 digits
        said = ""
    if len(said) > MOST_CHARACTERS:
        said = f"{said[:MOST_CHARACTERS]} ..."
    return f"{kind}: {said}" if said else kind


def shown(value: object) -> str:
    """A value for a message: its `repr`, shortened if it is long."""
    try:
        text = repr(value)
    except Exception:  # Python refuses to print integers of more than 4,300 digits
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."


#: Names from other tools, and old names -> the name used here.
KNOWN_AS = {
    "perceptual_model": "PerceptualLoss", "epochs": "max_epochs", "num_epochs": "max_epochs",
    "n_epochs": "max_epochs", "max_steps": "max_images", "num_steps": "max_images",
    "iterations": "max_images",
    "lr": "learnrate", "learning_rate": "learnrate", "batch": "batch_size", "bs": "batch_size",
    "batchsize": "batch_size", "optim": "optimizer", "optimiser": "optimizer",
    "lr_scheduler": "scheduler", "schedule": "scheduler", "loss": "loss_function",
    "criterion": "loss_function", "loss_fn": "loss_function", "name": "experiment_name",
    "maximum": "max", "minimum": "min", "average": "mean",
    "random_seed": "seed", "manual_seed": "seed", "repeats": "trials", "n_seeds": "trials",
    "gradient_clip_val": "gradient_clipping", "clip_grad_norm": "gradient_clipping",
    "grad_clip": "gradient_clipping", "gradient_clip": "gradient_clipping",
    "accumulate_grad_batches": "gradient_accumulation",
    "dataset": "train_set", "data": "train_set", "train_data": "train_set",
    "train_dataset": "train_set", "val_set": "validation_set", "val_dataset": "validation_set",
    "test_set": "validation_set", "checkpoint": "load", "resume": "load", "network": "model",
    "net": "model", "architecture": "model", "cosine_annealing": "CosineAnnealingLR",
    "mae": "l1", "mse": "l2", "L1Loss": "l1", "MSELoss": "l2", "binary_crossentropy": "bce",
    "mean_squared_error": "l2", "Dense": "Linear", "Conv2D": "Conv2d", "latent_dim": "code_size",
    "latent_size": "code_size", "ImageFolder": "image_folder_dataset",
}  # fmt: skip


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest of `choices`, or an empty string.

    Only clear matches are suggested: names that differ only in case and `_`, names known from
    another tool, and typos: few changed letters in total and in every word.
    """
    names = [str(choice) for choice in choices]
    near = _same_letters(name, names) or _known_as(name, names) or _slip(name, names)
    return f"; did you mean '{near}'?" if near else ""


def _same_letters(name: str, names: Sequence[str]) -> str | None:
    """The choice that differs only in case, or in `_` and `-`."""
    wanted = _letters(name)
    return next((choice for choice in names if choice != name and _letters(choice) == wanted), None)


def _known_as(name: str, names: Sequence[str]) -> str | None:
    usual = KNOWN_AS.get(name) or KNOWN_AS.get(name.lower())
    return usual if usual in names else None


def _slip(name: str, names: Sequence[str]) -> str | None:
    """The choice with the fewest changed letters, if few; for a path also by its last part."""
    allowed = []
    for choice in names:
        for form in {choice, choice if "/" in name else choice.rpartition("/")[2]}:
            changes = _changes(name.lower(), form.lower())
            if _is_near(name, form, changes):
                allowed.append((changes, choice))
    return min(allowed, key=lambda pair: pair[0])[1] if allowed else None


def _is_near(name: str, choice: str, changes: int) -> bool:
    """Whether at most one letter in four is changed, and no whole word."""
    if name == choice or _other_number(name, choice):
        return False
    if _is_shortened(name, choice) or _begin_alike(name, choice):
        return True
    longest = max(len(name), len(choice))
    if changes > (max(1, longest // 4) if longest > 2 else 0):
        return False
    words, others = _words(name), _words(choice)
    if len(words) != len(others):  # `noisedataset` has fewer words than `noise_dataset`
        return changes <= 2
    return all(
        _changes(word, other) <= max(1, max(len(word), len(other)) // 4)
        for word, other in zip(words, others, strict=True)
    )


def _other_number(name: str, choice: str) -> bool:
    """Whether the two contain different numbers: `Conv3d` is not a typo of `Conv2d`.

    If there are several numbers, as in a commit hash or a run name, one of them may be a typo.
    """
    one, other = re.findall(r"\d+", name), re.findall(r"\d+", choice)
    several = len(one) == len(other) > 1 and sum(map(str.__ne__, one, other)) == 1
    return bool(one) and bool(other) and one != other and not several


def _is_shortened(name: str, choice: str) -> bool:
    """Whether one is a prefix of the other, with at least four letters and half of it."""
    short, long = sorted((_letters(name), _letters(choice)), key=len)
    return len(short) >= 4 and long.startswith(short) and 2 * len(short) >= len(long)


def _begin_alike(name: str, choice: str) -> bool:
    """Whether both share a prefix of two thirds (validate, validation); more for short names."""
    one, other = _letters(name), _letters(choice)
    pairs = zip(one, other, strict=False)
    same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)))
    longest = max(len(one), len(other))
    return (same >= 5 and 3 * same >= 2 * longest) or (same >= 4 and 5 * same >= 4 * longest)


def _letters(name: str) -> str:
    return re.sub(r"[_\-\s.]", "", name).lower()


def _words(name: str) -> list[str]:
    """`EncoderConv2d` and `encoder_conv2d` as [encoder, conv2d]."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])\d*|[A-Z]?[^A-Z_\W]+", name)]


def _changes(one: str, other: str) -> int:
    """Edit distance: letters to insert, delete, replace or swap with a neighbour."""
    if abs(len(one) - len(other)) > max(len(one), len(other)) // 2:
        return max(len(one), len(other))
    # Damerau-Levenshtein distance by dynamic programming, row by row.
    rows = [list(range(len(other) + 1))]
    for i, a in enumerate(one, start=1):
        row = [i]
        for j, b in enumerate(other, start=1):
            row.append(min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (a != b)))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                row[-1] = min(row[-1], rows[-2][j - 2] + 1)
        rows.append(row)
    return rows[-1][-1]


def one_of(choices: Iterable[str], *, limit: int = 40, like: str | None = None) -> str:
    """A sorted, comma-separated list of choices; with `like` of the most similar ones if many."""
    names = sorted(choices)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    if like is not None and more:
        near = {name: SequenceMatcher(None, like.lower(), name.lower()).ratio() for name in names}
        names = sorted(names, key=lambda name: -near[name])
    return ", ".join(names[:limit]) + more


def or_possible(
    name: str, choices: Iterable[str], *, form: Callable[[str], str] = str, limit: int = MOST_LISTED
) -> str:
    """`; did you mean 'x'? Possible: ...`, or `; possible: ...`: the likely word, then the others.

    Args:
        name: what was given.
        choices: what is possible, in the order of the list.
        form: how a choice is written in the list.
        limit: at most so many, otherwise those most like `name`.
    """
    names = [str(choice) for choice in choices]
    near = did_you_mean(name, names)
    few = len(names) <= limit
    listed = (
        ", ".join(map(form, names)) if few else one_of(map(form, names), limit=limit, like=name)
    )
    return f"{near} Possible: {listed}" if near else f"; possible: {listed}"
