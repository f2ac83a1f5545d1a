from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

from aelab.errors import StoreError, UserError
from aelab.runs import checkpoints, disk
from aelab.runs.checkpoints import Checkpoint, settle, superfluous
from aelab.runs.record import Run
from aelab.runs.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Store(tmp_path / "runs").create({"folder": "x", "identity": "1"})


def names(run: Run) -> list[str]:
    return [entry.name for entry in run.checkpoints()]


def test_a_state_comes_back_with_its_numbers(run: Run) -> None:
    assert run.checkpoints() == [] and run.checkpoint() is None
    numbers = {"epoch": 3, "best_loss": math.inf, "lists": [[1, 2.5]]}
    run.save_checkpoint(500, b"tensors", numbers)
    latest = run.checkpoint("latest")
    assert latest is not None and latest.images == 500
    assert latest.read() == (b"tensors", numbers)
    assert names(run) == ["latest"]


def test_best_stays_while_latest_goes_on(run: Run) -> None:
    run.save_checkpoint(1, b"one", {"n": 1}, best=True)
    run.save_checkpoint(2, b"two", {"n": 2})
    best, latest = run.checkpoint("best"), run.checkpoint("latest")
    assert best is not None and best.read() == (b"one", {"n": 1}) and best.images == 1
    assert latest is not None and latest.read() == (b"two", {"n": 2})


def test_continuing_from_a_state_truncates_the_metrics_to_it(run: Run) -> None:
    run.append({"split": "train", "images": 1, "loss": 0.5})
    state = run.save_checkpoint(1, b"", {})
    run.append({"split": "train", "images": 2, "loss": 0.4})
    run.rewind(state)
    assert [row["images"] for row in run.metrics()] == [1]


