"""What bridges hand over, read back with the tools' own readers."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aelab.bridges import follow, make_bridge
from aelab.bridges.following import HandedOver
from aelab.errors import MissingExtra, UserError
from aelab.runs.record import Run


def _run(folder: Path, name: str = "exp/lr-0.1") -> Run:
    path = folder / name
    (path / "images").mkdir(parents=True)
    record = {
        "format": 1, "name": name, "folder": name, "identity": "abc", "matrix": {"lr": 0.1},
        "seed": 7, "shape": [1, 4, 4], "experiment": "exp.yml", "parameters": {"model": 12},
    }  # fmt: skip
    run = Run(path, name, record, is_new=True)
    run.write_json("run.json", run.record)
    run.write_bytes("resolved.yml", b"optimizer: AdamW\n")
    run.set_status("running", images=100)
    run.append(
        {"split": "train", "images": 50, "seconds": 1.0, "epoch": 0, "loss": 0.5, "kl": 2.0,
         "learnrate": 0.1},
        {"split": "validation", "images": 100, "seconds": 2.0, "epoch": 1, "loss": 0.25, "kl": 1.0},
    )  # fmt: skip
    Image.new("L", (64, 4), 255).save(path / "images" / "heldout-originals.png")
    Image.new("L", (64, 4), 100).save(path / "images" / "heldout-000000100.png")
    return run


def _finish(run: Run) -> None:
    run.append({"split": "validation", "images": 200, "seconds": 4.0, "epoch": 2, "loss": 0.125})
    run.set_status("finished", images=200)


def _events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder), size_guidance={"images": 0, "scalars": 0})
    return found.Reload()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_reads_the_documents_tags_over_images(tmp_path: Path) -> None:
    run = _run(tmp_path / "runs")
    (counts,) = follow([run], make_bridge("tensorboard", out=tmp_path / "tb"))
    assert (counts.rows, counts.pictures) == (2, 1)
    events = _events(tmp_path / "tb" / "exp" / "lr-0.1")
    tags = set(events.Tags()["scalars"])
    assert {"train_loss", "validation_loss", "train_kl", "train_learnrate_0_AdamW"} <= tags
    (point,) = events.Scalars("validation_loss")
    assert (point.step, point.value) == (100, 0.25)
    (picture,) = events.Images("validation_reconstruction")
    # Eight originals over eight reproductions, and the other eight below: 32 by 16 pixels.
    assert (picture.step, picture.width, picture.height) == (100, 32, 16)
    assert "_hparams_/session_start_info" in events.summary_metadata


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_calling_again_replaces_the_files_and_leaves_those_of_others(tmp_path: Path) -> None:
    run, out = _run(tmp_path / "runs"), tmp_path / "tb"
    list(follow([run], make_bridge("tensorboard", out=out)))
    other = out / "exp" / "lr-0.1" / "events.out.tfevents.1.other"
    other.write_bytes(b"")
    list(follow([run], make_bridge("tensorboard", out=out)))
    assert len(list((out / "exp" / "lr-0.1").glob("*.aelab"))) == 1
    assert other.exists()
    assert len(_events(out / "exp" / "lr-0.1").Scalars("train_loss")) == 1


class _Told:
    """A bridge that remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def begin(self, run: Run) -> None:
        self.calls.append(("begin", run.folder))

    def scalars(self, run: Run, images: int, row: Mapping[str, Any]) -> None:
        self.calls.append(("row", images, row["split"]))

    def picture(self, run: Run, images: int, tag: str, picture: Image.Image) -> None:
        self.calls.append(("picture", images, tag))

    def rewound(self, run: Run, images: int) -> None:
        self.calls.append(("rewound", images))

    def end(self, run: Run) -> None:
        self.calls.append(("end", run.state))


def test_a_live_run_is_followed_until_it_ends(tmp_path: Path) -> None:
    run, told = _run(tmp_path), _Told()
    looks: Iterator[HandedOver] = follow([run], told, live=True, sleep=lambda _: _finish(run))
    assert [counts.rows for counts in looks] == [2, 3] or told.calls[-2][:2] == ("row", 200)
    assert told.calls == [
        ("begin", "exp/lr-0.1"),
        ("row", 50, "train"),
        ("row", 100, "validation"),
        ("picture", 100, "validation_reconstruction"),
        ("row", 200, "validation"),
        ("end", "finished"),
    ]


