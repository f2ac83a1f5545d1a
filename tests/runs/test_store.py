from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aelab.errors import StoreError
from aelab.runs import disk
from aelab.runs import store as stores
from aelab.runs.record import Run, holds_a_run
from aelab.runs.store import Store, natural

RECORD = {"folder": "vae/x_ds-mnist", "name": "vae/x_ds:mnist", "identity": "1", "seed": 0}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def record(folder: str = "vae/x_ds-mnist", identity: str = "1", **more: Any) -> dict[str, Any]:
    return {**RECORD, "folder": folder, "identity": identity, "matrix": {}, **more}


def test_a_new_run_holds_its_files_and_the_store_is_ignored_by_git(store: Store) -> None:
    files = {"experiment.yml": "a: ü\n", "resolved.yml": b"a: 1\n", "calls.json": [{"name": "x"}]}
    run = store.create(record(matrix={"ds": "mnist", "k": (3, 5)}), files)
    assert run.is_new and run.state == "waiting"
    assert run.read_text("experiment.yml") == "a: ü\n"
    assert json.loads(run.read_text("calls.json")) == [{"name": "x"}]
    assert (store.root / ".gitignore").read_text() == "*\n"
    again = Store(store.root).open("vae/x_ds-mnist")
    assert again.record["matrix"] == {"ds": "mnist", "k": [3, 5]}
    assert again.record["format"] == 1


def test_the_same_run_is_opened_again_and_a_different_one_is_refused(store: Store) -> None:
    files = {"resolved.yml": "batch_size: 64\nlearnrate: 0.1\n"}
    store.create(record(), files).set_status("finished", images=7)
    again = store.create(record(), files)
    assert not again.is_new and again.status["images"] == 7
    changed = {"resolved.yml": "batch_size: 32\nlearnrate: 0.1\n"}
    with pytest.raises(StoreError) as caught:
        store.create(record(identity="2"), changed)
    assert "holds a different run: line 1 was `batch_size: 64` and is now `batch_size: 32`" in str(
        caught.value
    )
    assert "--restart" in str(caught.value)
    with pytest.raises(StoreError, match="seed was 0 and is now 5"):
        store.create(record(identity="3", seed=5))


def test_restart_replaces_a_run_whatever_it_was(store: Store) -> None:
    store.create(record()).append({"split": "train", "images": 1, "loss": 1.0})
    run = store.create(record(identity="2"), restart=True)
    assert run.is_new and run.metrics() == []
    assert store.open("vae/x_ds-mnist").record["identity"] == "2"
    assert [entry.name for entry in store.root.iterdir()] != []
    assert not [entry for entry in store.root.iterdir() if entry.name.startswith(".removed")]


@pytest.mark.parametrize(
    "folder",
    [
        "../x",
        "a/../../x",
        "/tmp/x",
        "",
        ".",
        "a/./../..",
        ".hidden",
        "a/.git/x",
        "a\\..\\b",
        "a\0b",
    ],
)
def test_a_name_cannot_climb_out_of_the_store(store: Store, folder: str) -> None:
    before = sorted(store.root.parent.rglob("*"))
    with pytest.raises(StoreError, match="cannot name a folder"):
        store.create(record(folder))
    assert sorted(store.root.parent.rglob("*")) == before


def test_a_link_in_the_store_does_not_lead_out_of_it(store: Store, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    store.root.mkdir()
    (store.root / "vae").symlink_to(outside)
    with pytest.raises(StoreError, match="goes through a symbolic link"):
        store.create(record())
    assert list(outside.iterdir()) == []


def test_the_store_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "runs").symlink_to(tmp_path / "disk")
    store = Store(tmp_path / "runs")
    store.create(record())
    assert [run.folder for run in store.list()] == ["vae/x_ds-mnist"]


def test_files_of_a_run_stay_inside_it(store: Store, tmp_path: Path) -> None:
    run = store.create(record())
    for name in ("../other/x.png", "/tmp/x.png", "images/../../x"):
        with pytest.raises(StoreError, match="is not inside the run"):
            run.write_bytes(name, b"")
    (run.path / "images").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="is not inside the run"):
        run.write_bytes("images/x.png", b"")


def test_runs_do_not_nest(store: Store) -> None:
    store.create(record("vae"))
    with pytest.raises(StoreError, match="would be inside the run vae"):
        store.create(record("vae/checkpoints"))
    store.create(record("deep/er"))
    with pytest.raises(StoreError, match="is not a run: it holds er"):
        store.create(record("deep"))


def test_a_folder_of_other_things_is_left_alone(store: Store) -> None:
    (store.root / "photos").mkdir(parents=True)
    (store.root / "photos" / "me.jpg").write_bytes(b"x")
    with pytest.raises(StoreError, match=r"it holds me\.jpg"):
        store.create(record("photos"))
    assert [entry.name for entry in (store.root / "photos").iterdir()] == ["me.jpg"]


