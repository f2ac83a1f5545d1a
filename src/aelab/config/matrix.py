"""The matrix: all combinations of lists of values; the first key varies slowest."""

from __future__ import annotations

import itertools
import keyword
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from aelab.config.blocks import Block, Scope, evaluate_block
from aelab.config.document import Items, Text, Tree, YamlMapping, to_python
from aelab.config.guards import CORE_ATTRIBUTES, CORE_NAMES
from aelab.config.settings import FILTER
from aelab.config.slugs import matrix_slug
from aelab.config.substitute import Substitution, has_reference, unquoted
from aelab.errors import AelabError, ConfigError, Where

#: Most combinations; more are a mistake in the file (or an attack on the machine).
MOST_COMBINATIONS = 100_000
#: Numbers of combinations above this are not printed exactly.
_PRINTED = 10**15

#: Names that substitution provides itself.
PROVIDED = ("matrix_slug", "matrix_id")


def is_variable(key: str) -> bool:
    """Whether blocks can use a matrix key as a name; others (`def`) are only substituted."""
    return key.isidentifier() and not keyword.iskeyword(key)


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix.

    Attributes:
        id: position from 1 before filtering, zero-padded to the width of the whole matrix.
        values: key -> value as in the file (`'l1'` with its quotes).
    """

    id: str
    values: dict[str, Any]

    @property
    def slug(self) -> str:
        """`${matrix_slug}` of this combination."""
        return matrix_slug(self.values)

    @property
    def variables(self) -> dict[str, Any]:
        """The typed variables for blocks and filters; one pair of quotes is removed."""
        return {k: unquoted(v) for k, v in self.values.items() if is_variable(k)}

    @property
    def substitutions(self) -> dict[str, Any]:
        """The values for `${name}`, by name."""
        return {**self.values, "matrix_slug": self.slug, "matrix_id": self.id}


@dataclass(frozen=True)
class Matrix:
    """The content of the key `matrix:`."""

    values: dict[str, list[Any]] = field(default_factory=dict)
    filter: Text | None = None
    places: dict[str, Where] = field(default_factory=dict)

    def cells(self) -> list[Cell]:
        """All combinations before filtering; one empty cell without a matrix."""
        size = math.prod(len(values) for values in self.values.values())
        width = len(str(size - 1)) if size > 1 else 1  # ceil(log10(size))
        combinations = itertools.product(*self.values.values())
        return [
            Cell(str(number).zfill(width), dict(zip(self.values, combination, strict=True)))
            for number, combination in enumerate(combinations, start=1)
        ]

    def keeps(self, cell: Cell, errors: list[ConfigError]) -> bool:
        """Whether `$filter` keeps this cell; a filter that raises keeps nothing."""
        if self.filter is None:
            return True
        text = self.filter.text.replace("\n", " ").strip()
        found: list[ConfigError] = []
        substituted = Substitution(cell.substitutions, found).plain(text, self.filter)
        errors += found
        if found:
            return False
        block = Block(substituted, self.filter.where)
        try:
            return bool(evaluate_block(block, _filter_scope(cell)))
        except ConfigError as error:
            errors.append(error)
            return False
        except AelabError as error:
            errors.append(ConfigError(error.message, where=self.filter.where))
            return False


def _filter_scope(cell: Cell) -> Scope:
    """The names for a filter: typed variables, and each text value as a name with itself as value.

    The latter makes `${opt} == 'Adam'` work, which substitution turns into `Adam == 'Adam'`.
    """
    typed = cell.variables
    themselves = {v: v for v in typed.values() if isinstance(v, str) and v.isidentifier()}
    return Scope(CORE_NAMES, CORE_ATTRIBUTES, {**themselves, **typed})


def read_matrix(tree: Tree | None, taken: Iterable[str], errors: list[ConfigError]) -> Matrix:
    """Reads the matrix of a file; problems are appended to `errors`.

    Args:
        tree: the value of the key `matrix:`, None without one.
        taken: names that a typed variable must not shadow.
    """
    if tree is None or (isinstance(tree, Text) and tree.value is None):
        return Matrix()
    if not isinstance(tree, YamlMapping):
        errors.append(
            ConfigError(
                "must be 'name: [value, value, ...]' lines", where=tree.where.at(key="matrix")
            )
        )
        return Matrix()
    values: dict[str, list[Any]] = {}
    places: dict[str, Where] = {}
    condition: Text | None = None
    shadowed = frozenset(taken)
    for key, entry in tree.entries.items():
        if key == FILTER:
            condition = _read_filter(entry.tree, errors)
            continue
        complaint = _complaint(key, entry.tree, shadowed)
        if complaint:
            message, hint = complaint
            errors.append(ConfigError(message, where=entry.where, hint=hint))
        if isinstance(entry.tree, Items) and entry.tree.items:
            values[key] = to_python(entry.tree)
            places[key] = entry.where
    size = math.prod(len(v) for v in values.values())
    if size > MOST_COMBINATIONS:
        told = f"{size:,}" if size < _PRINTED else f"more than {_PRINTED:,}"
        message = f"{told} combinations; at most {MOST_COMBINATIONS:,} are possible"
        errors.append(ConfigError(message, where=tree.where.at(key="matrix")))
        return Matrix()
    return Matrix(values, condition, places)


def _read_filter(tree: Tree, errors: list[ConfigError]) -> Text | None:
    if isinstance(tree, Text) and tree.value is not None:
        return Text(tree.text, tree.text, tree.style, tree.where)
    errors.append(ConfigError("must be an expression such as: lr <= 0.001", where=tree.where))
    return None


def _complaint(key: str, tree: Tree, shadowed: frozenset[str]) -> tuple[str, str | None] | None:
    """(message, hint) for a wrong line of the matrix; None if it is correct."""
    if key in PROVIDED:
        return f"'{key}' is provided by the lab and cannot be a key of the matrix", None
    if key in shadowed:
        hint = f"rename it, for instance to 'the_{key}'"
        return f"'{key}' already names a part that blocks use; the value would hide it", hint
    if isinstance(tree, Text):
        hint = f"write: {key}: [{tree.text}]"
        return f"given {tree.text!r}; possible: a list of values", hint
    if isinstance(tree, YamlMapping):
        return "given a mapping; possible: a list of values", None
    if not tree.items:
        return "the list is empty, so there would be no run at all", None
    if any(isinstance(item, Text) and has_reference(item.text) for item in tree.items):
        return "a value of the matrix cannot refer to another by ${...}", "use $filter, or globals"
    return None
