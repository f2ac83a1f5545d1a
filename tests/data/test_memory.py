"""What a set would take is asked before memory or disk is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from aelab.data import Dataset, TensorDataset, kali_dataset, noise_dataset
from aelab.data.memory import machine_bytes, refuse_too_large
from aelab.errors import DataError

HUGE: dict[str, Callable[[], Dataset]] = {
    "noise of many": lambda: noise_dataset((3, 100, 100), size=10**10),
    "noise of large": lambda: noise_dataset((3, 10**6, 10**6), size=1),
    "fractals": lambda: kali_dataset((3, 10**5, 10**5), size=10**4),
    "enlarged": lambda: noise_dataset((1, 4, 4), size=100).resize((1, 10**6, 10**6)),
    "repeated": lambda: noise_dataset((1, 4, 4), size=100).repeat(10**12),
    "repeated rows": lambda: TensorDataset(torch.zeros(9, 1, 64, 64)).repeat(10**6),
}


@pytest.mark.parametrize("name", HUGE)
def test_what_no_machine_holds_is_refused_before_it_is_made(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a machine of 32 GB, whatever this one has.
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: 32 << 30)
    with pytest.raises(DataError, match=r"[\d.,]+ GB (of memory|in the cache)"):
        HUGE[name]().load()


def test_the_message_has_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: 2 << 30)
    with pytest.raises(DataError, match=r"x needs 5\.0 GB .* this machine has 2\.0 GB"):
        refuse_too_large(5 << 30, "x")
    refuse_too_large(1 << 30, "x")
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: None)
    refuse_too_large(1 << 60, "x")


def test_this_machine_has_some_memory() -> None:
    there = machine_bytes()
    assert there is None or there > 1 << 26
