"""What the machine has left: cores that nobody uses or has claimed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aelab import hardware


@pytest.fixture
def idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight idle cores and no claims."""
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(hardware, "busy_cores", lambda: 0.1)
    monkeypatch.setattr(hardware, "_cgroup_cores", lambda: float("inf"))


@pytest.mark.parametrize(("busy", "free"), [(0.1, 8), (3.0, 5), (20.0, 1)])
def test_free_are_the_cores_that_nobody_uses(
    idle: None, monkeypatch: pytest.MonkeyPatch, busy: float, free: int
) -> None:
    monkeypatch.setattr(hardware, "busy_cores", lambda: busy)
    assert hardware.free_cores() == free


def test_a_containers_quota_counts_but_not_the_load_of_its_host(
    idle: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(hardware, "busy_cores", lambda: 40.0)
    monkeypatch.setattr(hardware, "_cgroup_cores", lambda: 2.0)
    assert hardware.free_cores() == 2


def test_what_another_process_has_claimed_is_not_free_although_it_is_idle(
    idle: None, tmp_path: Path
) -> None:
    folder = tmp_path / "claims" / hardware.machine_mark()
    folder.mkdir(parents=True)
    parent = os.getppid()  # alive as long as this test
    claim = {"pid": parent, "mark": hardware.process_mark(parent), "cores": 6}
    (folder / "other.json").write_text(json.dumps(claim))
    assert hardware.free_cores() == 2
    with hardware.claim(most=8) as granted:
        assert granted == 2
    with hardware.claim(most=8, threads=4) as granted:
        assert granted == 1  # the least, although four cores are not free


def test_the_claim_of_a_process_that_is_gone_is_forgotten(idle: None, tmp_path: Path) -> None:
    folder = tmp_path / "claims" / hardware.machine_mark()
    folder.mkdir(parents=True)
    claim = {"pid": os.getppid(), "mark": "another start", "cores": 6}
    (folder / "other.json").write_text(json.dumps(claim))
    assert hardware.free_cores() == 8
    assert not (folder / "other.json").exists()


def test_a_claim_ends_with_its_block_and_does_not_count_against_itself(
    idle: None, tmp_path: Path
) -> None:
    folder = tmp_path / "claims" / hardware.machine_mark()
    with hardware.claim(most=3) as granted:
        assert granted == 3
        assert [json.loads(path.read_text())["cores"] for path in folder.glob("*.json")] == [3]
        assert hardware.free_cores() == 8
    assert not list(folder.glob("*.json"))


def test_busy_cores_are_measured_and_within_what_there_is() -> None:
    hardware._measured.clear()
    assert 0 <= hardware.busy_cores() <= (os.cpu_count() or 1)
