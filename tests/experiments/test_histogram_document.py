"""The histogram experiment of document 000, as it stands: loss and penalty of its trainer."""

from __future__ import annotations

from pathlib import Path

import pytest

from aelab import lab

FILE = Path(__file__).parents[2] / "experiments/founding/histogram-loss.yml"


def test_the_documents_trainer_adds_its_penalty_to_the_histogram_loss(tmp_path: Path) -> None:
    changes = {"max_inputs": 128, "validation_limit": 64, "num_train_loss_steps": 64}
    only = "*bins-50_sigma-200*"
    for _ in lab.run(FILE, only=only, changes=changes, device="cpu", runs=tmp_path / "runs"):
        pass
    (run,) = lab.find_runs(runs=tmp_path / "runs")
    assert run.record["objective"] == (
        "reconstruction (HistogramLoss(bins=50, min=0.0, max=1.0, sigma=200, normalize=False, "
        "loss='l1')) + 0.0001 feature_statistics"
    )
    for row in run.metrics():
        if row.get("split") in ("train", "validation"):
            total = row["reconstruction"] + 1e-4 * row["feature_statistics"]
            assert row["loss"] == pytest.approx(total, rel=1e-5)
