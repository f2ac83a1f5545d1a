"""Tables of parts by name: parts of aelab, of installed packages, and of the user's program.

A package offers a part of any kind by an entry point, without importing aelab:

    [project.entry-points."aelab.penalties"]
    student_kl = "my_package:student_kl"

Programs do the same by `aelab.register("student_kl", student_kl, kind="penalty")`.

A wing is a package inside of aelab that the other code must not import, such as `aelab.ascii`. It
also registers its parts by entry points, in this project's `pyproject.toml`.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, Generic, TypeVar

from aelab.errors import ConfigError, did_you_mean, one_of

T = TypeVar("T")

#: Every kind of part -> its table (module, name). Tables are imported on demand, because this file
#: is below all rooms, and most rooms import torch.
_TABLES = {
    "model part": ("aelab.models", "MODELS"),
    "helper": ("aelab.models", "HELPERS"),
    "data set": ("aelab.data", "DATASETS"),
    "set of sets": ("aelab.data", "COMBINATORS"),
    "data set of torchvision": ("aelab.data", "TORCHVISION_DATASETS"),
    "loss": ("aelab.losses", "LOSSES"),
    "reconstruction loss": ("aelab.losses", "RECONSTRUCTIONS"),
    "penalty": ("aelab.losses", "PENALTIES"),
    "comparison loss": ("aelab.losses", "COMPARISONS"),
    "loss name": ("aelab.losses", "ALIASES"),
    "optimizer": ("aelab.train", "OPTIMIZERS"),
    "scheduler": ("aelab.train", "SCHEDULES"),
    "validation": ("aelab.train", "VALIDATIONS"),
    "metric": ("aelab.metrics", "METRICS"),
    "sampler": ("aelab.metrics", "SAMPLERS"),
    "figure": ("aelab.study.figures", "FIGURES"),
    "writer": ("aelab.study.opened", "WRITERS"),
    "path reader": ("aelab.data.overview", "PATH_READERS"),
    "table layout": ("aelab.report.tables", "LAYOUTS"),
    "bridge": ("aelab.bridges", "BRIDGES"),
    "verb": ("aelab.cli.main", "VERBS"),
    "old program": ("aelab.config.old_programs", "OLD_PROGRAMS"),
}

#: Kinds of parts that blocks call by name; others are selected by a key of the file or by a verb.
CALLED_IN_BLOCKS = ("model part", "data set", "set of sets", "helper", "loss")


class Table(Mapping[str, T], Generic[T]):
    """The parts of one kind by name.

    Parts of aelab come first, including wings; a package cannot replace them. Parts of wings and
    packages are imported at first use, not when they are listed.

    Args:
        kind: name of the kind, for instance `penalty`.
        group: entry-point group of further parts.
        ours: the parts of aelab.

    Attributes:
        kind, group: as given.
    """

    def __init__(self, kind: str, group: str, ours: Mapping[str, T]) -> None:
        self.kind, self.group = kind, group
        self._ours = dict(ours)
        self._own: dict[str, T] = {}
        self._imported: dict[EntryPoint, tuple[ModuleType, T]] = {}
        self._listed: _Listed[T] | None = None

    def __getitem__(self, name: str) -> T:
        for parts in (self._ours, self._own):
            if name in parts:
                return parts[name]
        return self._loaded(installed(self.group)[name])

    def __iter__(self) -> Iterator[str]:
        outside = (name for name in installed(self.group) if name not in self._ours)
        return iter(dict.fromkeys([*self._ours, *outside, *self._own]))

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return name in self._ours or name in self._own or name in installed(self.group)

    def all_imported(self) -> Mapping[str, T]:
        """Name -> part, of all parts; made once for as long as none is added or imported anew.

        Each run of a matrix asks for all parts.
        """
        known, outside = self._listed, installed(self.group)
        if known is None or known.outside is not outside or not known.is_valid():
            parts = MappingProxyType(dict(self))
            held = (self._imported[entry] for entry in outside.values() if entry in self._imported)
            modules = tuple({module.__name__: module for module, _ in held}.items())
            known = self._listed = _Listed(parts, outside, modules)
        return known.parts

    def __repr__(self) -> str:
        return f"<table of {len(self)} of the kind {self.kind}>"

    def find(self, name: str, also: str = "") -> T:
        """The part called `name`.

        Args:
            also: further possible values, for the message.

        Raises:
            ConfigError: there is none; the message suggests the closest and lists all names.
        """
        if name in self:
            return self[name]
        raise ConfigError(
            f"unknown {self.kind} '{name}'{did_you_mean(name, self)}",
            hint=reinstall(name) or f"possible: {one_of(self)}{also}",
        )

    @property
    def ours(self) -> tuple[str, ...]:
        """Names of the parts of aelab, including its wings, in the order of the table."""
        return tuple(name for name in self if self.package(name) == "aelab")

    def summary(self, name: str) -> str:
        """The `summary` of the part called `name`, or the first sentence of its docstring.

        Empty if it has neither.
        """
        return summary_of(self[name])

    def package(self, name: str) -> str:
        """The installed package of the part `name`, or `aelab`; empty for a registered part."""
        if name in self._ours:
            return "aelab"
        entry = None if name in self._own else installed(self.group).get(name)
        if entry is None:
            return ""
        return "aelab" if _of_a_wing(entry) else entry.dist.name if entry.dist else entry.module

    def register(self, name: str, part: T) -> None:
        """Adds a part of the user's program.

        Raises:
            ConfigError: the name is not valid, or already taken.
        """
        if not name.isidentifier() or name.startswith("_"):
            raise ConfigError(f"'{name}' cannot be the name of a {self.kind}")
        if name in self and self._own.get(name) is not part:
            raise ConfigError(f"there is a {self.kind} '{name}' already")
        self._own[name] = part
        self._listed = None

    def forget(self, name: str) -> None:
        """Removes a registered part; does nothing if there is none."""
        self._own.pop(name, None)
        self._listed = None

    def _loaded(self, entry: EntryPoint) -> T:
        # `load` takes 20 us.
        held = self._imported.get(entry)
        if held is not None and sys.modules.get(held[0].__name__) is held[0]:
            return held[1]
        try:
            part: T = entry.load()
            self._imported[entry] = sys.modules[entry.module], part
        except Exception as error:
            package = entry.dist.name if entry.dist is not None else entry.module
            raise ConfigError(
                f"the {self.kind} '{entry.name}' of the package {package} cannot be imported: "
                f"{type(error).__name__}: {error}",
                hint=f"repair or remove the package: pip uninstall {package}",
            ) from error
        return part


@dataclass(frozen=True)
class _Listed(Generic[T]):
    """All parts of a table, and what must not have changed since.

    Attributes:
        parts: by name.
        outside: the entry points that were loaded.
        modules: their modules by name.
    """

    parts: Mapping[str, T]
    outside: Mapping[str, EntryPoint]
    modules: tuple[tuple[str, ModuleType], ...]

    def is_valid(self) -> bool:
        """Whether these modules are still the imported ones."""
        return all(sys.modules.get(name) is module for name, module in self.modules)


#: Any table, where the kind of its parts does not matter.
AnyTable = Table[Any]


def kinds() -> tuple[str, ...]:
    """Every kind of part, by the name used in `aelab.register`."""
    return tuple(_TABLES)


def table_of(kind: str) -> AnyTable:
    """The table of one kind of part.

    Raises:
        ConfigError: there is no such kind; the message suggests the closest and lists all kinds.
    """
    if kind not in _TABLES:
        raise ConfigError(
            f"there is no kind of part '{kind}'{did_you_mean(kind, _TABLES)}",
            hint=f"possible: {one_of(_TABLES)}",
        )
    module, name = _TABLES[kind]
    found: AnyTable = getattr(importlib.import_module(module), name)
    return found


def tables() -> Mapping[str, AnyTable]:
    """Every kind of part -> its table; imports every room that has one."""
    return MappingProxyType({kind: table_of(kind) for kind in _TABLES})


def by_name(*parts: T) -> dict[str, T]:
    """Classes and functions by their `__name__`, for a table.

    Raises:
        ValueError: two of them have the same name.
    """
    named = {part.__name__: part for part in parts}  # type: ignore[attr-defined]
    if len(named) < len(parts):
        raise ValueError("two parts of one table have the same name")
    return named


def summary_of(part: Any) -> str:
    """The `summary` of a metric or figure, else the first sentence of the docstring.

    Empty if there is neither.
    """
    if isinstance(part, str):  # an alias
        return f"the same as {part}"
    text = getattr(part, "summary", None)
    if not isinstance(text, str):
        text = inspect.getdoc(part) or ""
    # To the end of the sentence or paragraph, whichever comes first: lines are wrapped.
    sentence = " ".join(text.strip().partition("\n\n")[0].split())
    return sentence.partition(". ")[0].rstrip(".")


def function_of(part: Any) -> Any:
    """The callable of a part: the function of a metric or figure, else the part itself."""
    return getattr(part, "function", getattr(part, "make", part))


def reads_files(part: T) -> T:
    """Decorator for a part of aelab that may read files, even after its block was evaluated.

    Its calls may read the same folders as its block. Parts of packages are always treated so.
    """
    part.reads_files = True  # type: ignore[attr-defined]
    return part


def installed(group: str) -> Mapping[str, EntryPoint]:
    """The entry points of one group by name; the installed packages are scanned once."""
    return _installed().get(group, {})


@cache
def _installed() -> dict[str, dict[str, EntryPoint]]:
    found: dict[str, dict[str, EntryPoint]] = {}
    known = entry_points()
    for group in known.groups:
        if group.startswith("aelab."):
            # Names of wings are reserved: no package can take them, regardless of the path order.
            for entry in sorted(known.select(group=group), key=lambda e: not _of_a_wing(e)):
                found.setdefault(group, {}).setdefault(entry.name, entry)
    return found


def _of_a_wing(entry: EntryPoint) -> bool:
    return entry.value.startswith("aelab.")


def reinstall(name: str) -> str:
    """A hint if a name is missing because the installation is older than the source.

    Entry points are read from the installed metadata. In an editable checkout these can be older
    than `pyproject.toml`, for instance after `git pull`.

    Returns:
        A hint for a message; empty if reinstalling does not help.
    """
    checkout = Path(__file__).parents[2]
    if name not in _declared(checkout) or any(name in group for group in _installed().values()):
        return ""
    return (
        f"'{name}' is part of aelab, but this installation is older than its source: "
        f"pip install --editable {checkout}"
    )


def _declared(checkout: Path) -> frozenset[str]:
    """Names of the entry points in the `pyproject.toml` of a checkout; empty if it is not one."""
    try:
        import tomllib

        project = tomllib.loads((checkout / "pyproject.toml").read_text("utf-8"))["project"]
    except (OSError, ValueError, KeyError):
        return frozenset()
    groups = project.get("entry-points", {}).values() if project.get("name") == "aelab" else ()
    return frozenset(name for group in groups for name in group)


def look_again() -> None:
    """Scans the installed packages again, for instance after one was installed."""
    _installed.cache_clear()
