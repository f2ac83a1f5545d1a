"""The parts of a run by full name: what blocks can use, and nothing before it is asked for."""

from __future__ import annotations

from torch import nn

from aelab import catalogue
from aelab.catalogue.index import PartIndex
from aelab.config import FrozenModule
from aelab.config.guards import members_of


def test_every_part_is_found_by_the_name_it_has_in_messages() -> None:
    log = catalogue.CallLog()
    names = catalogue.names(log)
    assert len(log.parts) > 300
    assert all(log.parts[name].name == name for name in log.parts)
    assert log.parts["nn.Linear"] is members_of(names["nn"])["Linear"]


def test_a_class_or_function_has_the_name_of_its_first_part() -> None:
    log = catalogue.CallLog()
    catalogue.names(log)
    firsts: dict[int, str] = {}
    for part in log.parts.values():
        firsts.setdefault(id(part.target), part.name)
    named = {id(part.target): log.parts.name_of(part.target) for part in log.parts.values()}
    assert named == firsts
    assert log.parts.name_of(nn.LSTM) is None and log.parts.name_of(3) is None


def test_a_part_of_another_run_has_no_name_here() -> None:
    one, other = catalogue.CallLog(), catalogue.CallLog()
    catalogue.names(one), catalogue.names(other)
    part = one.parts["nn.Linear"]
    assert one.parts.name_of(part) == "nn.Linear" and other.parts.name_of(part) is None


def test_values_of_a_list_are_changed_when_they_are_asked_for_and_once() -> None:
    changed: list[int] = []

    def double(value: int) -> int:
        changed.append(value)
        return 2 * value

    members = members_of(FrozenModule("numbers", {"one": 1, "two": 2}).map(double))
    assert changed == [] and list(members) == ["one", "two"] and "two" in members
    assert members["two"] == members["two"] == 4 and changed == [2]
    assert PartIndex(dict(members)).name_of(4) is None
