from __future__ import annotations

import json
from pathlib import Path

import pytest

from aelab import lab
from aelab.errors import UserError

FILE = """
experiment_name: look/${matrix_slug}
matrix: {seed: [1]}
train_set: "%s"
validation_set: "%s"
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=4), DecoderMLP((1, 8, 8), code_size=4))
loss_function: %s
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_inputs: 64
"""
NOISE = "noise_dataset((1, 8, 8), size=48, seed=1)"
OTHER = "noise_dataset((1, 8, 8), size=20, seed=2)"


def written(folder: Path, train: str = NOISE, validation: str = OTHER, loss: str = "l1") -> Path:
    path = folder / "look.yml"
    path.write_text(FILE % (train, validation, loss), encoding="utf-8")
    return path


def refused(path: Path) -> str:
    """What `check` says; `run` must refuse it too and train nothing."""
    problems = "\n".join(lab.check(path).problems)
    with pytest.raises(UserError) as raised:
        list(lab.run(path, runs=path.parent / "runs"))
    assert str(raised.value) in problems or problems in str(raised.value)
    assert not list((path.parent / "runs").rglob("metrics.jsonl"))
    return problems


@pytest.mark.parametrize("loss", ["bce", "bce_logits", "nn.BCEWithLogitsLoss()"])
@pytest.mark.parametrize(
    "change",
    ["TensorDataset(torch.rand(40, 1, 8, 8) * 2 - 1)",
     f"{NOISE}.transform([VT.Normalize([0.5], [0.5])])",
     f"{NOISE}.transform([lambda x: x * 2 - 1])",
     "noise_dataset((1, 8, 8), size=48, clamp01=False)"],
)  # fmt: skip
def test_binary_cross_entropy_of_other_targets_is_refused(
    tmp_path: Path, loss: str, change: str
) -> None:
    told = refused(written(tmp_path, change, change, loss))
    assert "compares with images in 0..1, these have values from -" in told
    assert "look.yml:4:" in told and "look.yml:5:" in told


def test_floats_up_to_255_and_nan_are_refused_by_name(tmp_path: Path) -> None:
    told = refused(written(tmp_path, "TensorDataset(torch.rand(40, 1, 8, 8) * 255)"))
    assert "train_set: values from" in told and "/ 255" in told
    told = refused(written(tmp_path, NOISE, "TensorDataset(torch.full((5, 1, 8, 8), math.nan))"))
    assert "validation_set: image 0 has a pixel that is NaN, and 4 more of 5" in told


def test_a_validation_set_of_another_shape_is_refused_by_check_too(tmp_path: Path) -> None:
    told = refused(written(tmp_path, NOISE, "noise_dataset((1, 10, 8), size=20)"))
    assert "1x10x8 here, 1x8x8 in train_set" in told


def test_what_is_odd_is_a_note_of_check_run_and_record(tmp_path: Path) -> None:
    path = written(tmp_path, NOISE, NOISE)
    (note,) = lab.check(path).notes
    assert note.startswith("validation_set: the same images as train_set")
    started = [e for e in lab.run(path, runs=tmp_path / "runs") if hasattr(e, "notes")]
    assert note in [text for event in started for text in event.notes]
    record = json.loads(next((tmp_path / "runs").rglob("run.json")).read_text())
    assert note in record["notes"]
    assert [found["code"] for found in record["findings"]] == ["data-overlap"]


def test_a_good_file_has_no_note(tmp_path: Path) -> None:
    plan = lab.check(written(tmp_path))
    assert plan.notes == [] and plan.problems == []