def test_a_crash_at_any_moment_of_saving_leaves_one_whole_pair(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop before each file operation in turn, then read, then tidy up and read again."""
    run.save_checkpoint(1, b"old", {"n": 1}, best=True)
    template = tmp_path / "template"
    shutil.copytree(run.path, template)
    outcomes = []
    for stop in itertools.count():
        shutil.rmtree(run.path)
        shutil.copytree(template, run.path)
        done = count_down(monkeypatch, stop, run)
        for settled in (False, True):
            if settled:
                settle(run.path / "checkpoints")
            for name in ("latest", "best"):
                state = run.checkpoint(name)
                assert state is not None
                assert state.read() in ((b"old", {"n": 1}), (b"new", {"n": 2})), (stop, name)
        outcomes.append(state.read()[0])
        assert not list((run.path / "checkpoints").glob("*.new"))
        if done:
            break
    assert stop > 10 and outcomes[0] == b"old" and outcomes[-1] == b"new"


class PowerCut(BaseException):
    pass


def count_down(monkeypatch: pytest.MonkeyPatch, steps: int, run: Run) -> bool:
    """Save a new best state; cut the power after `steps` file operations."""
    left = [steps]

    def guarded(real: Any) -> Any:
        def operation(*arguments: Any, **keywords: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise PowerCut
            return real(*arguments, **keywords)

        return operation

    with monkeypatch.context() as patch:
        for name in ("replace", "write", "link", "unlink"):
            patch.setattr(disk, name, guarded(getattr(disk, name)))
        try:
            run.save_checkpoint(2, b"new", {"n": 2}, best=True)
        except PowerCut:
            return False
    return True


def test_a_disk_that_fills_up_between_the_two_files_gets_its_room_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run.save_checkpoint(1, b"old", {"n": 1})

    def refuse(path: Path, _: Any) -> None:
        raise StoreError(f"cannot write {path}: the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_json", refuse)
        with pytest.raises(StoreError, match="the disk is full"):
            run.save_checkpoint(2, b"new" * 1000, {"n": 2})
    assert not list((run.path / "checkpoints").glob("*.new"))
    latest = run.checkpoint()
    assert latest is not None and latest.read() == (b"old", {"n": 1})


def test_a_damaged_state_is_noticed(run: Run) -> None:
    run.save_checkpoint(1, b"tensors", {})
    (run.path / "checkpoints" / "latest.safetensors").write_bytes(b"tensorz")
    state = run.checkpoint()
    assert state is not None
    with pytest.raises(StoreError, match=r"latest\.safetensors is damaged"):
        state.read()
    (run.path / "checkpoints" / "latest.safetensors").unlink()
    with pytest.raises(StoreError, match="cannot read"):
        state.read()


def test_a_newer_checkpoint_format_is_refused(run: Run) -> None:
    state = run.save_checkpoint(1, b"tensors", {})
    run.write_json("checkpoints/latest.json", {**state.about(), "format": 2})
    with pytest.raises(StoreError, match="checkpoint format 2"):
        state.read()


def test_without_hard_links_states_are_copied(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(1, "no links here")

    monkeypatch.setattr(disk, "link", refuse)
    run.save_checkpoint(1, b"one", {"n": 1}, best=True, keep="all")
    assert names(run) == ["images-000000001", "best", "latest"]
    assert Checkpoint("best", run.path / "checkpoints").read() == (b"one", {"n": 1})


@pytest.mark.parametrize(
    ("keep", "kept"),
    [
        ("best+latest", []),
        ("all", [100, 200, 300, 400, 500, 600, 700, 800]),
        (0, []),
        (1, [800]),
        (2, [400, 800]),
        (4, [200, 400, 600, 800]),
        ("last 2", [700, 800]),
        ("every 300", [100, 300, 600]),
        ("every 1_000", [100]),
    ],
)
def test_rules_for_kept_states(run: Run, keep: str | int, kept: list[int]) -> None:
    moments = range(100, 900, 100)
    stay = [number for number in moments if number not in superfluous(moments, keep)]
    assert stay == kept


def test_evenly_kept_states_stay_even_when_thinned_as_they_come(run: Run) -> None:
    for images in range(100, 3300, 100):
        run.save_checkpoint(images, b"x", {}, keep=4)
    kept = [int(name[7:]) for name in names(run) if name.startswith("images-")]
    assert len(kept) == 4 and kept[-1] == 3200
    gaps = [b - a for a, b in itertools.pairwise([0, *kept])]
    assert max(gaps) <= 4 * min(gaps), kept


@pytest.mark.parametrize("keep", ["al", -1, "last", "every 0", True, None])
def test_an_unknown_rule_is_refused_with_the_rules_there_are(keep: Any) -> None:
    with pytest.raises(UserError, match="possible: best\\+latest, all"):
        superfluous([1], keep)


def test_a_state_is_found_by_run_and_images(run: Run) -> None:
    store = Store(run.path.parent)
    run.save_checkpoint(100_000, b"one", {}, best=True, keep="all")
    run.save_checkpoint(200_000, b"two", {}, keep="all")
    run.save_checkpoint(250_000, b"three", {}, keep="best+latest")
    for text, data in {
        "x": b"one",
        "x@best": b"one",
        "x@latest": b"three",
        "x@100000": b"one",
        "x@100_000": b"one",
        "x@250,000": b"three",
        f"{run.path}@latest": b"three",
    }.items():
        found, state = store.resolve(text)
        assert found.folder == "x" and state.read()[0] == data, text
    with pytest.raises(StoreError) as caught:
        store.resolve("x@7")
    assert "has no stored state 7; there are: x@best, x@latest" in str(caught.value)
    with pytest.raises(StoreError, match="no run 'y'"):
        store.resolve("y@best")


def test_a_run_name_with_an_at_sign_is_a_name(tmp_path: Path) -> None:
    store = Store(tmp_path / "runs")
    run = store.create({"folder": "lr@5", "identity": "1"})
    with pytest.raises(StoreError, match="has no stored state yet; there are: none"):
        store.resolve("lr@5")
    run.save_checkpoint(9, b"x", {})
    assert store.resolve("lr@5")[1].name == "latest"
