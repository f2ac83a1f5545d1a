"""Every shipped experiment file is checked, and its first and last run are trained for a moment."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from aelab import config, lab
from aelab.execute import events as ev

FOLDER = Path(__file__).parents[2] / "experiments"
FILES = sorted(FOLDER.rglob("*.yml"))
#: What the heads of the files promise.
RUNS = {
    "quickstart.yml": 12,
    "architecture-race.yml": 39,
    "architectures.yml": 30,
    "binary-mnist.yml": 2,
    "board.yml": 270,
    "bottlenecks.yml": 18,
    "compare-datasets.yml": 72,
    "conditional.yml": 3,
    "convvae-mnist.yml": 12,
    "overnight-vae.yml": 2,
    "noise.yml": 2,
    "hierarchies.yml": 4,
    "histogram-loss.yml": 14,
    "players.yml": 8,
    "precision.yml": 24,
    "sharpness.yml": 22,
    "manifold-300.yml": 9,
    "manifold-mixture.yml": 4,
    "manifold-resolution.yml": 18,
    "resnet-stages.yml": 12,
    "rpg-manifold.yml": 15,
    "ascii/20717f2.yml": 2,
    "ascii/2e13fa9.yml": 1,
    "ascii/2e13fa9-restart.yml": 1,
    "ascii/469523a.yml": 2,
    "ascii/66ea1d6.yml": 3,
    "ascii/9b3168b.yml": 1,
    "ascii/cb2c7dd.yml": 3,
    "ascii/f27fb91.yml": 1,
    "ascii/kl-sweep.yml": 12,
    "ascii/latents.yml": 4,
    "ascii/losses.yml": 26,
    "ascii/stage0-gumbel.yml": 1,
    "ascii/words.yml": 2,
    "families/codebooks.yml": 12,
    "families/features.yml": 15,
    "families/frechet.yml": 21,
    "families/nats.yml": 21,
    "families/posteriors.yml": 30,
    "families/vampprior.yml": 12,
    "founding/comparing-datasets.yml": 3,
    "founding/histogram-loss.yml": 9,
    "founding/resnet-manifold.yml": 1,
    "founding/transformer-on-mnist.yml": 150,
    "digits.yml": 2,
    "disentanglement.yml": 12,
    "weak-supervision.yml": 9,
    "palette/colours.yml": 4,
    "palette/per-picture.yml": 4,
    "palette/pixels.yml": 8,
    "regularised.yml": 5,
    "second-stages.yml": 21,
    "speedrun/choices.yml": 11,
    "speedrun/mnist.yml": 15,
    "speedrun/other-images.yml": 12,
    "stacked.yml": 26,
    "transformer-mnist.yml": 150,
    "transformer-patches.yml": 72,
}

#: Runs that cannot be built, which `check` says; by file.
IMPOSSIBLE = {
    "founding/transformer-on-mnist.yml": "*stride?8*",
    "transformer-mnist.yml": "*stride?8*",
}


#: Files whose runs start from the weights of another's.
CONTINUES = {"ascii/2e13fa9-restart.yml": "ascii/2e13fa9.yml"}

#: A moment of training, and of validating.
SHORT = {"max_inputs": 128, "validation_limit": 64}
#: Two steps, for a model that costs more FLOPs an image than a quarter of `LARGE`, forward.
SHORTER = {"max_inputs": 4, "batch_size": 2, "validation_limit": 2}
LARGE = 200e6
#: The same of document 002: grids of 32x32 characters instead of 64x64 above `LARGE`.
SHORTER_TEXT = {**SHORTER, "globals.RES": 32}


def _ids(path: Path) -> str:
    return path.relative_to(FOLDER).as_posix()


def _shorter(path: Path) -> dict[str, object]:
    has_size = re.search(r"^  RES:", path.read_text("utf-8"), re.M)
    return dict(SHORTER_TEXT if "ascii" in path.parts and has_size else SHORTER)


def _first_and_last(path: Path) -> list[str]:
    """The names of the first and of the last run of a file that can be built."""
    left_out = IMPOSSIBLE.get(_ids(path), "")
    names = [spec.name for spec in config.load(path).runs()]
    names = [name for name in names if not fnmatchcase(name, left_out)]
    return list(dict.fromkeys([names[0], names[-1]]))


def test_every_file_has_a_known_number_of_runs() -> None:
    assert {_ids(path): len(config.load(path).runs()) for path in FILES} == RUNS


@pytest.mark.parametrize("path", [p for p in FILES if "founding" not in p.parts], ids=_ids)
def test_a_letterhead_says_source_command_time_and_expectation(path: Path) -> None:
    head = path.read_text().split("\n\nmatrix:")[0]
    assert all(f"#   {word} " in head for word in ("command", "time", "expect")), head


@pytest.mark.parametrize("path", FILES, ids=_ids)
def test_first_and_last_run_check_without_problems_and_train(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aelab.execute.reproductions.COUNT", 2)  # of 16, dearer than two steps
    runs = tmp_path / "runs"
    if before := CONTINUES.get(_ids(path)):
        list(lab.run(FOLDER / before, changes=_shorter(path), device="cpu", runs=runs))
    specs = {spec.name: spec for spec in config.load(path).runs()}
    for name in _first_and_last(path):
        for used in specs[name].runs_named():  # its first stage
            if used in {spec.folder for spec in specs.values()}:
                list(lab.run(path, only=used, changes=SHORT, device="cpu", runs=runs))
        (plan,) = lab.check(path, only=name, runs=runs).runs
        assert not plan.problems and plan.parameters["model"] > 0
        flops = plan.flops_per_image or 0
        changes = _shorter(path) if flops > LARGE else SHORTER if flops > LARGE / 4 else SHORT
        events = list(lab.run(path, only=name, changes=changes, device="cpu", runs=runs))
        last = events[-1]
        assert isinstance(last, ev.MatrixFinished) and (last.finished, last.failed) == (1, 0)
    assert lab.table(runs=runs).count("\n") >= 3


PUBLISHED = {20: 1_666_193, 28: 4_034_705, 32: 5_613_713}


def test_the_comparison_has_the_published_parameter_counts() -> None:
    only = "legacy-True_lr-0.001_aa-True*ds-mnist"
    plan = lab.check(FOLDER / "compare-datasets.yml", only=only)
    counts = {run.matrix["res"]: run.parameters["model"] for run in plan.runs}
    assert counts == PUBLISHED


def test_the_overnight_model_has_the_published_parameter_count() -> None:
    plan = lab.check(FOLDER / "overnight-vae.yml")
    assert {run.parameters["model"] for run in plan.runs} == {4_988_371}


def test_document_000_runs_unchanged_and_says_it_is_legacy(tmp_path: Path) -> None:
    path = FOLDER / "founding" / "comparing-datasets.yml"
    events = list(lab.run(path, changes=SHORT, device="cpu", runs=tmp_path / "runs"))
    first, last = events[0], events[-1]
    assert isinstance(first, ev.MatrixStarted) and isinstance(last, ev.MatrixFinished)
    assert any("legacy objective" in note for note in map(str, first.findings))
    assert (last.finished, last.failed) == (3, 0)
    tiles = [e for e in events if isinstance(e, ev.RunStarted) and e.name.endswith("rpg")]
    assert any("not the author's tiles" in note for note in map(str, tiles[0].findings))


def test_a_setting_without_effect_is_blank_in_the_table(tmp_path: Path) -> None:
    path = FOLDER / "compare-datasets.yml"
    for only in (
        "legacy-True_lr-0.001_aa-*_res-28_ds-mnist",
        "legacy-True_lr-0.001_aa-*_res-20_ds-mnist",
    ):
        for _ in lab.run(path, only=only, changes=SHORT, device="cpu", runs=tmp_path / "runs"):
            pass
    table = lab.table(runs=tmp_path / "runs", format="csv")
    import csv
    import io

    rows = [row for row in csv.DictReader(io.StringIO(table)) if row.get("res")]
    shown = sorted((row["res"], row["aa"]) for row in rows)
    assert shown == [("20", "False"), ("20", "True"), ("28", "")]
