"""Run directories of strangers: nothing in them crashes a report or leads out of the run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from aelab.errors import AelabError, StoreError, visible
from aelab.runs.ledger import read_rows
from aelab.runs.record import Run
from aelab.runs.store import Store

RECORD = {"format": 1, "name": "a", "folder": "a", "identity": "0", "matrix": {}}
ESCAPE = "\x1b[2J\x9b1m\u202egpj"


def made(root: Path, **changes: Any) -> Path:
    path = root / "runs" / "a"
    path.mkdir(parents=True, exist_ok=True)
    (path / "run.json").write_text(json.dumps({**RECORD, **changes}))
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("matrix", None), ("matrix", []), ("matrix", "x"), ("name", 3), ("name", None),
        ("folder", ["a"]), ("identity", {}), ("trial", "x"), ("seed", True),
        ("max_inputs", 1e400), ("max_inputs", 10**30), ("max_inputs", [1]), ("parameters", True),
        ("parameters", {"model": "x"}), ("shape", True), ("shape", "NaN"), ("notes", True),
        ("notes", [None]), ("legacy", "text"), ("data", True), ("data", {"train": True}),
        ("data", {"train": [{}]}), ("data", {"train": [{"name": "a", "count": "x"}]}),
        ("effect", [1]), ("extra", True), ("flops_per_image", "x"), ("experiment", []),
        ("trust", "no"), ("format", True), ("format", "1"),
    ],
)  # fmt: skip
def test_a_record_of_another_form_makes_one_unreadable_run(
    key: str, value: Any, tmp_path: Path
) -> None:
    path = made(tmp_path, **{key: value})
    with pytest.raises(StoreError, match=key):
        Run.at(path)
    assert len(Store(tmp_path / "runs").scan().problems) == 1


def test_control_characters_become_visible(tmp_path: Path) -> None:
    run = Run.at(made(tmp_path, name=ESCAPE, notes=[ESCAPE], matrix={ESCAPE: ESCAPE}), "a")
    shown = json.dumps(run.record, ensure_ascii=False)
    assert visible(shown) == shown
    assert "\\x1b[2J" in run.record["name"]
    assert "\x1b" not in str(StoreError(f"about {ESCAPE}", hint=ESCAPE))
    assert visible("zwölf\n\tÄpfel 🍎") == "zwölf\n\tÄpfel 🍎"


def test_a_folder_with_control_characters_is_a_problem_not_a_run(tmp_path: Path) -> None:
    path = made(tmp_path)
    path.rename(path.with_name("a\x1b[2J"))
    listing = Store(tmp_path / "runs").scan()
    assert not listing.runs
    assert "\x1b" not in str(listing.problems[0])


def test_a_status_loses_what_is_wrong_and_keeps_the_rest(tmp_path: Path) -> None:
    path = made(tmp_path)
    status = {"state": "finished", "images": [1], "seconds": 2.5, "best": {"loss": "x"}, "epoch": 1}
    (path / "status.json").write_text(json.dumps(status))
    assert Run.at(path).status == {"state": "finished", "seconds": 2.5, "epoch": 1}


@pytest.mark.parametrize(
    "line", ['{"loss": [1]}', '{"loss": "x"}', '{"loss": true}', '{"loss": 1%s}' % ("0" * 40), "[]"]
)
def test_rows_hold_numbers_only(line: str, tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(f'{line}\n{{"split": "train", "loss": 1}}\n')
    with pytest.raises(StoreError, match="not valid JSON"):
        read_rows(tmp_path / "m.jsonl")


def test_names_of_terms_are_legible(tmp_path: Path) -> None:
    row = {"split": "train", ESCAPE: 1.0, "loss": "NaN"}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    (read,) = read_rows(tmp_path / "m.jsonl", "train")
    assert visible(" ".join(read)) == " ".join(read)
    assert read["loss"] != read["loss"]


def test_json_that_is_nested_too_deeply_is_damaged(tmp_path: Path) -> None:
    path = made(tmp_path)
    (path / "run.json").write_text('{"a":' * 200_000)
    with pytest.raises(StoreError, match="not valid JSON"):
        Run.at(path)


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "log.txt", "lock", "checkpoints", "images", "checkpoints/latest.json"]
)
def test_nothing_is_written_through_a_link_out_of_the_run(name: str, tmp_path: Path) -> None:
    path = made(tmp_path)
    victim = tmp_path / "victim"
    if name in ("checkpoints", "images"):
        victim.mkdir()
        (victim / ".x.tmp").write_text("kept")
        (victim / "x.new").write_text("kept")
    else:
        victim.write_text("kept")
    (path / name).parent.mkdir(exist_ok=True)
    (path / name).symlink_to(victim)
    with pytest.raises(StoreError, match="link out of the run"), Run.at(path).lock():
        pass
    kept = [victim] if victim.is_file() else [*victim.iterdir()]
    assert [file.read_text() for file in kept] == ["kept"] * len(kept)
    assert len(kept) == (2 if victim.is_dir() else 1)


def test_text_of_a_run_is_not_read_through_a_link_out_of_it(tmp_path: Path) -> None:
    path = made(tmp_path)
    (tmp_path / "secret").write_text("secret")
    (path / "resolved.yml").symlink_to(tmp_path / "secret")
    assert Run.at(path).read_text("resolved.yml") == ""
    assert Run.at(path).read_text("../../secret") == ""


def test_a_link_that_stays_in_the_run_does_no_harm(tmp_path: Path) -> None:
    path = made(tmp_path)
    (path / "first.txt").write_text("x")
    os.symlink("first.txt", path / "second.txt")
    with Run.at(path).lock() as run:
        assert run.read_text("second.txt") == "x"


@pytest.mark.parametrize(
    "about",
    [
        {"images": "x"}, {"images": -1}, {"metrics_offset": 1.5}, {"numbers": []}, {"format": "1"},
        {"tensors": []}, {"images": 10**30},
    ],
)  # fmt: skip
def test_a_checkpoint_of_another_form_is_damaged(about: dict[str, Any], tmp_path: Path) -> None:
    path = made(tmp_path) / "checkpoints"
    path.mkdir()
    whole = {"format": 1, "images": 1, "metrics_offset": 0, "numbers": {}, "tensors": {}, **about}
    (path / "latest.json").write_text(json.dumps(whole))
    (path / "latest.safetensors").write_bytes(b"x")
    with pytest.raises(AelabError):
        Run.at(path.parent).checkpoints()[0].read()
