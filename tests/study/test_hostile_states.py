"""States of strangers whose hash is right and whose content is not: told, and no other run ends."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from aelab import lab
from aelab.errors import AelabError
from aelab.execute import events as ev
from aelab.runs.record import Run
from aelab.runs.store import Store


@pytest.fixture
def runs(tiny: Path, tmp_path: Path) -> Path:
    """Two trained runs; the first is the stranger's."""
    list(lab.run(tiny, only="net:mlp*", runs=tmp_path / "runs", device="cpu"))
    return tmp_path / "runs"


def _state(runs: Path) -> Path:
    return runs / "tiny/net-mlp_seed-1/checkpoints"


def _rewrite(folder: Path, name: str, **changes: Any) -> None:
    about = json.loads((folder / f"{name}.json").read_text())
    (folder / f"{name}.json").write_text(json.dumps({**about, **changes}))


def _sealed(folder: Path, name: str, content: bytes) -> None:
    """Other tensors with the hash that fits them."""
    (folder / f"{name}.safetensors").unlink()
    (folder / f"{name}.safetensors").write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    _rewrite(folder, name, tensors={"bytes": len(content), "sha256": sha256})


HEADS = {
    "garbage": b"\x05" * 300,
    "empty": b"",
    "long": (1 << 60).to_bytes(8, "little") + b"{}",
    "no json": (8).to_bytes(8, "little") + b"nonsense",
    "no shapes": (14).to_bytes(8, "little") + b'{"a": "b"}    ',
    "nested": (60_000).to_bytes(8, "little") + b"[" * 60_000,
}


@pytest.mark.parametrize("head", HEADS)
def test_tensors_that_are_none_are_told(head: str, runs: Path, tiny: Path) -> None:
    for name in ("best", "latest"):
        _sealed(_state(runs), name, HEADS[head])
    bad, good = lab.evaluate(runs=runs, metrics=["reproduction"], device="cpu")
    assert "damaged" in bad.problem and not good.problem
    left_out: list[str] = []
    drawn = lab.figure_together("reproductions", runs=runs, out=runs / "a.png", left_out=left_out)
    assert drawn.exists() and len(left_out) == 1 and "net-mlp_seed-1" in left_out[0]
    with pytest.raises(AelabError, match="damaged"):
        Store(runs).resolve("tiny/net-mlp_seed-1@best")[1].shapes()
    text = tiny.read_text().replace("tiny/", "more/") + "load: tiny/net-mlp_seed-1@best\n"
    tiny.with_name("more.yml").write_text(text)
    with pytest.raises(AelabError, match="damaged"):
        list(lab.run(tiny.with_name("more.yml"), only="net:mlp*", runs=runs, device="cpu"))


@pytest.mark.parametrize(
    "numbers",
    [{}, {"images": "x", "epoch": 1}, {"images": math.nan, "epoch": 0}, {"images": None},
     {"images": math.inf, "epoch": 1}],
)  # fmt: skip
def test_numbers_of_another_kind_are_told(numbers: Any, runs: Path, tiny: Path) -> None:
    for name in ("best", "latest"):
        _rewrite(_state(runs), name, numbers=numbers)
    bad, good = lab.evaluate(runs=runs, metrics=["reproduction"], device="cpu")
    assert "damaged" in bad.problem and not good.problem
    (_state(runs).parent / "status.json").write_text('{"state": "interrupted"}')
    shutil.rmtree(runs / "tiny/net-mlp_seed-2")
    events = list(lab.run(tiny, only="net:mlp*", runs=runs, device="cpu"))
    (erred,) = [event for event in events if isinstance(event, ev.RunErred)]
    assert "--restart" in erred.message
    assert any(isinstance(event, ev.RunFinished) for event in events)


def test_a_text_that_describes_several_runs_is_told(runs: Path) -> None:
    path = _state(runs).parent / "resolved.yml"
    path.write_text(path.read_text() + "trials: 2\n")
    bad, good = lab.evaluate(runs=runs, metrics=["reproduction"], device="cpu")
    assert "describes 2 runs, not one" in bad.problem and not good.problem


@pytest.mark.parametrize("pid", [10**18, -1, 0, "x", math.inf, True])
def test_a_process_number_of_a_stranger_is_no_trouble(pid: Any, runs: Path) -> None:
    run = _state(runs).parent
    status = json.loads((run / "status.json").read_text())
    import platform

    told = {**status, "state": "running", "pid": pid, "host": platform.node()}
    told.pop("sum")
    (run / "status.json").write_text(json.dumps(told))
    assert Run.at(run).state == "interrupted"
    assert "interrupted" in lab.ls(runs=runs)


def test_images_of_a_stranger_are_within_reason(runs: Path) -> None:
    run = _state(runs).parent
    row = '{"split": "validation", "images": 1000000000000000000, "loss": 1, "seconds": 1}\n'
    with (run / "metrics.jsonl").open("a") as file:
        file.write(row)
    assert lab.plot(runs=runs, out=runs / "plot.png").exists()
    assert lab.table(runs=runs, format="json").count('"tiny/net-mlp_seed-') >= 2
