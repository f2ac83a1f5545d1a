"""Stored runs of every format version stay readable, with aelab and without it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from aelab.report.query import TableQuery
from aelab.report.tables import table
from aelab.runs.record import FORMAT, Run
from aelab.runs.store import Store

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
VERSIONS = sorted(GOLDEN.glob("format-*"))


def golden_runs() -> list[Run]:
    return [run for version in VERSIONS for run in Store(version).list()]


def test_there_is_a_stored_run_of_every_format_version() -> None:
    assert [path.name for path in VERSIONS] == [f"format-{n}" for n in range(1, FORMAT + 1)]
    assert all(Store(path).list() and not Store(path).scan().problems for path in VERSIONS)


@pytest.mark.parametrize("run", golden_runs(), ids=str)
def test_a_stored_run_opens_and_all_its_parts_are_there(run: Run) -> None:
    assert run.state == "finished"
    assert {"name", "identity", "matrix", "parameters", "data", "effect"} <= set(run.record)
    validation = run.metrics("validation")
    assert len(validation) >= 5 and run.metrics("train")
    assert validation[-1]["loss"] == pytest.approx(run.status["last"]["loss"])
    assert {"best", "latest"} <= {state.name for state in run.checkpoints()}
    for state in run.checkpoints():
        tensors, numbers = state.read()
        assert tensors and isinstance(numbers, dict)
    for name in ("experiment.yml", "resolved.yml", "calls.json", "environment.json", "log.txt"):
        assert run.read_text(name), name
    for part in ("train", "heldout"):
        assert len(list(run.path.glob(f"images/{part}-*.png"))) >= 2


@pytest.mark.parametrize("run", golden_runs(), ids=str)
def test_a_stored_run_is_a_row_of_a_table(run: Run) -> None:
    (entry,) = json.loads(table([run], TableQuery(format="json")))
    assert entry["problems"] == [] and entry["trend"]["verdict"] != "too few points"
    assert "validation loss" in table([run])


@pytest.mark.parametrize("run", golden_runs(), ids=str)
def test_the_documented_lines_read_a_run_without_aelab(run: Run) -> None:
    text = (ROOT / "docs" / "run-format.md").read_text(encoding="utf-8")
    match = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert match is not None and len(match.group(1).splitlines()) == 6
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", match.group(1)],  # no installed package at all
        cwd=run.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert str(run.record["name"]) in done.stdout and "finished" in done.stdout


def test_every_file_of_a_run_is_documented() -> None:
    text = (ROOT / "docs" / "run-format.md").read_text(encoding="utf-8")
    for run in golden_runs():
        for path in run.path.rglob("*"):
            if path.is_file():
                stem = path.stem.partition("-0")[0] + ("-0" if "-0" in path.stem else "")
                assert stem in text, path.name
        for source in (run.record, run.status, *run.metrics()[:1]):
            assert not [key for key in source if f"`{key}`" not in text and key not in ("l1", "kl")]