def test_a_half_made_run_is_not_listed_and_is_completed_next_time(store: Store) -> None:
    path = store.root / "vae" / "x_ds-mnist"
    path.mkdir(parents=True)
    (path / "experiment.yml").write_text("half")
    (path / ".resolved.yml.1-ab.tmp").write_text("half")
    assert store.list() == []
    run = store.create(record(), {"experiment.yml": "whole"})
    assert run.is_new and run.read_text("experiment.yml") == "whole"
    assert not list(path.glob(".*.tmp"))


def test_a_newer_format_is_refused_with_the_way_out(store: Store) -> None:
    run = store.create(record())
    run.write_json("run.json", {**run.record, "format": 2})
    with pytest.raises(StoreError, match=r"newer aelab \(run format 2\)[^\n]*\n  pip install"):
        store.open("vae/x_ds-mnist")
    assert store.list() == [] and len(store.scan().problems) == 1


def test_damaged_or_foreign_run_files_are_named(store: Store) -> None:
    run = store.create(record())
    for content, words in (
        ("{", "not valid JSON"),
        ("[]", "found list"),
        ("{}", "`format` is None"),
    ):
        (run.path / "run.json").write_text(content)
        with pytest.raises(StoreError, match=words):
            Run.at(run.path)
    with pytest.raises(StoreError, match=r"has no run\.json"):
        Run.at(run.path.parent)


def test_listing_is_in_natural_order_and_skips_hidden_folders(store: Store) -> None:
    for name in ("x10", "x2", "a/b/c"):
        store.create(record(name))
    (store.root / ".removed-1").mkdir()
    (store.root / ".removed-1" / "run.json").write_text("{}")
    assert [run.folder for run in store.list()] == ["a/b/c", "x2", "x10"]
    assert natural("x²") and Store(store.root / "nowhere").list() == []


