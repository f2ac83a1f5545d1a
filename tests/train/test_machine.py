"""Threads by free cores, precision, allocator."""

from __future__ import annotations

import platform

import pytest
import torch

from aelab.train import allocator_environment, choose_threads, keep_freed_memory, machine


def test_threads_are_the_cores_that_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_cores", lambda: 8)
    assert [choose_threads(jobs) for jobs in (1, 4, 99)] == [8, 2, 1]


@pytest.mark.parametrize("name", ["amx_bf16", "avx512_bf16"])
def test_bfloat16_units_are_those_that_torch_tells(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu = torch.device("cpu")
    for found in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda found=found: {name: found})
        assert machine.has_bfloat16_units(cpu) is found
    assert not machine.has_bfloat16_units(torch.device("meta"))


def test_the_allocator_accepts_the_settings() -> None:
    assert keep_freed_memory() is (platform.libc_ver()[0] == "glibc")
    assert all(int(value) > 2**30 for value in allocator_environment().values())


def test_threads_are_put_back_after_training() -> None:
    before = torch.get_num_threads()
    with machine.prepared_process(before + 1, torch.device("cpu"), deterministic=True):
        assert torch.get_num_threads() == before + 1
        assert torch.are_deterministic_algorithms_enabled()
    assert torch.get_num_threads() == before
    assert not torch.are_deterministic_algorithms_enabled()
