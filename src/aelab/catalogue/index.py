"""All parts of one run by full name, and the names of classes and functions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, cached_property
from typing import Any

from aelab.catalogue.libraries import libraries
from aelab.catalogue.parts import Part
from aelab.config.guards import FrozenModule, members_of


class PartIndex(Mapping[str, Part]):
    """Full name -> part, including the parts inside lists of names, such as `nn.Linear`.

    A run looks up few of them, so they are listed when one is asked for.

    Args:
        found: what blocks see by name: parts, lists of names, other values.
    """

    def __init__(self, found: Mapping[str, Any]) -> None:
        self._found = found

    def __getitem__(self, name: str) -> Part:
        return self._parts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def name_of(self, value: Any) -> str | None:
        """The full name of a part, or of the class or function of one; None if it has none."""
        if isinstance(value, Part):
            return value.name if self.get(value.name) is value else None
        if not callable(value):
            return None
        return self._names.get(id(value))

    @cached_property
    def _parts(self) -> dict[str, Part]:
        return _listed(self._found)

    @cached_property
    def _names(self) -> dict[int, str]:
        """id of a class or function, which its part keeps alive -> the first name of it."""
        own = {name: item for name, item in self._found.items() if isinstance(item, Part)}
        return {**_by_target(own), **_in_libraries()}


@cache
def _in_libraries() -> Mapping[int, str]:
    return _by_target(_listed(libraries()))


def _by_target(parts: Mapping[str, Part]) -> dict[int, str]:
    names: dict[int, str] = {}
    for part in parts.values():
        names.setdefault(id(part.target), part.name)
    return names


def _listed(found: Mapping[str, Any]) -> dict[str, Part]:
    index: dict[str, Part] = {}
    for item in found.values():
        if isinstance(item, FrozenModule):
            index |= _listed(members_of(item))
        elif isinstance(item, Part):
            index.setdefault(item.name, item)
    return index
