"""Data sets that `aelab data` lists under a short name, with a training and a validation half."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from aelab.data.dataset import Dataset

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class ListedAs:
    """The arguments with which `aelab data NAME` makes a set.

    Attributes:
        name: the short name, for instance `mnist`.
        train, validation: arguments for each half.
    """

    name: str
    train: Mapping[str, Any] = field(default_factory=dict)
    validation: Mapping[str, Any] = field(default_factory=dict)

    def make(self, part: Callable[..., Dataset], validation: bool) -> Dataset:
        """Makes one half of the set."""
        return part(**(self.validation if validation else self.train))


def listed(
    name: str, train: Mapping[str, Any] | None = None, validation: Mapping[str, Any] | None = None
) -> Callable[[F], F]:
    """Lets `aelab data` list the decorated data set; see `ListedAs` for the arguments."""

    def mark(part: F) -> F:
        """The function itself, with the attribute `listing`."""
        part.listing = ListedAs(name, train or {}, validation or {})  # type: ignore[attr-defined]
        return part

    return mark
