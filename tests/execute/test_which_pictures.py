"""Stored pictures show every class, and a run keeps the images it began with."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from aelab.execute.reproductions import COUNT, Reproductions
from aelab.runs.record import Run
from aelab.types import Images


def _run(folder: Path) -> Run:
    folder.mkdir(parents=True)
    record = {"format": 1, "name": "a", "folder": "a", "identity": "0", "matrix": {}}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    (folder / "status.json").write_text('{"state": "running"}', encoding="utf-8")
    return Run.at(folder)


def _sorted_set() -> Images:
    """400 images in five classes; every pixel of an image is its row, modulo 256."""
    labels = torch.arange(5).repeat_interleave(torch.tensor([3, 197, 100, 50, 50]))
    pixels = (torch.arange(400) % 256).to(torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 4, 4)
    return Images(pixels.contiguous(), labels=labels)


def _rows_shown(run: Run) -> list[int]:
    with Image.open(run.path / "images" / "heldout-originals.png") as row:
        return [row.getpixel((4 * i, 0)) for i in range(row.width // 4)]  # type: ignore[misc]


def test_every_class_is_shown_and_the_record_says_which_images(tmp_path: Path) -> None:
    run, images = _run(tmp_path / "a"), _sorted_set()
    Reproductions(run, {"heldout": images}).originals()
    rows = run.record["shown"]["heldout"]
    assert [row % 256 for row in rows] == _rows_shown(run)
    assert images.labels is not None
    assert images.labels[rows].tolist() == [0, 1, 2, 3, 4] * 3 + [1]
    again = _run(tmp_path / "b")
    Reproductions(again, {"heldout": images}).originals()
    assert again.record["shown"] == run.record["shown"]


def test_the_record_says_which_files_they_are_of(tmp_path: Path) -> None:
    run, images = _run(tmp_path / "a"), _sorted_set()
    names = tuple(f"{row}.png" for row in range(len(images)))
    sets = {"heldout": replace(images, file_names=names), "train": images}
    Reproductions(run, sets).originals()
    rows = run.record["shown"]["heldout"]
    assert run.record["shown_files"] == {"heldout": [f"{row}.png" for row in rows]}


def test_a_run_keeps_the_images_it_began_with(tmp_path: Path) -> None:
    run, images = _run(tmp_path / "a"), _sorted_set()
    Reproductions(run, {"heldout": images}).originals()
    run.update_record(shown={"heldout": [7, 8, 9]})
    assert Reproductions(Run.at(run.path), {"heldout": images}).shown["heldout"] == [7, 8, 9]


def test_a_run_of_an_earlier_version_keeps_its_first_images(tmp_path: Path) -> None:
    run, images = _run(tmp_path / "a"), _sorted_set()
    run.write_bytes("images/heldout-originals.png", b"the first sixteen")
    shown = Reproductions(run, {"heldout": images}).shown["heldout"]
    assert shown == list(range(COUNT))


@pytest.mark.parametrize("noted", [["a"], [-1], [1.5], [10**9]])
def test_a_damaged_note_is_no_reason_to_fail(tmp_path: Path, noted: list[object]) -> None:
    run, images = _run(tmp_path / "a"), _sorted_set()
    Reproductions(run, {"heldout": images}).originals()
    run.record["shown"] = {"heldout": noted}
    assert len(Reproductions(run, {"heldout": images}).shown["heldout"]) == COUNT
