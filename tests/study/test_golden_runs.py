"""Stored runs of every format version still mean what they meant when they were trained."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aelab import config, lab
from aelab.execute.events import RunSkipped
from aelab.runs.record import Run
from aelab.runs.store import Store

GOLDEN = Path(__file__).parents[1] / "golden"
RUNS = [run for version in sorted(GOLDEN.glob("format-*")) for run in Store(version).list()]


def _root(run: Run) -> Path:
    return run.path.parents[len(Path(run.folder).parts) - 1]


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_its_text_still_has_the_same_identity(run: Run) -> None:
    (spec,) = config.load(run.path / "resolved.yml").runs()
    assert spec.identity == run.record["identity"]


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_its_model_still_draws_the_stored_pictures(run: Run) -> None:
    model = lab.open_model(f"{run.folder}@latest", runs=_root(run))
    channels, height, width = run.record["shape"]
    assert channels == 1
    strip = np.array(Image.open(run.path / "images/heldout-originals.png"))
    images = torch.from_numpy(strip.reshape(height, -1, width).swapaxes(0, 1).copy())[:, None] / 255
    with torch.no_grad():
        shown = (model(images).reconstruction.clamp(0, 1) * 255).round()[:, 0].numpy()
    latest = sorted(run.path.glob("images/heldout-0*.png"))[-1]
    stored = np.array(Image.open(latest)).reshape(height, -1, width).swapaxes(0, 1)
    assert np.abs(shown - stored).max() <= 1


@pytest.mark.parametrize("run", RUNS, ids=str)
def test_the_file_it_was_made_from_skips_it_as_finished(run: Run, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(_root(run), runs)
    file = tmp_path / str(run.record["experiment"])
    file.write_text(run.read_text("experiment.yml"))
    events = list(lab.run(file, only=run.folder, runs=runs, device="cpu"))
    skipped = [event for event in events if isinstance(event, RunSkipped)]
    assert [event.reason for event in skipped] == ["finished already"]
