"""The exception tree, and the words "did you mean".

    AelabError               anything that ends in one message instead of a traceback
    ├── UserError            something the user can mend (exit code 2)
    │   ├── ConfigError      the experiment file: file, line, key, value, what is possible
    │   │   └── RefusedError a block asked for something only --trust allows
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
import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

#: Controls of terminals, marks that turn text around, halves of characters; not line and tab.
_CONTROLS = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


#: Longer than any hash.
_LONG_NUMBER = re.compile(r"\d{80,}")


def visible(text: str) -> str:
    """The text with control characters written out (`\\x1b`): nobody's name steers a terminal."""
    return _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text)


#: Longer texts of others are cut in messages.
MOST_CHARACTERS = 300


def _shortened(text: str) -> str:
    """The text with numbers of more digits than anybody reads cut in the middle."""
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


class AelabError(Exception):
    """Anything that ends in one message instead of a traceback.

    Args:
        message: what is wrong, with the given value and what is possible.
        where: the place in a file, if there is one.
        hint: what to type or change.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, where: Where | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where and str(self.where) else self.message
        return _shortened(visible(f"{text}\n  {self.hint}" if self.hint else text))


class UserError(AelabError):
    """Something the user can mend."""

    exit_code = 2


class ConfigError(UserError):
    """The experiment file is wrong."""


class RefusedError(ConfigError):
    """A block asked for something that the restricted evaluator does not allow."""


class DataError(UserError):
    """A data file is missing, corrupt, or not what it should be."""


class ShapeError(UserError):
    """Sizes that do not fit together."""


class MissingExtra(UserError):
    """A part needs a package that comes with one of aelab's extras.

    Args:
        part: what was asked for.
        package: which cannot be imported.
        extra: of aelab, that brings it.
    """

    def __init__(self, part: str, package: str, extra: str) -> None:
        super().__init__(
            f"{part} needs the package {package}, which is not installed",
            hint=f'type: pip install "aelab[{extra}]"',
        )


class StoreError(UserError):
    """A run directory that cannot be read or written."""


class Problems(UserError):
    """Several errors at once, in the order of the file."""

    def __init__(self, errors: Sequence[AelabError]) -> None:
        self.errors = list(errors)
        super().__init__("\n".join(str(error) for error in self.errors))

    def __str__(self) -> str:
        return self.message


class Mistakes:
    """Errors of independent steps, so that one does not hide the next.

    Attributes:
        errors: so far, in order.
    """

    def __init__(self) -> None:
        self.errors: list[AelabError] = []

    @contextlib.contextmanager
    def collected(self) -> Iterator[None]:
        """Keeps an error from inside of `with` for `tell`; what follows in there is left out."""
        try:
            yield
        except Problems as problems:
            self.errors += problems.errors
        except AelabError as error:
            self.errors.append(error)

    def tell(self) -> None:
        """Raises what was collected, if anything.

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


class DivergedError(RunFailed):
    """Training made a loss or a weight infinite, not a number, or meaningless.

    Attributes:
        is_explained: the message says the cause; no further search.
    """

    is_explained: bool = False


def in_words(error: BaseException) -> str:
    """An exception that is none of ours in one line: its kind and what it says."""
    kind = type(error).__name__
    if isinstance(error, SystemExit):
        return "code of a file must not end the program (SystemExit)"
    try:
        said = " ".join(str(error).split())
    except Exception:  # its own text cannot be made, for instance of a number of 5,000 digits
        said = ""
    if len(said) > MOST_CHARACTERS:
        said = f"{said[:MOST_CHARACTERS]} ..."
    return f"{kind}: {said}" if said else kind


def shown(value: object) -> str:
    """A given value for a message: its `repr`, shortened where it is long."""
    try:
        text = repr(value)
    except Exception:  # whole numbers of more than 4,300 digits have no text
        return f"a {type(value).__name__} too long to show"
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the nearest of `choices`, or an empty string."""
    near = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def one_of(choices: Iterable[str], *, limit: int = 40) -> str:
    """A sorted, comma-separated list of what is possible."""
    names = sorted(choices)
    more = f", ... ({len(names)} in all)" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
