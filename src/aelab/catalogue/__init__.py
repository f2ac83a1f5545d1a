"""Every name a block may use, and what may be done with the things those names make.

    names()        name -> part: data sets, models, losses, lists of torch, nn, F, math, torchvision
    attributes()   exact type -> what a block may read of it
    CallLog        each call of a part in order, with its arguments, defaults included

The parts come from the tables of the rooms, from installed packages, and from `register`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import nn

from aelab import roots
from aelab.catalogue.calls import CallLog
from aelab.catalogue.libraries import MODULE_RIGHTS, libraries, library_attributes
from aelab.catalogue.parts import Part
from aelab.config.guards import CORE_ATTRIBUTES, FrozenModule, members_of
from aelab.config.old_programs import old_namespaces
from aelab.data import COMBINATORS, DATASETS, METHODS, TORCHVISION_DATASETS, Dataset
from aelab.errors import ConfigError
from aelab.parts import CALLED_IN_BLOCKS, table_of

if TYPE_CHECKING:
    from aelab.roots import Roots

__all__ = ["CallLog", "Part", "attributes", "is_data_part", "names", "parts_in_blocks", "register"]

#: Kinds of parts of which ours read no files, unless they say `reads_files`.
_READ_NO_FILES = ("model part", "helper", "loss")

#: What blocks may read of objects of registered classes, beside their `block_attributes`.
_OWN_ATTRIBUTES: dict[type, frozenset[str]] = {}


def register(
    name: str, part: Any, attributes: Iterable[str] = (), *, kind: str = "model part"
) -> None:
    """Make a part of one's own usable by name, under the same checks as ours.

    Args:
        name: how files call it.
        part: a class or function with annotated keyword arguments.
        attributes: what blocks may read of the objects it makes.
        kind: what it is, one of `aelab.parts.kinds()`: a `model part` or a `data set`, which blocks
            call; or a kind that a key of the file or a verb names.

    Raises:
        ConfigError: the name is no name, or is taken already; an unknown kind.
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
    """Name -> what a block finds under it: a checked `Part`, or a frozen list of names.

    Args:
        log: receives every call of a part.
        reading: the folders that data parts may read, however late a function of a block calls
            them; left out: those in force now, and where nothing is restricted, only `AELAB_DATA`
            and the cache.
    """
    log = CallLog() if log is None else log
    reading = reading or roots.current() or roots.Roots(())
    found: dict[str, Any] = {name: _wrap(item, log) for name, item in libraries().items()}
    without_files = {name for kind in _READ_NO_FILES for name in table_of(kind).ours}
    for name, target in parts_in_blocks().items():
        is_ours = name in without_files
        reads = not is_ours or getattr(target, "reads_files", False)
        found[name] = Part(name, target, log, reading if reads else None)
    found |= _old_modules(found)
    log.parts = _index(found)
    return MappingProxyType(found)


def parts_in_blocks() -> Mapping[str, Any]:
    """Name -> class or function that blocks call: ours, of installed packages, registered ones."""
    found: dict[str, Any] = {}
    for kind in CALLED_IN_BLOCKS:
        found |= table_of(kind)
    return MappingProxyType(found)


def attributes() -> Mapping[type, frozenset[str]]:
    """Exact type -> the rights of a block: attribute names, `[]`, `for`, `with` (see `guards`).

    A class that is a part says what else a block may read of its objects by its class attribute
    `block_attributes`, ours as those of wings and packages.
    """
    parts = parts_in_blocks()  # first: wings and packages bring types with their modules
    rows: dict[type, frozenset[str]] = {**CORE_ATTRIBUTES, **library_attributes()}
    for row in (_room_attributes(), _OWN_ATTRIBUTES):
        for part, rights in row.items():
            rows[part] = rows.get(part, frozenset()) | rights
    for part in parts.values():
        if isinstance(part, type):
            rights = frozenset(getattr(part, "block_attributes", ()))
            rights |= MODULE_RIGHTS if issubclass(part, nn.Module) else frozenset()
            if rights:
                rows[part] = rows.get(part, frozenset()) | rights
    return MappingProxyType(rows)


def is_data_part(name: str) -> bool:
    """Whether the part of that name is a data set: its pixels, not its arguments, make a result."""
    prefixes = ("VT.", "torchvision.datasets.")
    return name in DATASETS or name in COMBINATORS or name.startswith(prefixes)


def _room_attributes() -> dict[type, frozenset[str]]:
    """What the rooms say of their own types; every kind of data set has the same methods."""
    for table in (DATASETS, COMBINATORS, TORCHVISION_DATASETS):
        list(table.values())  # loads the kinds of data set that wings and packages bring
    kinds: list[type] = [Dataset]
    for kind in kinds:  # grows while it is walked
        kinds += kind.__subclasses__()
    kinds = [kind for kind in kinds if not inspect.isabstract(kind)]
    shared = frozenset({"shape", *METHODS})
    return {kind: shared | frozenset(getattr(kind, "block_attributes", ())) for kind in kinds}


def _wrap(item: Any, log: CallLog) -> Any:
    """A library's item for blocks: callables as parts, lists of names recursively."""
    if isinstance(item, FrozenModule):
        return item.map(lambda value: _wrap(value, log))
    return Part(item.name, item.target, log) if isinstance(item, Part) else item


def _old_modules(found: Mapping[str, Any]) -> dict[str, FrozenModule]:
    """Modules that old files import as a whole: `from src.models.encoder import resnet`."""
    return {
        module: FrozenModule(f"aelab.{module}", {name: found[name] for name in members})
        for module, members in old_namespaces().items()
        if found.keys() >= set(members)
    }


def _index(found: Mapping[str, Any]) -> dict[str, Part]:
    """Every part by its full name, those inside of lists of names included."""
    index: dict[str, Part] = {}
    for item in found.values():
        if isinstance(item, FrozenModule):
            index |= _index(members_of(item))
        elif isinstance(item, Part):
            index.setdefault(item.name, item)
    return index
