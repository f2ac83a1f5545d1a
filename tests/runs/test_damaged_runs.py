"""A store after damage: one broken run is named by every verb and stops none about the others."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aelab import lab
from aelab.cli.main import main
from aelab.execute import events as ev
from aelab.runs import disk
from aelab.runs import record as record_files
from aelab.runs.record import Run
from aelab.runs.store import Store

TEXT = """
matrix:
  s: [1, 2, 3]
experiment_name: k/${matrix_slug}
train_set: noise_dataset((1, 8, 8), size=40, seed=1)
validation_set: noise_dataset((1, 8, 8), size=20, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=2), DecoderMLP((1, 8, 8), code_size=2))
batch_size: 8
learnrate: 0.00${s}
optimizer: Adam
max_inputs: 48
num_inputs_between_validations: 16
num_inputs_between_checkpoints: 16
keep_checkpoints: all
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `k.yml` and its three trained runs, which nobody changes."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "k.yml").write_text(TEXT, encoding="utf-8")
    list(lab.run(folder / "k.yml", runs=folder / "runs", device="cpu"))
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, in which we stand; its second run is the one that suffers."""
    shutil.copytree(trained, tmp_path / "w")
    monkeypatch.chdir(tmp_path / "w")
    monkeypatch.setenv("COLUMNS", "300")
    return tmp_path / "w/runs/k/s-2"


@pytest.fixture
def aelab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """`aelab("table")` -> exit code, and all that was said."""

    def call(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["aelab", *words])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return code, captured.out + captured.err

    return call


Call = Callable[..., tuple[int, str]]


def _emptied(path: Path) -> None:
    path.write_bytes(b"")


def _halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _folder(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.mkdir()
    (path / "x").write_text("x")


def _deleted(path: Path) -> None:
    path.unlink()


def _null(path: Path) -> None:
    path.write_text("null\n")


def _list(path: Path) -> None:
    path.write_text("[1, 2]\n")


def _fifo(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _endless(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to("/dev/zero")


def _circle(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path.name)


def _sparse(path: Path) -> None:
    with path.open("ab") as file:
        file.truncate(1 << 36)


def _wrong_kinds(path: Path) -> None:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = {"a": 1}
    odd = [None, "x", float("inf"), -3, {}, 10**18]
    text = json.dumps({key: odd[n % len(odd)] for n, key in enumerate(content)})
    path.write_text(text + "\n")


DAMAGES = [
    _emptied, _halved, _folder, _deleted, _null, _list, _fifo, _endless, _circle, _sparse,
    _wrong_kinds,
]  # fmt: skip
FILES = [
    "run.json", "status.json", "metrics.jsonl", "resolved.yml", "environment.json",
    "evaluation.json", "images/heldout-originals.png", "lock",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_reading_verbs_work_whatever_is_damaged(
    name: str, damage: Callable[[Path], None], here: Path, aelab: Call
) -> None:
    (here / name).touch()
    damage(here / name)
    code, told = aelab("ls")
    assert code == 0 and all(f"k/s-{number}" in told for number in (1, 2, 3))
    code, told = aelab("table", "k.yml", "--json")
    assert code == 0 and sum(f'"k/s-{n}"' in told for n in (1, 2, 3)) == 3
    assert name != "run.json" or "unreadable" in told
    if name in ("run.json", "metrics.jsonl"):
        code, told = aelab("plot")
        assert code == 0 and "plot.png" in told
        assert damage is _halved or ("k/s-2" in told and name in told)


@pytest.mark.parametrize("damage", [_emptied, _folder, _deleted, _fifo, _endless, _wrong_kinds])
def test_a_run_that_cannot_be_read_is_named_by_every_verb_and_the_others_are_trained(
    damage: Callable[[Path], None], here: Path, aelab: Call
) -> None:
    damage(here / "run.json")
    shutil.rmtree(here.parent / "s-3")
    for verb in (["report"], ["bridge", "tensorboard"]):
        code, told = aelab(*verb)
        told += Path("report.html").read_text(encoding="utf-8")
        assert code == 0 and "run.json" in told, verb
    code, told = aelab("evaluate", "--metrics", "reproduction")
    assert code == 1 and "k/s-2: " in told and "k/s-1: 4 values" in told
    code, told = aelab("figure", "reproductions", "k/*")
    assert code == 0 and "k/s-2: left out: " in told
    code, told = aelab("run", "k.yml", "--device", "cpu")
    assert code == 1 and "FAILED k/s:2" in told and "1 finished, 1 skipped, 1 failed" in told
    code, told = aelab("rm", "k/s-2", "--yes")
    assert code == 0 and not here.exists()
    assert aelab("run", "k.yml", "--device", "cpu")[0] == 0


def test_restart_replaces_a_run_that_cannot_be_read(here: Path, aelab: Call) -> None:
    (here / "run.json").unlink()
    assert aelab("run", "k.yml", "--device", "cpu", "--restart", "--only", "s:2")[0] == 0
    assert Store(Path("runs")).open("k/s-2").state == "finished"


@pytest.mark.parametrize("damage", [_emptied, _deleted, _list, _halved, _fifo, _wrong_kinds])
def test_a_status_is_made_again_from_the_metrics(
    damage: Callable[[Path], None], here: Path, aelab: Call
) -> None:
    before = Run.at(here, "k/s-2").status
    damage(here / "status.json")
    found = Run.at(here, "k/s-2")
    assert found.status["last"] == before["last"] and found.status["best"] == before["best"]
    code, told = aelab("run", "k.yml", "--device", "cpu")
    assert code == 0 and f"{before['last']['loss']:.6g}" in told
    again = Run.at(here, "k/s-2").status
    assert again["state"] == "finished" and "note" not in again
    assert again["last"] == before["last"] and again["best"] == before["best"]


def test_one_changed_digit_of_a_status_is_noticed(here: Path) -> None:
    before = Run.at(here, "k/s-2").status
    text = (here / "status.json").read_text()
    digits = f"{before['last']['loss']}"
    (here / "status.json").write_text(text.replace(digits, "9" + digits[1:]))
    found = Run.at(here, "k/s-2").status
    assert found["last"] == before["last"] and "damaged" in found["note"]


def test_a_damaged_row_is_left_out_and_named(here: Path, aelab: Call) -> None:
    lines = (here / "metrics.jsonl").read_text().splitlines()
    lines[1:1] = ['{"split": "train", "loss": [1]}', '{"split": "train", "images": -3, "loss": 1}']
    (here / "metrics.jsonl").write_text("\n".join([*lines, '{"loss": 1}', ""]))
    for verb in (["plot"], ["bridge", "tensorboard"], ["table", "-i", "train_loss"]):
        code, told = aelab(*verb)
        assert code == 0 and "metrics.jsonl:2: this line is not valid JSON" in told, verb
    assert len(Run.at(here).metrics()) == len(lines) - 2


@pytest.mark.parametrize(
    "name", ["calls.json", "log.txt", "status.json", "checkpoints/latest.json", "checkpoints"]
)
def test_a_folder_in_place_of_a_file_costs_one_run_only(name: str, here: Path, aelab: Call) -> None:
    status = json.loads((here / "status.json").read_text())
    (here / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
    if (here / name).is_dir():
        shutil.rmtree(here / name)
        (here / name).write_text("x")
    else:
        _folder(here / name)
    shutil.rmtree(here.parent / "s-3")
    code, told = aelab("run", "k.yml", "--device", "cpu")
    assert "finished k/s:3" in told
    assert (code, "FAILED k/s:2" in told) in ((1, True), (0, False))
    assert aelab("rm", "k/s-2", "--yes")[0] == 0 and not here.exists()


def _refuse(monkeypatch: pytest.MonkeyPatch, folder: Path, *, writing: bool) -> None:
    """The system refuses to read, or to write, below `folder`, as it does for another user's."""
    home = str(folder.resolve())
    opened, scanned = os.open, os.scandir

    def is_below(path: Any) -> bool:
        return isinstance(path, str | Path) and os.path.abspath(path).startswith(home)

    def open_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if is_below(path) and (not writing or flags & (os.O_WRONLY | os.O_RDWR)):
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, flags, *rest, **more)

    def scandir(path: Any = ".") -> Any:
        if is_below(path) and not writing:
            raise PermissionError(13, "Permission denied", str(path))
        return scanned(path)

    monkeypatch.setattr(os, "open", open_)
    monkeypatch.setattr(disk, "open", open_)
    monkeypatch.setattr(os, "scandir", scandir)


