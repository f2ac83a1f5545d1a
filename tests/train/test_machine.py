"""Threads by free cores, precision, allocator."""

from __future__ import annotations

import platform

import pytest
import torch

from aelab.train import allocator_environment, choose_threads, keep_freed_memory, machine


def test_threads_are_the_cores_that_nobody_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "free_cores", lambda: 8)
    assert [choose_threads(jobs) for jobs in (1, 4, 99)] == [8, 2, 1]


def test_auto_precision_is_float32_on_a_cpu() -> None:
    cpu = torch.device("cpu")
    assert not machine.choose_bfloat16("auto", cpu)
    assert machine.choose_bfloat16("bfloat16", cpu)
    assert not machine.choose_bfloat16("float32", cpu)


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
