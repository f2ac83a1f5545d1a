"""All names that blocks may use, and the attributes they may read of the objects made by them.

    names()        name -> part: data sets, models, losses, lists of torch, nn, F, math, torchvision
    attributes()   exact type -> attributes that a block may read
    CallLog        each call of a part in order, with its arguments, defaults included

The parts come from the tables of the rooms, from installed packages, and from `register`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from torch import nn

from aelab import roots
from aelab.catalogue.calls import CallLog
from aelab.catalogue.index import PartIndex
from aelab.catalogue.libraries import MODULE_RIGHTS, libraries, library_attributes
from aelab.catalogue.parts import Part, kind_of, names_offered_by
from aelab.config.guards import CORE_ATTRIBUTES, FrozenModule
from aelab.config.old_programs import old_namespaces
from aelab.data import COMBINATORS, DATASETS, METHODS, TORCHVISION_DATASETS, Dataset
from aelab.errors import ConfigError
from aelab.parts import CALLED_IN_BLOCKS, table_of

if TYPE_CHECKING:
    from aelab.roots import Roots

__all__ = ["CallLog", "Part", "attributes", "is_data_part", "names", "parts_in_blocks", "register"]

#: Kinds of parts that read no files, unless a part of aelab sets `reads_files`.
_READ_NO_FILES = ("model part", "helper", "loss")

#: Attributes that blocks may read of registered classes, besides their `block_attributes`.
_OWN_ATTRIBUTES: dict[type, frozenset[str]] = {}


def register(
    name: str, part: Any, attributes: Iterable[str] = (), *, kind: str = "model part"
) -> None:
    """Registers your own part by name, with the same checks as aelab's parts.

    Args:
        name: its name in files.
        part: a class or function with annotated keyword arguments.
        attributes: attributes that blocks may read of the objects it makes.
        kind: one of `aelab.parts.kinds()`: a `model part` or a `data set`, which blocks call, or a
            kind that is used by a key of the file or by a verb.

    Raises:
        ConfigError: the name is no valid name or is already used, or the kind is unknown.
    """
    table = table_of(kind)
    if kind in CALLED_IN_BLOCKS:
        if not callable(part):
            raise ConfigError(f"'{name}' must be a class or a function, not {part!r}")
        if name not in table and name in parts_in_blocks():
            raise ConfigError(f"there is a part '{name}' already")
    table.register(name, part)
    if attributes and isinstance(part, type):
        _OWN_ATTRIBUTES[part] = frozenset(attributes)


def names(log: CallLog | None = None, reading: Roots | None = None) -> Mapping[str, Any]:
    """Name -> its value in blocks: a checked `Part`, or a frozen list of names.

    Args:
        log: records every call of a part.
        reading: the folders that data parts may read, even if a function of a block calls them
            later. If left out: the current folders, or without a restriction only `AELAB_DATA` and
            the cache.
    """
    log = CallLog() if log is None else log
    reading = reading or roots.current() or roots.Roots(())
    found: dict[str, Any] = {name: _wrap(item, log, reading) for name, item in libraries().items()}
    for name, (target, kind, reads_files) in _described().items():
        found[name] = kind(name, target, log, reading if reads_files else None)
    found |= _old_modules(found)
    log.parts = PartIndex(found)
    return MappingProxyType(found)


def parts_in_blocks() -> Mapping[str, Any]:
    """Name -> class or function for blocks: of aelab, of installed packages, or registered."""
    found: dict[str, Any] = {}
    for kind in CALLED_IN_BLOCKS:
        found |= table_of(kind).all_imported()
    return MappingProxyType(found)


class _Described(NamedTuple):
    """A class or function for blocks, the kind of its part, and whether its calls read files."""

    target: Any
    kind: type[Part]
    reads_files: bool


def _described() -> Mapping[str, _Described]:
    """The parts in blocks by name; as long as they stay the same, they are described once."""
    parts = tuple(parts_in_blocks().items())
    try:
        return _described_once(parts)
    except TypeError:  # a registered part that is not hashable
        return _described_once.__wrapped__(parts)


@lru_cache(maxsize=8)
def _described_once(parts: tuple[tuple[str, Any], ...]) -> Mapping[str, _Described]:
    without_files = {name for kind in _READ_NO_FILES for name in table_of(kind).ours}
    return {
        name: _Described(
            target,
            kind_of(target),
            name not in without_files or bool(getattr(target, "reads_files", False)),
        )
        for name, target in parts
    }


def attributes() -> Mapping[type, frozenset[str]]:
    """Exact type -> the rights of a block: attribute names, `[]`, `for`, `with` (see `guards`).

    A class that is a part lists further attributes that blocks may read in its class attribute
    `block_attributes`.
    """
    parts = tuple(parts_in_blocks().values())  # first: importing parts and packages adds types
    try:
        return _rights(parts, tuple(_kinds_of_sets()), tuple(_OWN_ATTRIBUTES.items()))
    except TypeError:  # a registered part that is not hashable
        return _rights.__wrapped__(parts, tuple(_kinds_of_sets()), tuple(_OWN_ATTRIBUTES.items()))


@lru_cache(maxsize=8)
def _rights(
    parts: tuple[Any, ...],
    kinds_of_sets: tuple[type, ...],
    own: tuple[tuple[type, frozenset[str]], ...],
) -> Mapping[type, frozenset[str]]:
    """The table of `attributes`, which is the same for all runs of a matrix."""
    rows: dict[type, frozenset[str]] = {**CORE_ATTRIBUTES, **library_attributes()}
    shared = frozenset({"shape", *METHODS})
    of_sets = [
        (kind, shared | frozenset(getattr(kind, "block_attributes", ()))) for kind in kinds_of_sets
    ]
    for part, rights in (*of_sets, *own):
        rows[part] = rows.get(part, frozenset()) | rights
    for part in parts:
        if isinstance(part, type):
            rights = frozenset(getattr(part, "block_attributes", ()))
            rights |= MODULE_RIGHTS if issubclass(part, nn.Module) else frozenset()
            if rights:
                rows[part] = rows.get(part, frozenset()) | rights
            if offered := names_offered_by(part):
                rows[kind_of(part)] = offered
    return MappingProxyType(rows)


def is_data_part(name: str) -> bool:
    """Whether the part is a data set, which is identified by its pixels, not by its arguments."""
    prefixes = ("VT.", "torch.load", "torchvision.datasets.")
    return name in DATASETS or name in COMBINATORS or name.startswith(prefixes)


def _kinds_of_sets() -> list[type]:
    """Every class of data sets that can be made; all have the same methods."""
    for table in (DATASETS, COMBINATORS, TORCHVISION_DATASETS):
        list(table.values())  # loads the kinds of data set of optional parts and packages
    kinds: list[type] = [Dataset]
    for kind in kinds:  # subclasses are appended during the loop
        kinds += kind.__subclasses__()
    return [kind for kind in kinds if not inspect.isabstract(kind)]


def _wrap(item: Any, log: CallLog, reading: Roots) -> Any:
    """Prepares a library's item for blocks: callables become parts, lists of names recursively."""
    if isinstance(item, FrozenModule):
        return item.map(lambda value: _wrap(value, log, reading))
    if not isinstance(item, Part):
        return item
    reads = getattr(item.target, "reads_files", False)
    return Part(item.name, item.target, log, reading if reads else None)


def _old_modules(found: Mapping[str, Any]) -> dict[str, FrozenModule]:
    """Modules that old files import as a whole: `from src.models.encoder import resnet`."""
    return {
        module: FrozenModule(f"aelab.{module}", {name: found[name] for name in members})
        for module, members in old_namespaces().items()
        if found.keys() >= set(members)
    }
