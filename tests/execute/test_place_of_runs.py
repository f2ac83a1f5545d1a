"""A run remembers where its file stood; nobody else can make it remember another place."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aelab import lab
from aelab.assembly.place import FILE, place_of, reading_of
from aelab.errors import AelabError, ConfigError
from aelab.execute import events as ev
from aelab.runs.store import Store

TEXT = """
experiment_name: fold/a
train_set: image_folder_dataset("pictures", (1, 8, 8))
validation_set: image_folder_dataset("pictures", (1, 8, 8))
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=2), DecoderMLP((1, 8, 8), code_size=2))
batch_size: 4
learnrate: 0.001
optimizer: Adam
max_inputs: 8
num_inputs_between_validations: 8
"""
OWN = "model: |\n  from ownparts import make\n  make()\n"
MODULE = """
from aelab.models import DecoderMLP, EncoderDecoder, EncoderMLP

def make():
    return EncoderDecoder(EncoderMLP((1, 8, 8), code_size=2), DecoderMLP((1, 8, 8), code_size=2))
"""


def _pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    values = np.random.default_rng(0).integers(0, 256, (6, 8, 8), dtype=np.uint8)
    for number, pixels in enumerate(values):
        Image.fromarray(pixels).save(folder / f"{number}.png")


def _trained(project: Path, text: str = TEXT, *, trust: bool = False) -> Path:
    """Trains the file `project/experiments/fold.yml`; returns the runs folder beside it."""
    (project / "experiments").mkdir(parents=True, exist_ok=True)
    (project / "experiments/fold.yml").write_text(text, encoding="utf-8")
    events = list(
        lab.run(project / "experiments/fold.yml", runs=project / "runs", device="cpu", trust=trust)
    )
    assert any(isinstance(event, ev.RunFinished) for event in events), events
    return project / "runs"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose file names its pictures from its own folder, trained; we stand elsewhere."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    _pictures(tmp_path / "project/experiments/pictures")
    _trained(tmp_path / "project")
    return tmp_path / "project"


def _problem(runs: Path, **options: object) -> str:
    (found,) = lab.evaluate(runs=runs, metrics=["reproduction"], device="cpu", **options)  # type: ignore[arg-type]
    return found.problem


VERBS: dict[str, Callable[[Path], object]] = {
    "evaluate": lambda runs: [_ok(found.problem) for found in lab.evaluate(runs=runs)],
    "figure": lambda runs: lab.figure("reproductions", "fold/a", runs=runs),
    "figure together": lambda runs: lab.figure_together("reproductions", runs=runs),
    "figures": lambda runs: [_ok("there is no" in told) for told in lab.figures(runs=runs)],
    "open_model": lambda runs: lab.open_model("fold/a", runs=runs),
    "again": lambda runs: list(lab.run(runs.parent / "experiments/fold.yml", runs=runs)),
    "load": lambda runs: _loaded(runs),
}


def _ok(problem: object) -> None:
    assert not problem


def _loaded(runs: Path) -> None:
    text = TEXT.replace("fold/a", "fold/b") + "load: fold/a\n"
    (runs.parent / "experiments/more.yml").write_text(text, encoding="utf-8")
    events = list(lab.run(runs.parent / "experiments/more.yml", runs=runs))
    assert any(isinstance(event, ev.RunFinished) for event in events)


@pytest.mark.parametrize("verb", VERBS)
def test_relative_paths_are_found_by_every_verb_from_any_folder(verb: str, project: Path) -> None:
    VERBS[verb](project / "runs")


def test_a_project_that_was_moved_reads_its_own_pictures(project: Path) -> None:
    moved = project.rename(project.with_name("moved"))
    assert _problem(moved / "runs") == ""


def test_a_copied_project_reads_the_copy(project: Path) -> None:
    copy = Path(shutil.copytree(project, project.with_name("copy")))
    run = Store(copy / "runs").open("fold/a")
    assert place_of(run).folders[0] == copy / "experiments"


def test_folders_that_were_given_by_data_are_remembered(tmp_path: Path) -> None:
    project = tmp_path / "project"
    _pictures(project / "shared/pictures")
    (project / "experiments").mkdir()
    file = project / "experiments/fold.yml"
    file.write_text(TEXT.replace("pictures", "../shared/pictures"), encoding="utf-8")
    list(lab.run(file, runs=project / "runs", device="cpu", data=[project / "shared"]))
    assert _problem(project / "runs") == ""
    moved = project.rename(tmp_path / "moved")
    assert _problem(moved / "runs") == ""
    place = json.loads((moved / "runs/fold/a" / FILE).read_text())
    place["data"][0]["folder"] = str(tmp_path)
    (moved / "runs/fold/a" / FILE).write_text(json.dumps(place))
    assert "--data" in _problem(moved / "runs")


def test_runs_that_were_moved_alone_read_the_old_place(project: Path, tmp_path: Path) -> None:
    (tmp_path / "backup").mkdir()
    (project / "runs").rename(tmp_path / "backup/runs")
    assert _problem(tmp_path / "backup/runs") == ""


def test_pictures_that_are_gone_are_told_with_the_option_that_helps(project: Path) -> None:
    (project / "experiments/pictures").rename(project / "pictures")
    assert "type --data FOLDER" in _problem(project / "runs")
    assert _problem(project / "runs", data=[project]) == ""


def test_a_folder_of_files_that_is_gone_is_not_what_to_type(project: Path) -> None:
    (project / "experiments").rename(project / "renamed")
    problem = _problem(project / "runs")
    assert "which is not there: type --data FOLDER" in problem and "type: --data" not in problem
    assert _problem(project / "runs", data=[project / "renamed"]) == ""


def test_a_run_from_before_says_what_to_type(project: Path) -> None:
    (project / "runs/fold/a" / FILE).unlink()
    assert "type: --data FOLDER, the folder that the experiment file was in" in _problem(
        project / "runs"
    )
    assert _problem(project / "runs", data=[project / "experiments"]) == ""


def test_the_place_does_not_name_the_home_folder(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.rmtree(project / "runs")
    _trained(project)
    place = json.loads((project / "runs/fold/a" / FILE).read_text())
    assert place["folder"] == "~/project/experiments" and place["from_runs"] == "../experiments"
    assert _problem(project / "runs") == ""


def _forged(path: Path, folder: Path) -> None:
    place = json.loads((path / FILE).read_text())
    place |= {"folder": str(folder), "from_runs": None}
    (path / FILE).write_text(json.dumps(place))


def _other_place(path: Path) -> None:
    _forged(path, path.parents[3] / "private")


def _climbing(path: Path) -> None:
    place = json.loads((path / FILE).read_text())
    (path / FILE).write_text(json.dumps(place | {"from_runs": "../../private"}))


def _other_text(path: Path) -> None:
    text = (path / "resolved.yml").read_text()
    (path / "resolved.yml").write_text(text.replace("pictures", "../experiments/private"))


def _other_calls(path: Path) -> None:
    calls = json.loads((path / "calls.json").read_text())
    calls["calls"][0]["arguments"]["skip_corrupt"] = True
    (path / "calls.json").write_text(json.dumps(calls))


def _no_seal(path: Path) -> None:
    place = json.loads((path / FILE).read_text())
    del place["seal"]
    (path / FILE).write_text(json.dumps(place))


def _wrong_kinds(path: Path) -> None:
    (path / FILE).write_text(json.dumps({"folder": 3, "from_runs": [], "seal": {}}))


@pytest.mark.parametrize(
    "forge", [_other_place, _climbing, _other_text, _other_calls, _no_seal, _wrong_kinds]
)
def test_a_place_that_somebody_else_wrote_opens_nothing(
    forge: Callable[[Path], None], project: Path
) -> None:
    _pictures(project.parent / "private/pictures")
    forge(project / "runs/fold/a")
    run = Store(project / "runs").open("fold/a")
    assert place_of(run).folders == ()
    assert reading_of(run, place_of(run), ()).folders == (run.path.resolve(),)
    assert "--data" in _problem(project / "runs")


def test_a_run_of_another_user_says_where_its_file_stood_and_reads_nothing(
    project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AELAB_KEY", str(tmp_path / "another.key"))
    assert f"type: --data {project / 'experiments'}" in _problem(project / "runs")


def test_without_a_key_a_run_trains_and_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AELAB_KEY", str(tmp_path / "file/key"))
    _pictures(tmp_path / "p/experiments/pictures")
    run = Store(_trained(tmp_path / "p")).open("fold/a")
    assert "seal" not in json.loads((run.path / FILE).read_text())
    assert place_of(run).folders == ()


def test_modules_beside_the_file_are_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    _pictures(tmp_path / "p/experiments/pictures")
    (tmp_path / "p/experiments/ownparts.py").write_text(MODULE)
    text = "\n".join(line for line in TEXT.splitlines() if not line.startswith("model:"))
    runs = _trained(tmp_path / "p", f"{text}\n{OWN}", trust=True)
    monkeypatch.delitem(__import__("sys").modules, "ownparts")
    assert _problem(runs, trust=True) == ""
    with pytest.raises(AelabError, match="--trust"):
        lab.open_model("fold/a", runs=runs)
    (runs / "fold/a" / FILE).unlink()
    monkeypatch.delitem(__import__("sys").modules, "ownparts")
    with pytest.raises(ConfigError, match="--data FOLDER"):
        lab.open_model("fold/a", runs=runs, trust=True)
    lab.open_model("fold/a", runs=runs, trust=True, data=[tmp_path / "p/experiments"])
