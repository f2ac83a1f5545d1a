"""A stored run that writes: what is measured of it, what is skipped, and the tables made of it."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from aelab import lab
from aelab.runs.evaluation import evaluated_values
from aelab.study.figures.stored import draw_cheap

FILE = """
matrix:
  loss: [ce, l2]
  seed: [1, 2]
experiment_name: art/${matrix_slug}
train_set: ascii_art_dataset("art", res=(5, 9), min_lines=1, min_ink=1)
validation_set: ascii_art_dataset("art", res=(5, 9), min_lines=1, min_ink=1)
model: |
  CharacterAutoencoder(
      EncoderMLP((95, 5, 9), code_size=8), None, DecoderMLP((95, 5, 9), code_size=8)
  )
objective: |
  {"ce": {"character_ce": 1.0}, "l2": {"rendered_l2": 10.0}}[loss]
seed: ${seed}
optimizer: Adam
batch_size: 4
learnrate: 0.001
max_inputs: 16
num_inputs_between_validations: 16
"""

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four finished runs: two losses, two seeds, six texts."""
    folder = tmp_path_factory.mktemp("written")
    (folder / "art").mkdir()
    for number, line in enumerate(["o-o-o", "/\\/\\", "<##>", "a b c", "=====", "(o.o)"]):
        (folder / "art" / f"{number}.txt").write_text(f"{line}\n {line}\n", encoding="utf-8")
    (folder / "art.yml").write_text(FILE, encoding="utf-8")
    list(lab.run(folder / "art.yml", runs=folder / "runs"))
    return folder


def test_characters_are_measured_and_measures_of_pixels_are_skipped_with_a_reason(
    store: Path,
) -> None:
    found = list(lab.evaluate(runs=store / "runs", data=[store]))
    assert len(found) == 4
    for entry in found:
        assert not entry.problem
        assert {"accuracy_without_spaces", "contour_agreement"} <= set(entry.values)
        assert entry.values["nearest_accuracy"] == 1, "the training texts are the held-out ones"
        assert "characters, not pixels" in entry.skipped["reproduction"]
        assert "l2" not in entry.values
    text = lab.table(runs=store / "runs", include=["contour_agreement"], format="csv")
    assert "contour_agreement" in text


def test_quick_figures_leave_out_those_of_other_images(store: Path) -> None:
    (run, *_) = lab.find_runs(runs=store / "runs")
    opened = lab.open_run(run.folder, runs=store / "runs", data=[store])
    written, failed = draw_cheap(opened, 100)
    names = {path.stem for path in written}
    assert "edges" in names
    assert "frequency" not in names | set(failed)


def test_losses_are_ranked_over_seeds_beside_blank_paper(store: Path) -> None:
    list(lab.evaluate(runs=store / "runs", data=[store], metrics=["characters"]))
    script = runpy.run_path(str(BENCHMARKS / "ascii_losses.py"))
    found = script["measured"](str(store / "runs"))
    assert {loss: len(seeds) for loss, seeds in found.items()} == {"ce": 2, "l2": 2}
    assert found["ce"][0] == evaluated_values(lab.find_runs(runs=store / "runs")[0])
    good = [{"rendered_ssim_blur_2": 0.9, "contour_agreement": 0.8, "blank_share": 0.5}]
    bad = [{"rendered_ssim_blur_2": 0.5, "contour_agreement": 0.1, "blank_share": 1.0}] * 2
    lines = script["table"]({"bad": bad, "good": good})
    assert lines[2].startswith("| 1 | good | 1 | - | 0.900 |")
    assert lines[3].startswith("| 2 | bad | 2 | - | 0.500 ± 0.000 |")
    assert "blank paper" in lines[4]


def test_examples_are_evenly_taken_and_show_both_texts(store: Path) -> None:
    script = runpy.run_path(str(BENCHMARKS / "ascii_examples.py"))
    assert script["spaced"](10, 4) == [0, 2, 5, 7]
    assert script["spaced"](2, 4) == [0, 1]
    from aelab.ascii.glyphs import to_grid

    lines = script["example"](to_grid(["ab", "", "c"], (4, 3)), to_grid(["ax"], (4, 3)), "One")
    assert lines[0] == "One: 0.33 of the characters right, contour agreement " + lines[0][-4:]
    assert lines[2:] == ["```text", "ab    |   ax", "c     |", "```", ""]
