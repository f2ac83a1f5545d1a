"""Errors by spatial frequency of stored runs, from the run directory to the picture."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

from aelab import lab
from aelab.assembly.workspace import Workspace
from aelab.errors import DataError, UserError
from aelab.report import frequency, plots
from aelab.study.frequency import frequency_errors, frequency_figure

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runs(tiny: Path, tmp_path: Path) -> Path:
    for _ in lab.run(tiny, runs=tmp_path / "runs", only="net-*_seed-1", device="cpu"):
        pass
    return tmp_path / "runs"


def test_the_numbers_are_those_of_the_reopened_model(runs: Path, tiny: Path) -> None:
    measured = frequency_errors(tiny, Workspace(runs), only="*_seed-1")
    assert [entry.run.record["matrix"]["net"] for entry in measured] == ["mlp", "conv"]
    conv = measured[1]
    row = [row for row in conv.run.metrics() if row.get("split") == "validation"][-1]
    assert conv.l1 == pytest.approx(row["l1"], rel=1e-4)
    assert conv.by_frequency.error.sum().item() == pytest.approx(conv.l2, rel=1e-5)
    assert 0 < conv.ssim < 1
    few = frequency_errors("tiny/net-conv_seed-1", Workspace(runs), limit=10)
    assert few[0].l1 != conv.l1


def test_the_picture_has_a_line_a_run(runs: Path, tmp_path: Path) -> None:
    picture = frequency_figure(frequency_errors(workspace=Workspace(runs)))
    left, right = picture.axes
    assert [line.get_label() for line in left.lines[:2]] == ["conv", "mlp"]
    assert len(right.lines) == 4  # two runs, and two lines for the eye
    path = plots.save_figure(picture, tmp_path / "f.png")
    assert path.stat().st_size > 10_000
    with pytest.raises(UserError, match="nothing to draw"):
        frequency.spectra_figure([])


def test_a_run_without_held_out_images_says_so(tiny_text: str, tmp_path: Path) -> None:
    path = tmp_path / "bare.yml"
    path.write_text(tiny_text.replace("validation_set:", "train_set1:"))
    for _ in lab.run(path, runs=tmp_path / "runs", only="net-mlp_seed-1", device="cpu"):
        pass
    with pytest.raises(DataError, match="has no validation set"):
        frequency_errors(workspace=Workspace(tmp_path / "runs"))


def test_the_script_prints_every_run(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "f.png"
    monkeypatch.setattr(sys, "argv", ["frequency.py", str(runs), "--out", str(out)])
    runpy.run_path(str(ROOT / "benchmarks/frequency.py"), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| run | L1 | L2 | SSIM | 0-0.1 | 0.1-0.2 |")
    assert sum("tiny/net" in line for line in lines) == 2 and out.exists()
