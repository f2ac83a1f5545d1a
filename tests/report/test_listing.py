"""`aelab ls FILE`: what was planned, what was begun, what is missing between."""

from __future__ import annotations

import json
import os
from pathlib import Path

from aelab.config import load
from aelab.execute.jobs import first_record
from aelab.execute.session import spec_files
from aelab.lab import Lab
from aelab.runs.store import Store

FILE = """
matrix: {lr: [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]}
experiment_name: a/${matrix_slug}
train_set: noise_dataset((1, 8, 8), size=40)
model: small_image_ae((1, 8, 8))
batch_size: 8
learnrate: ${lr}
optimizer: Adam
max_images: 100
"""


def test_a_file_is_listed_with_what_was_never_begun(tmp_path: Path) -> None:
    file = tmp_path / "f.yml"
    file.write_text(FILE)
    store = Store(tmp_path / "runs")
    specs = load(file).runs()
    states = {0: "finished", 1: "failed", 3: "running"}
    for place, state in states.items():
        run = store.create(first_record(specs[place], False), spec_files(specs[place]))
        run.set_status(state, images=place)
    text = Lab(tmp_path / "runs").ls([file])
    rows = [line.strip() for line in text.splitlines() if line.strip().startswith("a/lr")]
    assert [row.split()[1] for row in rows] == [
        "finished", "failed", "running", "planned", "planned",
    ]  # fmt: skip
    assert "planned (a hole: later ones were begun)" in rows[3] and "hole" not in rows[4]
    counts = "1 finished, 1 failed, 1 running, 2 planned (1 hole); aelab run FILE trains"
    assert counts in text and "--retry-failed" in text
    (dead,) = [run for run in store.list() if run.state == "running"]
    status = json.loads((dead.path / "status.json").read_text())
    status |= {"pid": 2**22 + os.getpid() % 99}
    del status["sum"]
    dead.write_json("status.json", status)
    found = json.loads(Lab(tmp_path / "runs").ls([file], format="json"))
    assert [entry["state"] for entry in found][2:4] == [
        "interrupted (killed)", "planned (a hole: later ones were begun)",
    ]  # fmt: skip


def test_a_file_of_which_nothing_was_begun_is_all_planned(tmp_path: Path) -> None:
    file = tmp_path / "f.yml"
    file.write_text(FILE)
    (tmp_path / "runs").mkdir()
    assert "5 planned; aelab run FILE" in Lab(tmp_path / "runs").ls([file])
