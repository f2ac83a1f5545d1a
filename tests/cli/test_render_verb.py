"""`aelab render` as its user types it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Call = Callable[..., tuple[int, str, str]]

IMPLICIT = """\
experiment_name: implicit
globals:
  SHAPE: (1, 8, 8)
train_set: kali_dataset(SHAPE, size=64, seed=1, max_iterations=5)
validation_set: kali_dataset(SHAPE, size=20, seed=2, max_iterations=5)
model: |
  EncoderDecoder(
      EncoderMLP(SHAPE, code_size=4, hidden=(16,)),
      ImageManifoldDecoder(4, 1, num_hidden=8, num_blocks=1, default_shape=SHAPE[-2:]),
  )
batch_size: 16
learnrate: 0.01
optimizer: Adam
max_inputs: 64
"""


@pytest.fixture
def trained(tiny: Path, aelab: Call) -> Path:
    Path("implicit.yml").write_text(IMPLICIT, encoding="utf-8")
    code, _, err = aelab("run", "implicit.yml", "--device", "cpu")
    assert code == 0, err
    return tiny


def test_several_sizes_follow_one_option(trained: Path, aelab: Call) -> None:
    code, out, err = aelab("render", "implicit", "--resolution", "16", "24x12", "--images", "3")
    assert (code, err) == (0, "")
    assert out.split() == ["renders/implicit-16x16.png", "renders/implicit-24x12.png"]
    assert aelab("render", "--resolution", "16", "24", "implicit", "-o", "b")[0] == 0
    assert len(list(Path("b").iterdir())) == 2
    assert aelab("render", "implicit", "-r", "16", "-r", "2x", "-o", "c")[0] == 0
    assert len(list(Path("c").iterdir())) == 1


def test_a_window_is_enlarged(trained: Path, aelab: Call) -> None:
    words = ("--zoom", "-1,-1,0,0.5", "--resolution", "32", "--split", "train")
    code, out, _ = aelab("render", "implicit@latest", *words)
    assert (code, out) == (0, "renders/implicit-32x48.png\n")
    with Image.open("renders/implicit-32x48.png") as sheet:
        assert sheet.height > 4 * 3 * 48


def test_truth_prints_a_table_and_names_the_files(trained: Path, aelab: Call) -> None:
    code, out, err = aelab("render", "implicit", "--truth", "--images", "12")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("| size | picture | PSNR, dB |")
    assert [line.split(" | ")[0] for line in lines[2:8]] == ["| 16x16"] * 3 + ["| 32x32"] * 3
    assert lines[8] == ""
    assert lines[9].startswith("over 12") and "images" in lines[9]
    assert lines[10:] == [f"renders/implicit-truth{end}" for end in
                         ("-16x16.png", "-32x32.png", ".csv")]  # fmt: skip


def test_a_given_set_of_larger_originals_is_scored(trained: Path, aelab: Call) -> None:
    words = ("render", "implicit", "--truth-set", "kali_dataset((1, 24, 24), size=5)")
    assert aelab(*words)[1].startswith("| size")
    code, _, err = aelab(*words[:-1], "kali_dataset((1, 20, 20), size=5)")
    assert code == 2 and "20x20" in err and "whole multiple" in err


def test_mistakes_end_in_one_message(trained: Path, aelab: Call) -> None:
    code, _, err = aelab("render", "implicit", "--resolution", "large")
    assert code == 2 and "not a size to render" in err
    code, _, err = aelab("render", "implicit", "--zoom", "1,0,0,1")
    assert code == 2 and "x0,y0,x1,y1 with x0 < x1 and y0 < y1" in err
    code, _, err = aelab("render", "implicits")
    assert code == 2 and "implicit" in err
    Path("taken").write_text("a file")
    code, _, err = aelab("render", "implicit", "--out", "taken")
    assert code == 2 and "--out" in err
    aelab("run", "tiny.yml", "--only", "lr:0.001", "--device", "cpu")
    code, _, err = aelab("render", "tiny/lr-0.001")
    assert code == 2 and "DecoderMLP" in err and "ImageManifoldDecoder" in err
    assert "fourier_decoder" in err
