"""A medium from outside: trained, drawn, counted and guarded as aelab's own, by entry points."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from aelab import lab, parts
from aelab.runs.store import Store

FILE = """
experiment_name: flags
train_set: flags_dataset().limit(60)
validation_set: flags_dataset().skip(60)
model: PaletteModel()
optimizer: Adam
learnrate: 0.03
batch_size: 20
max_inputs: 4000
"""


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    parts.look_again()
    yield
    sys.modules.pop("aelab_palette", None)
    monkeypatch.undo()
    importlib.invalidate_caches()
    parts.look_again()


def _written(folder: Path, old: str = "", new: str = "") -> Path:
    file = folder / "own.yml"
    file.write_text(FILE.replace(old, new) if old else FILE)
    return file


def test_a_run_is_trained_counted_drawn_and_measured(tmp_path: Path) -> None:
    list(lab.run(_written(tmp_path), runs=tmp_path / "runs"))
    (run,) = Store(tmp_path / "runs").scan().runs
    assert run.state == "finished"
    assert run.metrics("validation")[-1]["right_pixels"] > 0.9
    with Image.open(run.path / "images" / "heldout-originals.png") as row:
        assert row.mode == "RGB" and row.size == (16 * 8, 8)
        assert {(255, 0, 0), (255, 255, 255)} <= {colour for _, colour in row.getcolors() or ()}
    (entry,) = lab.evaluate(["flags"], runs=tmp_path / "runs", metrics=["latent_use", "pca_skill"])
    assert entry.skipped["pca_skill"] == "the images are palette pictures, not pixels"
    path = lab.figure("reproductions", "flags", runs=tmp_path / "runs")
    assert path.stat().st_size > 100


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "PaletteModel()",
            "small_image_ae((1, 8, 8))",
            "the images are palette pictures, but the model outputs pixels: it would read the "
            "numbers of colours as brightness\n.*use a palette model",
        ),
        (
            "flags_dataset().limit(60)",
            "noise_dataset((1, 8, 8), 60)",
            "the images are pictures, but the model outputs palette: it needs palette pictures",
        ),
        (
            ".limit(60)",
            ".resize((16, 16))",
            "flags: resize would make other colours of colours",
        ),
        (
            "optimizer: Adam",
            "optimizer: Adam\nobjective: {l1: 1}",
            "this model outputs palette, so the pixel loss l1 gives no gradient\n.*use flag_ce",
        ),
    ],
)
def test_what_does_not_fit_a_medium_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    (plan,) = lab.check(_written(tmp_path, old, new)).runs
    assert re.search(message, plan.problems[0]), plan.problems
