"""Stored runs measured and drawn: what is written, shown, skipped and refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from aelab import lab
from aelab.errors import MissingExtra, UserError
from aelab.runs.evaluation import evaluated_values, read_evaluation
from aelab.runs.record import Run
from aelab.study.figures import FIGURES

FILE = """
matrix:
  kind: [vae, plain]

experiment_name: small/${matrix_slug}

globals:
  SHAPE: (1, 8, 8)

train_set: noise_dataset(SHAPE, size=120, seed=1)
validation_set: noise_dataset(SHAPE, size=40, seed=2)

model: |
  encoder = EncoderMLP(SHAPE, code_size=8)
  decoder = DecoderMLP(SHAPE, code_size=4)
  {
      "vae": VariationalAutoencoder(VariationalEncoder(encoder, 8, 4), decoder, "l2",
                                    kl_loss_weight=0.01),
      "plain": EncoderDecoder(EncoderMLP(SHAPE, code_size=4), decoder),
  }[kind]

loss_function: l2
optimizer: Adam
batch_size: 16
learnrate: 0.001
max_inputs: 160
num_inputs_between_validations: 80
num_train_loss_steps: 40
"""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two finished runs, a variational one and a plain one."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "small.yml").write_text(FILE, encoding="utf-8")
    list(lab.run(folder / "small.yml", runs=folder / "runs"))
    return folder / "runs"


def _runs(store: Path) -> dict[str, Run]:
    return {str(run.record["matrix"]["kind"]): run for run in lab.find_runs(runs=store)}


def test_an_evaluation_is_kept_beside_the_run_and_shown_in_tables(store: Path) -> None:
    found = {str(e.run.record["matrix"]["kind"]): e for e in lab.evaluate(runs=store)}
    assert not any(entry.problem for entry in found.values())
    vae, plain = found["vae"], found["plain"]
    assert {"l1", "psnr_db", "elbo_nats", "active_units", "skill_l2"} <= set(vae.values)
    assert "elbo_nats" not in plain.values
    assert "characters" not in plain.skipped  # nobody asked
    assert plain.skipped["elbo"] == "the latent has no posterior to draw from"
    stored = read_evaluation(_runs(store)["vae"])
    assert stored["images"] == vae.images
    assert stored["heldout_images"] == 40
    assert stored["metrics"]["reproduction"]["values"]["l2"] == vae.values["l2"]
    text = lab.table(runs=store, include=["psnr_db", "elbo_nats"], format="csv")
    assert "psnr_db" in text
    assert f"{vae.values['psnr_db']:.6g}"[:5] in text


def test_the_error_is_that_of_validation(store: Path) -> None:
    run = _runs(store)["plain"]
    (entry,) = lab.evaluate([run.folder], metrics=["reproduction"], state="latest", runs=store)
    last = run.status["last"]
    # Clamped to what one sees; at this start hardly a pixel lies outside of 0..1.
    assert entry.values["l2"] == pytest.approx(last["l2"], rel=0.05)


def test_other_metrics_of_the_same_state_are_added_and_of_another_state_replaced(
    store: Path,
) -> None:
    run = _runs(store)["vae"]
    list(lab.evaluate([run.folder], metrics=["reproduction"], runs=store))
    list(lab.evaluate([run.folder], metrics=["latent_use"], runs=store))
    assert {"psnr_db", "active_units"} <= set(evaluated_values(run))
    list(lab.evaluate([run.folder], metrics=["latent_use"], limit=20, runs=store))
    assert "psnr_db" not in evaluated_values(run)


def test_options_reach_the_metric_and_are_kept(store: Path) -> None:
    run = _runs(store)["vae"]
    (entry,) = lab.evaluate(
        [run.folder], metrics=["iwae"], options={"iwae": {"samples": 3}}, runs=store
    )
    assert entry.values["iwae_samples"] == 3
    assert read_evaluation(run)["metrics"]["iwae"]["options"] == {"samples": 3}


def test_an_unknown_metric_is_named_with_the_nearest(store: Path) -> None:
    with pytest.raises(UserError, match="did you mean 'elbo'"):
        list(lab.evaluate(metrics=["elbow"], runs=store))


def test_a_run_that_cannot_be_opened_does_not_end_the_others(store: Path) -> None:
    found = list(lab.evaluate(state="12345", metrics=["reproduction"], runs=store))
    assert len(found) == 2
    assert all("12345" in e.problem.replace(",", "").replace("_", "") for e in found)


def test_a_damaged_evaluation_counts_as_none(store: Path) -> None:
    run = _runs(store)["plain"]
    run.write_bytes("evaluation.json", b'{"metrics": {"x": {"values": {"l1": "much"}}}, "images": ')
    assert read_evaluation(run) == {}
    run.write_json("evaluation.json", {"metrics": {"x": {"values": {"l1": "much"}}}})
    assert evaluated_values(run) == {}


#: tests/models/test_conditional.py draws the figures of sets with classes.
_OF_CLASSES = {"conditioned", "labels"}
_QUICK = [
    name
    for name, figure in FIGURES.items()
    if figure.cost == "cheap" and figure.medium in ("", "pixels") and not _OF_CLASSES & figure.needs
]


@pytest.mark.parametrize("name", _QUICK)
def test_a_figure_is_a_readable_picture_and_repeats_itself(store: Path, name: str) -> None:
    run = _runs(store)["vae"]
    path = lab.figure(name, run.folder, runs=store)
    assert path.parent == run.path / "figures"
    first = path.read_bytes()
    with Image.open(io.BytesIO(first)) as picture:
        picture.load()
        assert min(picture.size) >= 16  # two by two of 8x8 pixels
    assert lab.figure(name, run.folder, runs=store).read_bytes() == first


def test_a_map_by_tsne_by_thumbnails_and_the_documents_own(store: Path) -> None:
    run = _runs(store)["vae"]
    for options in ({"method": "tsne"}, {"mark": "thumbnails"}):
        assert lab.figure("map", run.folder, options=options, runs=store).stat().st_size > 1000
    assert lab.figure("tsne_plot", run.folder, runs=store).exists()


@pytest.mark.slow  # the first UMAP of a process is compiled for half a minute
def test_a_map_by_umap(store: Path) -> None:
    run = _runs(store)["vae"]
    path = lab.figure("map", run.folder, options={"method": "umap"}, runs=store)
    assert path.stat().st_size > 1000


def test_a_plain_autoencoder_is_sampled_from_its_codes_and_has_no_posterior(store: Path) -> None:
    run = _runs(store)["plain"]
    assert lab.figure("sample", run.folder, runs=store).exists()
    with pytest.raises(UserError, match="no posterior to draw from"):
        lab.figure("posterior", run.folder, runs=store)


def test_options_come_as_text_from_a_command_line(store: Path, tmp_path: Path) -> None:
    run = _runs(store)["vae"]
    sizes = []
    for steps in ("4", "9"):
        path = lab.figure(
            "interpolation", run.folder, options={"steps": steps, "path": "linear"},
            out=tmp_path / f"{steps}.png", runs=store,
        )  # fmt: skip
        with Image.open(path) as picture:
            sizes.append(picture.width)
    assert sizes[1] > sizes[0] * 1.5


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("interpolaton", {}, "did you mean 'interpolation'"),
        ("interpolation", {"step": "3"}, "did you mean 'steps'"),
        ("interpolation", {"steps": "many"}, "a whole number, got 'many'"),
        ("interpolation", {"path": "round"}, "linear, spherical"),
        ("sample", {"sampler": "prio"}, "did you mean 'prior'"),
        ("interpolation", {"pairs": "0"}, "pairs: at least 1, got 0"),
        ("map", {"method": "pac"}, "did you mean 'pca'"),
        ("film", {"kind": "avi"}, "webp, gif, mp4"),
    ],
)
def test_mistakes_say_what_is_possible(
    store: Path, name: str, options: dict[str, str], words: str
) -> None:
    with pytest.raises(UserError, match=words):
        lab.figure(name, _runs(store)["vae"].folder, options=options, runs=store)


def test_a_film_holds_every_stored_moment(store: Path) -> None:
    run = _runs(store)["vae"]
    moments = len(list((run.path / "images").glob("heldout-0*.png")))
    for kind in ("webp", "gif"):
        path = lab.figure("film", run.folder, options={"kind": kind}, runs=store)
        with Image.open(path) as picture:
            assert picture.n_frames == moments > 1  # type: ignore[attr-defined]


def test_the_ending_of_a_file_chooses_the_kind_of_a_film(store: Path, tmp_path: Path) -> None:
    run = _runs(store)["vae"]
    path = lab.figure("film", run.folder, out=tmp_path / "way.gif", runs=store)
    with Image.open(path) as picture:
        assert picture.format == "GIF"
    with pytest.raises(UserError, match=r"map\.jpg: this figure is a \.png file"):
        lab.figure("map", run.folder, out=tmp_path / "map.jpg", runs=store)


def test_a_film_as_mp4_needs_an_extra_and_says_so(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(MissingExtra, match=r"aelab\[video\]"):
        lab.figure("film", _runs(store)["vae"].folder, options={"kind": "mp4"}, runs=store)


def test_the_report_shows_figures_and_draws_the_quick_ones(store: Path, tmp_path: Path) -> None:
    told = list(lab.figures(runs=store))
    assert len(told) == 2
    plain = next(line for line in told if "plain" in line)
    assert plain.count("the latent has no posterior to draw from") == 1
    assert "not posterior, samples" in plain
    assert "not kl: the latent has no divergence from a prior for each dimension" in plain
    page = lab.report(out=tmp_path / "r.html", runs=store).read_text("utf-8")
    assert page.count("<figcaption>traversals</figcaption>") == 2
    assert page.count("<figcaption>kl</figcaption>") == 1
    assert "data:image/webp;base64," in page
    assert "Shown: 16 of 40 held-out images; 16 of 120 training images: a random draw" in page


def test_the_verbs_print_tables_and_json(
    store: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from aelab.cli.main import main

    def call(*words: str) -> str:
        monkeypatch.setattr("sys.argv", ["aelab", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        assert not ended.value.code
        return capsys.readouterr().out

    assert "PSNR" in call("evaluate", "--list")
    found = json.loads(call("evaluate", "--runs", str(store), "-m", "reproduction", "--json"))
    assert {"l1", "l2", "psnr_db", "ssim"} == set(found[0]["values"])
    assert "psnr_db" in call("evaluate", "--runs", str(store), "-m", "reproduction")
    assert "interpolation" in call("figure", "--list")
    folder = _runs(store)["vae"].folder
    printed = call("figure", "map", folder, "-o", "method=pca", "--runs", str(store))
    assert printed.strip().endswith("figures/map.png")


def test_evaluations_say_over_how_many_of_how_many_images(store: Path) -> None:
    from aelab.cli.evaluate import evaluated_json, evaluated_text

    run = _runs(store)["vae"]
    options = {"iwae": {"samples": 3, "images": 10}}
    found = list(
        lab.evaluate([run.folder], metrics=["iwae", "elbo"], limit=30, options=options, runs=store)
    )
    text = evaluated_text(found)
    assert "over 30 of 40 held-out images, drawn at random" in text
    assert "iwae: over 10 of 40 held-out images" in text
    (row,) = json.loads(evaluated_json(found))
    assert (row["heldout_images"], row["heldout_total"]) == (30, 40)
    assert row["heldout_images_of"] == {"iwae": 10}
    columns = ["iwae_nats", "elbo_nats"]
    table = lab.table(runs=store, include=columns, only=run.folder)
    assert "iwae_nats: over 10 of 40 held-out images, drawn at random" in table
    assert "elbo_nats: over 30 of 40 held-out images, drawn at random" in table
    (told,) = json.loads(lab.table(runs=store, include=columns, only=run.folder, format="json"))
    assert told["included_over"]["iwae_nats"] == {"heldout_images": 10, "of": 40}


def test_numbers_over_different_images_are_told_apart(store: Path) -> None:
    for kind, limit in (("vae", 20), ("plain", 40)):
        list(lab.evaluate([_runs(store)[kind].folder], limit=limit, runs=store))
    text = lab.table(runs=store, include=["psnr_db"])
    assert "psnr_db: over 20 of 40 held-out images, drawn at random; 40 held-out images" in text
    assert "these do not compare" in text


def test_numbers_over_the_first_images_of_earlier_versions_are_left_out_and_named(
    store: Path,
) -> None:
    run = _runs(store)["vae"]
    list(lab.evaluate([run.folder], metrics=["reproduction"], runs=store))
    old = json.loads((run.path / "evaluation.json").read_text("utf-8"))
    for key in ("images_are", "heldout_total"):
        del old[key]
    del old["metrics"]["reproduction"]["heldout_images"]
    old["metrics"]["iwae"] = {"values": {"iwae_nats": -1.0}, "seconds": 1.0, "options": {}}
    run.write_json("evaluation.json", old)
    assert read_evaluation(run)["outdated"] == ["iwae"]  # the other is over all images
    assert "psnr_db" in evaluated_values(run)
    assert "iwae_nats" not in evaluated_values(run)
    run.write_json("evaluation.json", {**old, "heldout_images": 20})  # the first 20 of 40
    assert evaluated_values(run) == {}
    list(lab.evaluate([_runs(store)["plain"].folder], metrics=["reproduction"], runs=store))
    text = lab.table(runs=store, include=["psnr_db"])
    assert "1 of 2 runs have numbers over the first images of their set" in text
    list(lab.evaluate([run.folder], metrics=["reproduction"], runs=store))
    assert "outdated" not in read_evaluation(run)
    assert set(read_evaluation(run)["metrics"]) == {"reproduction"}
