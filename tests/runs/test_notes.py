"""Notes and tags of a run: kept with it, no part of what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aelab.errors import StoreError, UserError
from aelab.runs.notes import LONGEST_TEXT, NONE, Notes, read_notes, write_notes
from aelab.runs.record import Run
from aelab.runs.store import Store


@pytest.fixture
def run(tmp_path: Path) -> Run:
    store = Store(tmp_path / "runs")
    return store.create({"folder": "a/b", "name": "a/b", "identity": "x" * 64, "matrix": {}})


def test_notes_are_read_back_and_leave_the_run_as_it_is(run: Run) -> None:
    assert read_notes(run) == NONE
    before = (run.path / "run.json").read_bytes()
    made = write_notes(run, "sharp\r\nbut slow", ["good", "paper", "good"])
    assert made.tags == ("good", "paper") and made.text == "sharp\nbut slow" and made.updated
    assert read_notes(run) == made
    assert (run.path / "run.json").read_bytes() == before
    record = {"folder": "a/b", "name": "a/b", "identity": "x" * 64, "matrix": {}}
    again = Store(run.path.parents[1]).create(record)
    assert not again.is_new and read_notes(again) == made
    assert read_notes(Run.at(write_and_empty(run), "a/b")) == Notes("", (), read_notes(run).updated)


def write_and_empty(run: Run) -> Path:
    write_notes(run, "", [])
    return run.path


def test_notes_are_written_while_another_process_trains_the_run(run: Run) -> None:
    with run.lock():
        other = Run.at(run.path, run.folder)
        write_notes(other, "still going", [])
    assert read_notes(run).text == "still going"


@pytest.mark.parametrize(
    ("text", "tags", "words"),
    [
        ("x" * (LONGEST_TEXT + 1), [], "at most 10,000 characters"),
        ("", ["two words"], "cannot be a tag"),
        ("", ["a,b"], "cannot be a tag"),
        ("", ["x" * 41], "cannot be a tag"),
        ("", ["\x1b[2J"], "cannot be a tag"),
        ("", [""], "cannot be a tag"),
        ("", [f"t{i}" for i in range(21)], "at most 20 tags"),
    ],
)
def test_what_is_no_note_is_refused(run: Run, text: str, tags: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        write_notes(run, text, tags)
    assert read_notes(run) == NONE


def test_foreign_notes_cannot_control_the_reader(run: Run, tmp_path: Path) -> None:
    path = run.path / "notes.json"
    path.write_text(json.dumps({"text": "a\x1b[2J\nb", "tags": ["fine"], "updated": 7}))
    assert read_notes(run) == Notes("a\\x1b[2J\nb", ("fine",), "")
    for damaged in ("[]", "{", json.dumps({"text": 1, "tags": "x"}), json.dumps({"tags": ["a b"]})):
        path.write_text(damaged)
        assert read_notes(run) == NONE
    path.unlink()
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"text": "hunter2", "tags": []}))
    path.symlink_to(secret)
    assert read_notes(run) == NONE
    with pytest.raises(StoreError, match="link out of the run"):
        write_notes(run, "mine", [])
    assert "hunter2" in secret.read_text()