def test_a_run_is_found_by_name_path_end_pattern_and_folder(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("vae/x_ds-mnist_lr-0.1", "vae/x_ds-rpg_lr-0.1", "ae/x_ds-rpg_lr-0.2"):
        store.create(record(name))
    for text in (
        "vae/x_ds-rpg_lr-0.1",
        "x_ds-rpg_lr-0.1",
        "rpg_lr-0.1",
        "vae/*rpg*",
        str(store.root / "vae" / "x_ds-rpg_lr-0.1"),
        str(store.root / "vae" / "x_ds-rpg_lr-0.1") + "/",
    ):
        assert store.open(text).folder == "vae/x_ds-rpg_lr-0.1", text
    monkeypatch.chdir(store.root.parent)
    assert store.open("runs/ae").folder == "ae/x_ds-rpg_lr-0.2"
    assert len(store.select(["vae", "*rpg*"])) == 3
    assert len(store.select([])) == 3
    assert len(store.select(["runs"])) == 3
    with pytest.raises(StoreError, match=r"could be 2 runs: vae/x_ds-mnist_lr-0\.1, vae/x_ds-rpg"):
        store.open("vae")
    with pytest.raises(StoreError, match=r"did you mean 'vae/x_ds-mnist_lr-0\.1'"):
        store.open("x_ds-mnits_lr-0.1")
    with pytest.raises(StoreError, match="no run 'zzz'"):
        store.select(["zzz"])


def test_a_run_with_exactly_a_name_is_had_without_a_look_at_the_others(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.create(record("vae/x_lr-0.1"))
    Store(tmp_path).create(record("x_lr-0.1"))
    looks: list[Path] = []
    monkeypatch.setattr(stores, "_look", lambda folder, prefix: looks.append(folder))
    monkeypatch.chdir(tmp_path)
    found = store.stored("vae/x_lr-0.1")
    assert found is not None and found.path == run.path and found.folder == "vae/x_lr-0.1"
    assert store.stored("x_lr-0.1") is store.stored("vae") is store.stored("vae/other") is None
    assert not looks
    (run.path / "run.json").write_text("{")
    with pytest.raises(StoreError):
        store.stored("vae/x_lr-0.1")


def test_a_store_without_runs_says_how_to_make_some(store: Store) -> None:
    with pytest.raises(StoreError, match="holds no runs\n  train some with: aelab run FILE"):
        store.open("x")


def test_a_run_can_be_removed_with_its_empty_parents(store: Store) -> None:
    run = store.create(record("a/b/c"))
    store.create(record("a/d"))
    store.remove(run)
    assert [run.folder for run in store.list()] == ["a/d"]
    assert not (store.root / "a" / "b").exists()


def test_only_the_stored_states_of_a_run_can_be_removed(store: Store) -> None:
    run = store.create(record())
    run.append({"split": "train", "images": 1, "loss": 1.0})
    run.save_checkpoint(1, b"x" * 1000, {}, best=True, keep="all")
    store.remove(run, checkpoints_only=True)
    assert run.checkpoints() == [] and len(run.metrics()) == 1
    assert list((run.path / "checkpoints").iterdir()) == []


def test_a_run_is_trained_by_one_process_at_a_time(store: Store) -> None:
    run = store.create(record())
    script = (
        "import sys; from aelab.runs.record import Run; from pathlib import Path\n"
        "with Run.at(Path(sys.argv[1])).lock(): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, str(run.path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        with pytest.raises(StoreError) as caught, run.lock():
            pass
        assert f"is being trained by process {process.pid} on host" in str(caught.value)
        with pytest.raises(StoreError, match="is being trained"):
            store.remove(run)
        process.kill()
    with run.lock():  # a killed owner leaves nothing behind
        pass


def test_many_threads_make_one_run(store: Store) -> None:
    found: list[Run] = []

    def make() -> None:
        found.append(store.create(record(), {"experiment.yml": "x"}))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and sum(run.is_new for run in found) == 1


def test_a_run_that_is_made_between_two_looks_is_opened(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = store.create(record())
    looks = iter([False])  # another process makes the run right after the first look
    monkeypatch.setattr(
        stores, "holds_a_run", lambda path: next(looks, None) is None and holds_a_run(path)
    )
    second = store.create(record())
    assert second.path == first.path and not second.is_new


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "read-only"), (errno.EACCES, "permission")],
)
def test_a_system_that_refuses_to_write_is_explained_and_nothing_is_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch, number: int, words: str
) -> None:
    run = store.create(record())
    run.append({"split": "train", "images": 1, "loss": 1.0})
    run.set_status("running", images=1)
    run.save_checkpoint(1, b"old", {"n": 1}, best=True)
    before = contents(run.path)

    def refuse(descriptor: int, data: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(disk, "write", refuse)
    for attempt in (
        lambda: run.append({"split": "train", "images": 2, "loss": 1.0}),
        lambda: run.set_status("finished", images=2),
        lambda: run.save_checkpoint(2, b"new", {"n": 2}, best=True),
        lambda: run.write_bytes("run.json", b"new"),
        lambda: run.log("hello"),
    ):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert words in str(caught.value) and str(run.path) in str(caught.value)
    monkeypatch.undo()
    (run.path / "log.txt").unlink()
    assert contents(run.path) == before


def test_a_disk_that_fills_up_in_the_middle_of_a_row_keeps_the_rows_before(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = store.create(record())
    run.append({"split": "train", "images": 1, "loss": 1.0})
    write = os.write
    calls = []

    def half(descriptor: int, data: Any) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, bytes(data)[: len(data) // 2])

    monkeypatch.setattr(disk, "write", half)
    with pytest.raises(StoreError, match="the disk is full"):
        run.append({"split": "train", "images": 2, "loss": 1.0})
    monkeypatch.undo()
    assert (run.path / "metrics.jsonl").read_bytes().endswith(b"\n")
    assert [row["images"] for row in run.metrics()] == [1]


def test_a_real_limit_on_file_size_is_survived(store: Store) -> None:
    run = store.create(record())
    run.save_checkpoint(1, b"old" * 10, {"n": 1})
    script = (
        "import resource, sys; from pathlib import Path; from aelab.runs.record import Run\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))\n"
        "run = Run.at(Path(sys.argv[1]))\n"
        "try:\n    run.save_checkpoint(2, b'x' * 100000, {'n': 2})\n"
        "except Exception as error: print(type(error).__name__, error)\n"
        "try:\n    [run.append({'split': 'train', 'images': i, 'loss': 0.5}) for i in range(999)]\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(run.path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("StoreError") == 2 and "ulimit -f" in done.stdout
    checkpoint = run.checkpoint()
    assert checkpoint is not None and checkpoint.read() == (b"old" * 10, {"n": 1})
    assert len(run.metrics()) > 50


def test_a_folder_where_a_file_stands_is_explained(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("not a folder")
    with pytest.raises(StoreError, match="a file is in the way of a folder"):
        Store(tmp_path / "runs").create(record())
    with pytest.raises(StoreError, match="the name is too long"):
        Store(tmp_path / "other").create(record("x" * 300))


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_what_a_killed_process_left_beside_the_runs_is_removed_at_once(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    store.make_root()
    gone = store.root / f"..gitignore.{2**31 - 1}-00ff00ff.tmp"  # no process has this number
    mine = store.root / f"..gitignore.{os.getpid()}-00ff00ff.tmp"
    for path in (gone, mine):
        path.write_text("*\n")
    store.make_root()
    assert not gone.exists() and mine.exists()