def test_a_run_that_was_continued_from_before_voids_what_came_after(tmp_path: Path) -> None:
    run, told = _run(tmp_path), _Told()

    def continue_run(_: float) -> None:
        lines = (run.path / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        run.truncate_metrics(len(lines[0]))
        run.set_status("finished")

    list(follow([run], told, live=True, sleep=continue_run))
    assert ("rewound", 51) in told.calls


def test_wandb_offline_holds_the_names_of_document_004(tmp_path: Path) -> None:
    run = _run(tmp_path / "runs")
    _finish(run)
    list(follow([run], make_bridge("wandb", out=tmp_path / "wb", project="test")))
    (file,) = (tmp_path / "wb").rglob("*.wandb")
    content = file.read_bytes()
    for name in (
        b"val_kld",
        b"val_loss",
        b"train_loss",
        b"iteration",
        b"validation_reconstruction",
    ):
        assert name in content, name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_values_that_are_no_numbers_are_left_out_of_curves(tmp_path: Path) -> None:
    run = _run(tmp_path / "runs")
    run.append(
        {"split": "train", "images": 150, "seconds": 3.0, "epoch": 1, "loss": math.nan, "kl": 3.0}
    )
    list(follow([run], make_bridge("tensorboard", out=tmp_path / "tb")))
    events = _events(tmp_path / "tb" / "exp" / "lr-0.1")
    assert [(point.step, point.value) for point in events.Scalars("train_loss")] == [(50, 0.5)]
    assert [point.step for point in events.Scalars("train_kl")] == [50, 150]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("text", [b"optimizer: " + b"1" * 5000, b"[" * 5000])
def test_a_strangers_text_that_is_no_yaml_does_not_stop_a_bridge(
    text: bytes, tmp_path: Path
) -> None:
    run = _run(tmp_path / "runs")
    run.write_bytes("resolved.yml", text)
    list(follow([run], make_bridge("tensorboard", out=tmp_path / "tb")))
    events = _events(tmp_path / "tb" / "exp" / "lr-0.1")
    assert events.Scalars("train_loss")[0].value == 0.5
    assert events.Scalars("train_learnrate_0_unknown")[0].value == pytest.approx(0.1)


def test_unknown_tools_and_missing_packages_say_what_to_type(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="did you mean 'tensorboard'"):
        make_bridge("tensorbord")
    with pytest.raises(UserError, match="offline, online"):
        make_bridge("wandb", mode="nowhere", out=tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(MissingExtra, match=r"aelab\[wandb\]"):
        make_bridge("wandb")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def _bomb() -> bytes:
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        check = zlib.crc32(name + data).to_bytes(4, "big")
        return len(data).to_bytes(4, "big") + name + data + check

    side = (60_000).to_bytes(4, "big")
    head = chunk(b"IHDR", side + side + b"\x01\0\0\0\0")
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("damage", ["eps", "bomb", "pipe", "link", "text", "folder", "jpeg"])
@pytest.mark.parametrize("which", ["heldout-originals.png", "heldout-000000100.png"])
def test_a_strangers_pictures_are_left_out_with_one_line_at_most(
    damage: str, which: str, tmp_path: Path
) -> None:
    run = _run(tmp_path / "runs")
    picture = run.path / "images" / which
    Image.new("L", (64, 4)).save(tmp_path / "elsewhere.png")
    Image.new("L", (64, 4)).save(tmp_path / "a.jpg")
    picture.unlink()
    if damage == "pipe":
        os.mkfifo(picture)
    elif damage == "link":
        picture.symlink_to(tmp_path / "elsewhere.png")
    elif damage == "folder":
        picture.mkdir()
    else:
        contents = {"eps": EPS, "bomb": _bomb(), "text": b"x",
                    "jpeg": (tmp_path / "a.jpg").read_bytes()}  # fmt: skip
        picture.write_bytes(contents[damage])
    (counts,) = follow([run], _Told())
    assert counts.rows == 2 and counts.pictures == 0
    # What is no regular file of the run is not looked at; the others are told.
    assert len(counts.left_out) == 1 or damage in ("pipe", "link", "folder")
    assert all(str(run.path) in reason and "\n" not in reason for reason in counts.left_out)
