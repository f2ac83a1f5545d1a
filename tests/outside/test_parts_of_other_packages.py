"""Every kind of part from outside: by name in a file, without `--trust`, from a package."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from aelab import lab, parts, register
from aelab.cli.main import app
from aelab.errors import ConfigError, UserError
from aelab.losses import PENALTIES
from aelab.runs.store import Store
from aelab.study.figures.table import find_figure

HERE = Path(__file__).parent
FILE = """
matrix:
  kind: [student, residual]

experiment_name: ${matrix_slug}
train_set: stripes_dataset(count=60)
validation_set: stripes_dataset(count=20)
model: |
  Autoencoder(
      EncoderMLP((1, 8, 8), code_size=12, hidden=(16,)),
      {"student": HeavyTailed(12, 3), "residual": ResidualVQ(12)}[kind],
      DecoderMLP((1, 8, 8), code_size={"student": 3, "residual": 12}[kind], hidden=(16,)),
  )
loss_function: cubic
optimizer: {SignDescent: {shrink: 0.01}}
scheduler: {inverse_root: {after_images: 120}}
learnrate: 0.003
batch_size: 20
max_inputs: 600
"""


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(HERE))
    parts.look_again()
    yield
    sys.modules.pop("aelab_outside", None)
    monkeypatch.undo()
    importlib.invalidate_caches()
    parts.look_again()


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    (tmp_path / "own.yml").write_text(FILE)
    list(lab.run(tmp_path / "own.yml", runs=tmp_path / "runs"))
    return tmp_path


def test_a_file_names_parts_of_every_kind_without_trust(trained: Path) -> None:
    runs = Store(trained / "runs").scan().runs
    assert [run.state for run in runs] == ["finished", "finished"]
    for run in runs:
        rows = run.metrics("validation")
        assert rows[-1]["cubic"] < rows[0]["cubic"] * 0.8
        rates = [row["learnrate"] for row in run.metrics("train")]
        assert rates[-1] == pytest.approx(0.003 * (120 / 580) ** 0.5, rel=0.05)


def test_each_codebook_is_counted_by_itself(trained: Path) -> None:
    (run,) = (r for r in Store(trained / "runs").scan().runs if "residual" in r.folder)
    last = run.metrics("validation")[-1]
    for stage in "012":
        assert 1 / 16 <= last[f"codebook_usage_{stage}"] <= 1
        assert 1 <= last[f"codebook_perplexity_{stage}"] <= 16
    assert "codebook_usage" not in last


def test_a_bottleneck_brings_its_divergence_draws_and_prior(trained: Path) -> None:
    (entry,) = lab.evaluate(
        ["kind-student"], metrics=["elbo", "iwae", "latent_use", "darkness"], runs=trained / "runs"
    )
    assert not entry.problem and not entry.skipped
    assert entry.values["darkness"] > 0.2
    assert entry.values["rate_nats"] > 0
    assert entry.values["iwae_nats"] >= entry.values["iwae_elbo_nats"]


def test_figures_of_others_are_drawn(trained: Path) -> None:
    for name in ("first_picture", "posterior", "sample"):
        path = lab.figure(name, "kind-student", runs=trained / "runs", out=trained / f"{name}.png")
        assert path.stat().st_size > 50


def test_a_sampler_of_others_draws_new_images(trained: Path) -> None:
    run = lab.Lab(trained / "runs").open("kind-residual")
    assert run.sample(5, sampler="near_codes").shape == (5, 1, 8, 8)
    with pytest.raises(UserError, match="did you mean 'near_codes'"):
        run.sample(5, sampler="near_code")
    path = lab.figure(
        "sample",
        "kind-residual",
        runs=trained / "runs",
        options={"sampler": "near_codes"},
        out=trained / "near.png",
    )
    assert path.stat().st_size > 50


def test_a_bridge_of_others_gets_every_row_of_a_run(trained: Path) -> None:
    words = ["bridge", "lines", "--runs", str(trained / "runs"), "--out", str(trained / "lines")]
    answer = CliRunner().invoke(app, words)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.strip().endswith(f"in {trained / 'lines'}")
    lines = (trained / "lines").read_text().splitlines()
    for run in Store(trained / "runs").scan().runs:
        assert f"begin {run.folder}" in lines and f"end {run.folder}" in lines
    rows = [run.metrics("validation") for run in Store(trained / "runs").scan().runs]
    assert sum(line.startswith("validation ") for line in lines) == sum(map(len, rows))


def test_every_kind_of_part_is_listed_with_its_package() -> None:
    brought = {
        kind: [name for name in table if table.package(name) == "aelab-outside"]
        for kind, table in parts.tables().items()
    }
    of_wings = {
        "data set of torchvision", "helper", "loss", "loss name", "old program", "path reader",
        "set of sets", "table layout", "validation", "verb", "writer",
    }  # fmt: skip
    assert {kind for kind, found in brought.items() if found} >= set(brought) - of_wings
    assert PENALTIES.summary("student_kl") == "The penalty of `HeavyTailed`, (B,) nats"


def test_the_penalty_of_the_outside_bottleneck_is_a_divergence() -> None:
    outside = importlib.import_module("aelab_outside")
    freedom = torch.full((2, 1), 4.0)
    location, log_scale = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [-0.5]])
    posterior = outside.StudentTPosterior(location, log_scale, freedom)
    kl = posterior.kl()
    assert kl[0, 0] == pytest.approx(0, abs=1e-6)
    generator = torch.Generator().manual_seed(0)
    many = outside.StudentTPosterior(*(t[1:].expand(200_000, 1) for t in posterior))
    _, ratio = many.draw(lambda shape: torch.randn(shape, generator=generator))
    assert -ratio.mean().item() == pytest.approx(kl[1, 0].item(), abs=0.01)


def test_a_name_of_the_house_is_not_replaced() -> None:
    assert "l1" not in parts.installed("aelab.reconstructions")
    with pytest.raises(ConfigError, match="there is a penalty 'kl' already"):
        register("kl", lambda output: output.latent.sum(1), kind="penalty")


def test_a_registered_penalty_is_found_and_a_wrong_kind_is_told() -> None:
    def spread(output: object) -> torch.Tensor:
        raise AssertionError

    register("spread", spread, kind="penalty")
    try:
        assert PENALTIES["spread"] is spread
    finally:
        PENALTIES.forget("spread")
    with pytest.raises(ConfigError, match="there is no kind of part 'penaltys'; did you mean 'pen"):
        register("spread", spread, kind="penaltys")


def test_a_package_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aelab_outside", None)
    with pytest.raises(ConfigError, match="'student_kl' of the package aelab-outside cannot be"):
        PENALTIES["student_kl"]


def test_a_part_of_a_wing_that_was_never_installed_says_what_to_type(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not parts.reinstall("edges")
    monkeypatch.setattr(parts, "_installed", dict)
    with pytest.raises(UserError, match="no figure 'edges'\n  'edges' is part of aelab, but this"):
        find_figure("edges")
    assert not parts.reinstall("edgse")


def test_all_parts_are_listed_once_until_one_is_added_or_imported_anew() -> None:
    table = parts.table_of("penalty")
    listed = table.all_imported()
    assert listed == dict(table) and table.all_imported() is listed
    register("of_this_test", abs, kind="penalty")
    try:
        assert table.all_imported()["of_this_test"] is abs
    finally:
        table.forget("of_this_test")
    assert "of_this_test" not in table.all_imported()
    before = table.all_imported()["student_kl"]
    del sys.modules["aelab_outside"]
    assert table.all_imported()["student_kl"] is table["student_kl"] is not before
