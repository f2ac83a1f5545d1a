"""Every name a block may use, and what may be done with the things those names make.

    names()        name -> part: data sets, models, losses, lists of torch, nn, F, math, torchvision
    attributes()   exact type -> what a block may read of it
    CallLog        each call of a part in order, with its arguments, defaults included

Importing this package imports no torch; asking for the names does.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from aelab.catalogue.calls import CallLog
from aelab.catalogue.parts import Part
from aelab.config.guards import CORE_ATTRIBUTES, FrozenModule, members_of
from aelab.errors import ConfigError, did_you_mean, one_of
from aelab.parts import AnyTable

if TYPE_CHECKING:
    from aelab.data.roots import Roots

__all__ = ["CallLog", "Part", "attributes", "is_data_part", "names", "register", "tables"]

#: Parts that a program added with `register`; never filled by importing anything of the house.
_OWN: dict[str, Any] = {}
_OWN_ATTRIBUTES: dict[type, frozenset[str]] = {}


def register(
    name: str, part: Any, attributes: Iterable[str] = (), *, kind: str = "model part"
) -> None:
    """Make a part of one's own usable by name, under the same checks as ours.

    Args:
        name: how files call it.
        part: a class or function with annotated keyword arguments.
        attributes: what blocks may read of the objects it makes.
        kind: what it is: a `model part` or a `data set`, which blocks call; or one of the other
            kinds of `tables_by_kind`, which the file names.

    Raises:
        ConfigError: the name is no name, or is taken already; an unknown kind.
    """
    if kind not in ("model part", "data set"):
        kinds = tables_by_kind()
        if kind not in kinds:
            raise ConfigError(
                f"there is no kind of part '{kind}'{did_you_mean(kind, kinds)}",
                hint=f"possible: {one_of(kinds)}",
            )
        kinds[kind].register(name, part)
        return
    if not name.isidentifier() or name.startswith("_"):
        raise ConfigError(f"'{name}' cannot be the name of a part")
    if not callable(part):
        raise ConfigError(f"'{name}' must be a class or a function, not {part!r}")
    if _OWN.get(name, part) is not part or name in tables():
        raise ConfigError(f"there is a part '{name}' already")
    _OWN[name] = part
    if isinstance(part, type):
        _OWN_ATTRIBUTES[part] = frozenset(attributes)


def names(log: CallLog | None = None, reading: Roots | None = None) -> Mapping[str, Any]:
    """Name -> what a block finds under it: a checked `Part`, or a frozen list of names.

    Args:
        log: receives every call of a part.
        reading: the folders that data parts may read, however late a function of a block calls
            them; left out: those in force now, and where nothing is restricted, only `AELAB_DATA`
            and the cache.
    """
    from aelab.catalogue.libraries import libraries
    from aelab.data import roots
    from aelab.losses import LOSSES
    from aelab.models import HELPERS, MODELS, READS_FILES

    log = CallLog() if log is None else log
    reading = reading or roots.current() or roots.Roots(())
    found: dict[str, Any] = {name: _wrap(item, log) for name, item in libraries().items()}
    for name, target in {**tables(), **_OWN}.items():
        reads = name not in {*MODELS.ours, *HELPERS, *LOSSES} or name in READS_FILES
        found[name] = Part(name, target, log, reading if reads else None)
    found |= _old_modules(found)
    log.parts = _index(found)
    return MappingProxyType(found)


def tables() -> Mapping[str, Any]:
    """Name -> class or function: the tables of the rooms, and installed plug-ins."""
    from aelab.data import COMBINATORS, DATASETS
    from aelab.losses import LOSSES
    from aelab.models import HELPERS, MODELS

    return MappingProxyType({**MODELS, **DATASETS, **COMBINATORS, **HELPERS, **LOSSES})


def tables_by_kind() -> Mapping[str, AnyTable]:
    """Every kind of part that an experiment file names -> its table.

    Metrics, figures and bridges have tables too: `aelab.metrics.METRICS`,
    `aelab.study.figures.FIGURES` and `aelab.bridges.BRIDGES`.
    """
    from aelab.data import DATASETS
    from aelab.losses import PENALTIES, RECONSTRUCTIONS
    from aelab.models import MODELS
    from aelab.train import OPTIMIZERS, SCHEDULES

    known = (MODELS, DATASETS, RECONSTRUCTIONS, PENALTIES, OPTIMIZERS, SCHEDULES)
    return MappingProxyType({table.kind: table for table in known})


def attributes() -> Mapping[type, frozenset[str]]:
    """Exact type -> the rights of a block: attribute names, `[]`, `for`, `with` (see `guards`).

    A module of a wing or of a package says what else a block may read of it by its class attribute
    `block_attributes`, names that are not inherited.
    """
    from torch import nn

    from aelab.catalogue.libraries import MODULE_RIGHTS, library_attributes

    rows: dict[type, frozenset[str]] = {**CORE_ATTRIBUTES, **library_attributes()}
    for row in (_room_attributes(), _OWN_ATTRIBUTES):
        for part, rights in row.items():
            rows[part] = rows.get(part, frozenset()) | rights
    for part in {**tables(), **_OWN}.values():
        if isinstance(part, type) and issubclass(part, nn.Module):
            own = vars(part).get("block_attributes", ())
            rows[part] = rows.get(part, frozenset()) | MODULE_RIGHTS | frozenset(own)
    return MappingProxyType(rows)


def is_data_part(name: str) -> bool:
    """Whether the part of that name is a data set: its pixels, not its arguments, make a result."""
    from aelab.data import COMBINATORS, DATASETS

    prefixes = ("VT.", "torchvision.datasets.")
    return name in DATASETS or name in COMBINATORS or name.startswith(prefixes)


def _room_attributes() -> dict[type, frozenset[str]]:
    """What the rooms say of their own types; every kind of data set has the same methods."""
    from aelab.data import METHODS, TORCHVISION_DATASETS, Dataset
    from aelab.models import BLOCK_METHODS

    kinds: list[type] = [Dataset]
    for kind in kinds:  # grows while it is walked
        kinds += kind.__subclasses__()
    kinds = [kind for kind in kinds if not inspect.isabstract(kind)]
    rows = dict.fromkeys(kinds, frozenset({"shape", *METHODS}))
    for kind in TORCHVISION_DATASETS.values():
        rows[kind] |= {"data", "targets"}
    return {**rows, **BLOCK_METHODS}


def _wrap(item: Any, log: CallLog) -> Any:
    """A library's item for blocks: callables as parts, lists of names recursively."""
    if isinstance(item, FrozenModule):
        return item.map(lambda value: _wrap(value, log))
    return Part(item.name, item.target, log) if isinstance(item, Part) else item


def _old_modules(found: Mapping[str, Any]) -> dict[str, FrozenModule]:
    """Modules that old files import as a whole: `from src.models.encoder import resnet`."""
    return {"resnet": FrozenModule("aelab.resnet", {"resnet18_open": found["resnet18_open"]})}


def _index(found: Mapping[str, Any]) -> dict[str, Part]:
    """Every part by its full name, those inside of lists of names included."""
    parts: dict[str, Part] = {}
    for item in found.values():
        if isinstance(item, FrozenModule):
            parts |= _index(members_of(item))
        elif isinstance(item, Part):
            parts.setdefault(item.name, item)
    return parts
