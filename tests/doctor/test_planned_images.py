"""How many images and how long, where a file counts epochs, or tells no end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from aelab import lab
from aelab.cli.listing import plan_text
from aelab.doctor.plan import Plan

TEXT = """
matrix: {lr: [0.1, 0.2]}
experiment_name: e/${matrix_slug}
train_set: noise_dataset((1, 8, 8), size=250)
model: EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4))
batch_size: 16
learnrate: ${lr}
optimizer: Adam
"""


def plan(tmp_path: Path, end: str, text: str = TEXT) -> Plan:
    (tmp_path / "f.yml").write_text(text + end)
    return lab.check(tmp_path / "f.yml", runs=tmp_path / "runs")


@pytest.mark.parametrize(
    ("end", "images"),
    [
        ("max_epoch: 10", 2_500),
        ("max_inputs: 1000", 1_000),
        ("max_inputs: 1000\nmax_epoch: 2", 500),
        ("max_inputs: 1000\nmax_epoch: 20", 1_000),
        ("max_inputs: 1000\nmin_loss: 0.1", 1_000),
    ],
)
def test_images_and_time_follow_from_whatever_ends_first(
    end: str, images: int, tmp_path: Path
) -> None:
    found = plan(tmp_path, end)
    assert [run.images for run in found.runs] == [images, images]
    assert all(run.estimated_seconds and run.estimated_seconds > 0 for run in found.runs)
    assert "2 runs, 0 with problems; about" in plan_text(found)


def test_unknown_lengths_are_told_and_not_added_as_nothing(tmp_path: Path) -> None:
    known = plan(tmp_path, "max_epoch: 10").runs[0]
    unknown = replace(known, images=None, estimated_seconds=None)
    assert "unknown" in plan_text(Plan("f.yml", [unknown]))
    both = plan_text(Plan("f.yml", [known, unknown]))
    assert "at least, 1 run of unknown length not counted" in both


def test_a_plan_of_impossible_runs_tells_no_time(tmp_path: Path) -> None:
    found = plan(tmp_path, "max_inputs: 100", TEXT.replace("EncoderMLP(", "NoSuchEncoder("))
    text = plan_text(found)
    assert "2 runs, 2 with problems\n" in text and "about" not in text


def test_a_set_that_is_not_counted_before_it_is_read_has_no_time(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for number in range(7):
        Image.new("L", (8, 8), number * 30).save(tmp_path / f"pictures/{number}.png")
    pictures = "image_folder_dataset('pictures', (1, 8, 8))"
    text = TEXT.replace("noise_dataset((1, 8, 8), size=250)", pictures)
    found = plan(tmp_path, "max_epoch: 3", text)
    assert [run.images for run in found.runs] == [None, None]
    assert "the time is unknown until the images are read" in plan_text(found)
    assert plan(tmp_path, "max_inputs: 30", text).runs[0].images == 30
