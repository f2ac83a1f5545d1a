"""A stopped run leaves the directory of an unbroken one; a full disk is told in its status."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from aelab import lab
from aelab.errors import StoreError
from aelab.execute.events import RunProgress
from aelab.execute.stop import StopRequest
from aelab.runs.store import Store


def _pictures(runs: Path) -> dict[str, bytes]:
    folder = runs / "tiny/net-mlp_seed-1/images"
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_stopped_run_draws_the_pictures_of_an_unbroken_one(tiny: Path, tmp_path: Path) -> None:
    tiny.write_text(tiny.read_text().replace("max_inputs: 480", "max_inputs: 2400"))
    only = "net-mlp_seed-1"
    list(lab.run(tiny, only=only, runs=tmp_path / "whole", device="cpu"))
    for at in (240, 1300):
        stop = StopRequest()
        for event in lab.run(tiny, only=only, runs=tmp_path / "cut", device="cpu", stop=stop):
            if isinstance(event, RunProgress) and event.images >= at and not stop:
                stop.ask()
    list(lab.run(tiny, only=only, runs=tmp_path / "cut", device="cpu"))
    whole, cut = _pictures(tmp_path / "whole"), _pictures(tmp_path / "cut")
    assert sorted(cut) == sorted(whole) and cut == whole


def test_a_disk_that_refuses_is_told_in_the_status(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        error = OSError(errno.ENOSPC, "No space left on device")
        raise StoreError("the disk is full", hint="free some space") from error

    monkeypatch.setattr("aelab.runs.record.Run.save_checkpoint", full)
    with pytest.raises(StoreError, match="full"):
        list(lab.run(tiny, only="net-mlp_seed-1", runs=tmp_path / "runs", device="cpu"))
    (run,) = Store(tmp_path / "runs").list()
    assert run.state == "interrupted" and run.status["error"]["message"] == "the disk is full"