def test_a_run_that_may_not_be_written_fails_and_the_code_says_so(
    here: Path, aelab: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "status.json").write_text('{"state": "interrupted"}')
    shutil.rmtree(here.parent / "s-3")
    _refuse(monkeypatch, here, writing=True)
    code, told = aelab("run", "k.yml", "--device", "cpu")
    assert code == 1 and "FAILED k/s:2" in told and "permission denied" in told
    assert "finished k/s:3" in told


def test_a_folder_that_may_not_be_read_is_listed_and_stops_nothing(
    here: Path, aelab: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("lost+found", "colleague"):
        (here.parents[1] / name / "inner").mkdir(parents=True)
    _refuse(monkeypatch, here.parents[1] / "colleague", writing=False)
    for verb in (["table"], ["ls"], ["report"]):
        code, told = aelab(*verb)
        told += Path("report.html").read_text() if verb == ["report"] else ""
        assert code == 0 and "colleague" in told and "s" in told, verb
        assert "lost+found" not in told
    monkeypatch.undo()
    monkeypatch.chdir(here.parents[2])
    _refuse(monkeypatch, here.parent, writing=False)
    code, told = aelab("table", "k.yml")
    assert code == 0 and "permission denied" in told, told
    code, told = aelab("rm", "k.yml", "--yes")
    assert code == 2 and "nothing was removed" in told and here.exists()


def test_folders_nested_deeper_than_a_path_can_say_are_no_trouble(here: Path, aelab: Call) -> None:
    def nested(top: Path) -> None:
        descriptor = os.open(top, os.O_RDONLY)
        for _ in range(1100):  # deeper than Python calls, and longer than the 4,096 of a path
            os.mkdir("deep", dir_fd=descriptor)
            inner = os.open("deep", os.O_RDONLY, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        os.close(descriptor)

    nested(here)
    (here.parents[1] / "deep").mkdir()
    nested(here.parents[1] / "deep")
    assert aelab("ls")[0] == 0
    assert aelab("run", "k.yml", "--device", "cpu")[0] == 0
    assert aelab("rm", "k/s-2", "--yes")[0] == 0
    assert [path.name for path in here.parents[1].iterdir() if "removed" in path.name] == []
    from aelab.runs.files import remove_tree

    remove_tree(here.parents[1] / "deep")


def test_a_runs_folder_that_is_not_there_is_said(here: Path, aelab: Call) -> None:
    for verb in (["ls"], ["table"], ["report"], ["evaluate"]):
        code, told = aelab(*verb, "--runs", "nowhere")
        assert code == 2 and "there is no folder nowhere" in told, verb


class Death(BaseException):
    """The process dies here."""


def _writes(monkeypatch: pytest.MonkeyPatch, dies_at: int) -> list[str]:
    """Counts the renames of checkpoints and dies at one of them."""
    done: list[str] = []
    replace = os.replace

    def dying(source: Any, target: Any) -> None:
        if "checkpoints" in str(target):
            done.append(str(target))
            if len(done) == dies_at:
                raise Death
        replace(source, target)

    monkeypatch.setattr(disk, "replace", dying)
    return done


def _states(run: Path) -> dict[str, tuple[int, bytes]]:
    found = {}
    for state in Run.at(run).checkpoints():
        content, _ = state.read()
        found[state.name] = int(state.about()["images"]), content
    return found


@pytest.mark.parametrize("step", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_a_death_between_any_two_writes_of_a_checkpoint_leaves_the_states_of_a_calm_run(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    calm = _states(trained / "runs/k/s-2")
    assert {"best", "latest", "images-000000016", "images-000000048"} <= set(calm)
    file = trained / "k.yml"
    number = 1 - step
    while True:
        number += step
        runs = tmp_path / f"runs-{number}"
        with monkeypatch.context() as patch:
            done = _writes(patch, number)
            try:
                list(lab.run(file, only="s:2", runs=runs, device="cpu"))
            except Death:
                pass
        if len(done) < number:
            break
        events = list(lab.run(file, only="s:2", runs=runs, device="cpu"))
        assert any(isinstance(event, ev.RunFinished) for event in events)
        assert _states(runs / "k/s-2") == calm, f"died at write {number} ({done[-1]})"
    assert number > 20


def test_best_is_repaired_where_a_death_left_the_old_one(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, calls = record_files.copy_checkpoint, []

    def dying(checkpoint: Any, name: str) -> Any:
        calls.append(name)
        if calls.count("best") == 3:
            raise Death
        return copy(checkpoint, name)

    with monkeypatch.context() as patch:
        patch.setattr(record_files, "copy_checkpoint", dying)
        with pytest.raises(Death):
            list(lab.run(trained / "k.yml", only="s:2", runs=tmp_path / "runs", device="cpu"))
    run = Run.at(tmp_path / "runs/k/s-2")
    assert {state.name: state.images for state in run.checkpoints()}["best"] == 32
    list(lab.run(trained / "k.yml", only="s:2", runs=tmp_path / "runs", device="cpu"))
    assert _states(tmp_path / "runs/k/s-2") == _states(trained / "runs/k/s-2")
