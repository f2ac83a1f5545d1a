from __future__ import annotations

import json
from pathlib import Path

import pytest

from aelab import lab
from aelab.errors import UserError
from aelab.findings import stored_findings

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
    started = [e for e in lab.run(path, runs=tmp_path / "runs") if hasattr(e, "findings")]
    assert note in [found.line() for event in started for found in event.findings]
    record = json.loads(next((tmp_path / "runs").rglob("run.json")).read_text())
    assert [found.line() for found in stored_findings(record)] == [note]
    assert note in lab.table(runs=tmp_path / "runs", format="terminal").replace("\n", " ")
    (row,) = json.loads(lab.table(runs=tmp_path / "runs", format="json"))
    assert row["findings"] == record["findings"]
    assert [found["code"] for found in record["findings"]] == ["data-overlap"]


def test_a_good_file_has_no_note(tmp_path: Path) -> None:
    plan = lab.check(written(tmp_path))
    assert plan.notes == [] and plan.problems == []


RANGED = """
experiment_name: ranged/${matrix_slug}
matrix: {seed: [1]}
train_set: "SET.limit(200).transform([VT.Normalize([0.5], [0.5])])"
validation_set: "SET.skip(200).transform([VT.Normalize([0.5], [0.5])])"
model: |
  EncoderDecoder(
      EncoderMLP((1, 8, 8), code_size=4),
      DecoderMLP((1, 8, 8), code_size=4, activation_last_layer="tanh"),
  )
loss_function: l2
batch_size: 16
learnrate: 0.003
optimizer: Adam
max_inputs: 2000
""".replace("SET", "kali_dataset((1, 8, 8), size=260)")


def test_measures_and_pictures_of_images_in_minus_1_to_1_are_those_of_0_to_1(
    tmp_path: Path,
) -> None:
    import torch
    from PIL import Image

    from aelab.data import DATASETS

    path = tmp_path / "ranged.yml"
    path.write_text(RANGED, encoding="utf-8")
    runs = tmp_path / "runs"
    assert lab.check(path).notes == []
    events = list(lab.run(path, runs=runs))
    (found,) = lab.evaluate(runs=runs, metrics=["reproduction", "pca_skill"], device="cpu")
    pixels = DATASETS["kali_dataset"]((1, 8, 8), size=260).load().pixels[200:]
    model = lab.open_model("ranged/seed-1", runs=runs)
    with torch.no_grad():
        shown = (model(pixels.float() / 127.5 - 1).reconstruction + 1) / 2
        assert torch.allclose(model.encode(pixels), model.encode(pixels.float() / 127.5 - 1))
    l2 = (shown.clamp(0, 1) - pixels / 255).square().mean().item()
    assert found.values["l2"] == pytest.approx(l2, rel=1e-5)
    assert found.values["psnr_db"] == pytest.approx(-10 * torch.tensor(l2).log10().item(), rel=1e-5)
    validation = next(e.loss for e in reversed(events) if hasattr(e, "loss"))
    assert validation == pytest.approx(4 * l2, rel=1e-3)  # the loss is of -1..1
    assert found.values["skill_l2"] > -3  # principal components see the same range
    with Image.open(next(runs.rglob("heldout-originals.png"))) as picture:
        drawn = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(8, -1)
    tiles = {tuple(tile.flatten().tolist()) for tile in drawn.split(8, dim=1)}
    assert tiles <= {tuple(image.flatten().tolist()) for image in pixels}


def test_open_model_takes_bytes_and_refuses_floats_of_another_unit(tmp_path: Path) -> None:
    import torch

    path = written(tmp_path)
    list(lab.run(path, runs=tmp_path / "runs"))
    model = lab.open_model("look/seed-1", runs=tmp_path / "runs")
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(model.encode(pixels), model.encode(pixels.float() / 255))
        assert model(pixels).reconstruction.shape == (5, 1, 8, 8)
        for wrong in (pixels.float(), pixels.long()):
            with pytest.raises(UserError, match="divide by 255"):
                model.encode(wrong)
        with pytest.raises(UserError, match=r"images\[None\]"):
            model.encode(pixels[0])


def test_somebodys_own_function_of_binary_cross_entropy_is_noted(tmp_path: Path) -> None:
    own = "'lambda a, b: F.binary_cross_entropy_with_logits(a, b)'"
    change = f"{NOISE}.transform([lambda x: x * 2 - 1])"
    found = lab.check(written(tmp_path, change, change.replace("seed=1", "seed=2"), own))
    assert found.problems == []
    assert any("compares with images in 0..1" in note for note in found.notes)
    assert lab.check(written(tmp_path, loss=own)).notes == []
