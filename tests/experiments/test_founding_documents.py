"""The YAML texts of the founding documents run unchanged, without --trust."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from aelab import config, lab
from aelab.execute import events as ev
from aelab.execute.stop import StopRequest

TEXTS = Path(__file__).parents[1] / "config" / "founding"
SHIPPED = Path(__file__).parents[2] / "experiments" / "founding"
NAMES = sorted(path.name for path in TEXTS.glob("*.yml"))
SHORT = {"max_inputs": 32, "batch_size": 16, "validation_limit": 16}

#: Parameters of the first run's encoder and decoder; see docs/models.md.
PARAMETERS = {
    "comparing-datasets.yml": (2_026_200, 2_008_505),
    "histogram-loss.yml": (2_517_232, 2_536_259),
    "resnet-manifold.yml": (11_689_512 + 512 * 102 + 102, None),
}


def test_the_shipped_files_are_the_documents_own() -> None:
    assert len(NAMES) == 4
    for name in NAMES:
        assert (SHIPPED / name).read_bytes() == (TEXTS / name).read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_a_document_is_checked_and_its_first_run_trains(name: str, tmp_path: Path) -> None:
    path = SHIPPED / name
    first = config.load(path).runs()[0].name
    (plan,) = lab.check(path, only=first).runs
    assert plan.problems == []
    wanted = PARAMETERS.get(name, (None, None))
    for part, count in zip(("encoder", "decoder"), wanted, strict=True):
        assert count is None or plan.parameters[part] == count
    events = list(lab.run(path, only=first, changes=SHORT, device="cpu", runs=tmp_path / "runs"))
    assert not [event.message for event in events if isinstance(event, ev.RunErred)]
    (finished,) = [event for event in events if isinstance(event, ev.RunFinished)]
    assert finished.images == 32 and finished.loss is not None
    assert lab.open_model(str(finished.path)) is not None


@pytest.mark.parametrize(
    ("only", "runs", "refused"),
    [("*l:2_head:4_hid:64", 5, 1), pytest.param(None, 150, 30, marks=pytest.mark.slow)],
)
def test_check_names_the_impossible_transformers(only: str | None, runs: int, refused: int) -> None:
    plan = lab.check(SHIPPED / "transformer-on-mnist.yml", only=only)
    impossible = [run for run in plan.runs if run.problems]
    assert (len(plan.runs), len(impossible)) == (runs, refused)
    assert {(run.matrix["patch"], run.matrix["stride"]) for run in impossible} == {(8, 8)}


def test_the_resnet_run_goes_on_and_opens_without_its_file_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, random_resnet18: Path
) -> None:
    path, runs = SHIPPED / "resnet-manifold.yml", tmp_path / "runs"
    changes = {**SHORT, "num_train_loss_steps": 16}
    folder, stop = config.load(path).runs()[0].folder, StopRequest()
    for event in lab.run(path, changes=changes, device="cpu", runs=runs, stop=stop):
        if isinstance(event, ev.RunProgress):
            stop.ask()
    monkeypatch.delenv("AELAB_WEIGHTS")
    model = lab.open_model(f"{folder}@latest", runs=runs)
    assert model(torch.rand(1, 3, 32, 32)).reconstruction.shape == (1, 3, 32, 32)
    events = list(lab.run(path, changes=changes, device="cpu", runs=runs))
    (started,) = [event for event in events if isinstance(event, ev.RunStarted)]
    sha256 = hashlib.sha256(random_resnet18.read_bytes()).hexdigest()[:12]
    (own,) = [found for found in started.findings if found.code == "model-note"]
    assert own.line() == (
        f"ResNet-18 weights of resnet18-f37072fd.pth, sha256 {sha256}: "
        "not the published IMAGENET1K_V1; input not normalised as they expect"
    )
    (finished,) = [event for event in events if isinstance(event, ev.RunFinished)]
    assert (started.images, finished.images) == (16, 32)


def test_without_weights_a_new_run_says_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AELAB_WEIGHTS")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("aelab.pretrained.weights._download", _no_network)
    path = SHIPPED / "resnet-manifold.yml"
    plan = lab.check(path)
    assert plan.problems == []
    assert any("a run downloads them (47 MB)" in note for note in plan.notes)
    events = list(lab.run(path, changes=SHORT, device="cpu", runs=tmp_path / "runs"))
    (failed,) = [event for event in events if isinstance(event, ev.RunErred)]
    assert "resnet18-f37072fd.pth" in failed.message and "no network" in failed.message
    assert f"put it at {tmp_path}/cache/weights/resnet18-f37072fd.pth" in failed.message
    assert "AELAB_WEIGHTS" in failed.message


def _no_network(*args: object) -> None:
    raise OSError("no network")
