"""The codes of a run as a data set, from the file to the sampled picture."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from aelab.config import load
from aelab.errors import AelabError, ConfigError, Problems, StoreError, UserError
from aelab.execute.jobs import Job
from aelab.execute.order import in_order
from aelab.lab import Lab

#: Vectors with a posterior, and a map of indices of two codebooks.
TEXT = """
matrix:
  stage: [flow, pair, vae, pixels, codes]
experiment_name: two/${stage}
globals:
  SHAPE: (1, 8, 8)
train_set: |
  {
      "vae": noise_dataset(SHAPE, 96, seed=1),
      "codes": noise_dataset(SHAPE, 96, seed=1),
      "flow": latents_of("two/vae", values="drawn"),
      "pair": latents_of("two/vae"),
      "pixels": latents_of("two/codes"),
  }[stage]
validation_set: |
  {
      "vae": noise_dataset(SHAPE, 24, seed=2),
      "codes": noise_dataset(SHAPE, 24, seed=2),
      "flow": latents_of("two/vae", "validation", values="drawn"),
      "pair": latents_of("two/vae", "validation"),
      "pixels": latents_of("two/codes", "validation"),
  }[stage]
model: |
  def vae(shape, last):
      encoder = VariationalEncoder(EncoderMLP(shape, 16), 16, 4)
      return VariationalAutoencoder(
          encoder, DecoderMLP(shape, 4, activation_last_layer=last), kl_loss_weight=0.01
      )
  {
      "vae": vae(SHAPE, "sigmoid"),
      "codes": Autoencoder(
          nn.Conv2d(1, 8, 4, 4), Grouped([VQ(8, 4), VQ(4, 4)]), nn.ConvTranspose2d(8, 1, 4, 4)
      ),
      "flow": FlowMatching((4, 1, 1), width=16, blocks=1, steps=4),
      "pair": vae((4, 1, 1), None),
      "pixels": CodeTransformer((2, 2, 2), 8, num_hidden=16, num_layers=1, num_heads=2),
  }[stage]
batch_size: 16
learnrate: 0.003
optimizer: Adam
max_images: 320
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A folder of runs in which the file is trained."""
    folder = tmp_path_factory.mktemp("stages")
    (folder / "two.yml").write_text(TEXT, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AELAB_CACHE", str(folder / "cache"))
        made = Lab(folder / "runs")
        plan = made.check(folder / "two.yml")
        assert not [problem for run in plan.runs for problem in run.problems]
        list(made.run(folder / "two.yml"))
        yield made  # type: ignore[misc]


def test_a_file_trains_first_stages_before_the_runs_that_use_them(lab: Lab) -> None:
    states = {run.folder: run.state for run in lab.find()}
    assert states == {
        f"two/{name}": "finished" for name in ("vae", "codes", "flow", "pair", "pixels")
    }
    specs = load(lab.workspace.runs.parent / "two.yml").runs()
    groups = in_order([Job(spec, number) for number, spec in enumerate(specs)])
    assert [[job.spec.matrix["stage"] for job in group] for group in groups] == [
        ["vae", "codes"], ["flow", "pair", "pixels"],
    ]  # fmt: skip


def test_mean_codes_are_those_of_the_encoder_brought_to_one_scale(lab: Lab) -> None:
    first, second = lab.open("two/vae"), lab.open("two/pair")
    images = first.parts.train[0].dataset.load()
    codes = first.encode(images.pixels)
    given = second.parts.train[0].dataset.load()
    assert given.shape == (4, 1, 1)
    wanted = (codes - codes.mean(0)) / codes.std(0)
    assert torch.allclose(given.pixels[..., 0, 0], wanted, atol=1e-4)
    assert torch.allclose(second.medium.to_latents(given.pixels), codes, atol=1e-5)
    # The held-out codes have the scale of the training codes.
    heldout = second.parts.validation[0].dataset.load()
    codes = first.encode(first.parts.validation[0].dataset.load().pixels)
    assert torch.allclose(second.medium.to_latents(heldout.pixels), codes, atol=1e-5)


def test_drawn_codes_spread_around_the_mean_as_the_posterior_does(lab: Lab) -> None:
    first = lab.open("two/vae")
    posterior = first.model(first.parts.train[0].dataset.load().pixels.float() / 255).posterior
    second = lab.open("two/flow")
    drawn = second.medium.to_latents(second.parts.train[0].dataset.load().pixels)
    apart = (drawn - posterior.mean) / posterior.log_std.exp()
    assert apart.mean().abs() < 0.2 and (apart.std() - 1).abs() < 0.1


def test_indices_are_decoded_to_the_latents_they_stand_for(lab: Lab) -> None:
    first, second = lab.open("two/codes"), lab.open("two/pixels")
    images = second.parts.train[0].dataset.load()
    assert images.shape == (2, 2, 2)
    assert images.pixels[:, 0].max() < 8 and images.pixels[:, 1].max() < 4
    latents = first.encode(first.parts.train[0].dataset.load().pixels)
    assert torch.allclose(second.medium.to_latents(images.pixels), latents, atol=1e-6)


@pytest.mark.parametrize("name", ["flow", "pair", "pixels"])
def test_a_run_is_a_sampler_of_its_first_stage(lab: Lab, name: str, tmp_path: Path) -> None:
    first = "two/codes" if name == "pixels" else "two/vae"
    made = lab.open(first).sample(3, f"run:two/{name}", out=tmp_path / "samples")
    assert made.shape == (3, 1, 8, 8) and made.std() > 0
    again = lab.open(first).sample(3, f"run:two/{name}")
    assert torch.equal(made, again)
    assert not torch.equal(made, lab.open(first).sample(3, f"run:two/{name}", seed=1))
    assert len(list((tmp_path / "samples").glob("*.png"))) == 3


def test_pictures_of_a_second_stage_are_what_the_first_decodes(lab: Lab) -> None:
    first, second = lab.open("two/vae"), lab.open("two/pair")
    given = second.parts.validation[0].dataset.load().pixels[:2]
    shown = second.medium.picture(given)
    assert shown.shape == (2, 1, 8, 8) and shown.dtype == torch.uint8
    decoded = first.decode(second.medium.to_latents(given)).clamp(0, 1) * 255
    assert torch.equal(shown, decoded.round().to(torch.uint8))
    assert second.figure("sample").is_file()


@pytest.mark.slow
def test_decoded_samples_are_measured_like_those_of_the_first_stage(lab: Lab) -> None:
    second = lab.open("two/pair").evaluate(["decoded_samples"]).values
    options = {"samples": {"sampler": "run:two/pair"}}
    first = lab.open("two/vae").evaluate(["samples"], options=options).values
    assert second == first and second["frechet"] > 0


def test_a_second_stage_knows_the_weights_it_was_trained_on(lab: Lab) -> None:
    run = lab.open("two/flow").run
    state = lab.workspace.store.resolve("two/vae")[1]
    assert run.record["first_stage"] == {
        "run": "two/vae", "images": 320, "weights_sha256": state.about()["tensors"]["sha256"],
    }  # fmt: skip


def test_a_sampler_must_have_been_trained_on_the_codes_of_the_run(lab: Lab) -> None:
    with pytest.raises(UserError, match=r"was not trained on the codes of two/codes@320"):
        lab.open("two/codes").sample(2, "run:two/flow")
    with pytest.raises(UserError, match="but on ordinary images"):
        lab.open("two/vae").sample(2, "run:two/codes")
    with pytest.raises(StoreError, match="missing"):
        lab.open("two/vae").sample(2, "run:missing")


def _one(lab: Lab, tmp_path: Path, codes: str, model: str = "FlowMatching((4, 1, 1))") -> Path:
    path = tmp_path / "one.yml"
    path.write_text(
        f"experiment_name: one\ntrain_set: {codes}\nmodel: {model}\nbatch_size: 8\n"
        "learnrate: 0.001\noptimizer: Adam\nmax_images: 8\n",
        encoding="utf-8",
    )
    return path


@pytest.mark.parametrize(
    ("codes", "words"),
    [
        ("latents_of('nothing')", "no run.*nothing"),
        ("latents_of('two/vae', values='indices')", "has no codebooks"),
        ("latents_of('two/codes', values='drawn')", "no posterior to draw from"),
        ("latents_of('two/vae', 'test')", "split = 'test' does not fit"),
        ("latents_of('two/vae').random_shift(1)", "as if they were pictures"),
        ("latents_of('one')", "its own first stage"),
        ("latents_of('two/codes')", "the images are indices of codebooks"),
    ],
)
def test_mistakes_are_told_before_training(
    lab: Lab, tmp_path: Path, codes: str, words: str
) -> None:
    plan = lab.check(_one(lab, tmp_path, codes))
    problems = " ".join(str(problem) for run in plan.runs for problem in run.problems)
    assert re.search(words, problems), problems


def test_a_file_uses_no_run_outside_of_the_folder_of_runs(lab: Lab, tmp_path: Path) -> None:
    outside = tmp_path / "runs"
    outside.mkdir()
    path = lab.workspace.store.open("two/vae").path
    plan = Lab(outside).check(_one(lab, tmp_path, f"latents_of('{path}')"))
    assert plan.runs[0].problems


def test_codes_outside_of_the_codebook_are_told_with_the_right_size(
    lab: Lab, tmp_path: Path
) -> None:
    model = "CodeTransformer((2, 2, 2), 4, num_hidden=16, num_layers=1, num_heads=2)"
    events = list(lab.run(_one(lab, tmp_path, "latents_of('two/codes')", model)))
    assert any("use codebook_size=8 or more" in str(event) for event in events)


def test_a_changed_first_stage_is_told_by_every_verb(tmp_path: Path) -> None:
    path, lab = tmp_path / "two.yml", Lab(tmp_path / "runs")
    text = TEXT.replace("[flow, pair, vae, pixels, codes]", "[flow, vae]")
    path.write_text(text, encoding="utf-8")
    list(lab.run(path))
    other = text.replace("learnrate: 0.003", "learnrate: 0.01")
    path.write_text(other, encoding="utf-8")
    list(lab.run(path, only="two/vae", restart=True))
    with pytest.raises(StoreError, match="two/flow was trained on the codes of two/vae at 320"):
        lab.open("two/flow")
    path.write_text(text, encoding="utf-8")
    with pytest.raises(Problems, match="has been trained anew since"):
        list(lab.run(path, only="two/flow"))
    path.write_text(other, encoding="utf-8")
    list(lab.run(path, only="two/flow", restart=True))
    assert lab.open("two/vae").sample(2, "run:two/flow").shape == (2, 1, 8, 8)


def test_an_unfinished_first_stage_is_told(tmp_path: Path) -> None:
    path, lab = tmp_path / "two.yml", Lab(tmp_path / "runs")
    path.write_text(TEXT.replace("[flow, pair, vae, pixels, codes]", "[vae]"), encoding="utf-8")
    list(lab.run(path))
    lab.workspace.store.open("two/vae").set_status("interrupted")
    plan = lab.check(_one(lab, tmp_path, "latents_of('two/vae')"))
    assert "is not finished, it is interrupted" in str(plan.runs[0].problems[0])
    with pytest.raises((ConfigError, AelabError)):
        list(lab.run(path.with_name("one.yml")))


BROKEN = """
matrix: {stage: [vae, pair]}
experiment_name: two/${stage}
train_set: |
  noise_dataset((1, 8, 8), 64, seed=1) if stage == "vae" else latents_of("two/vae")
model: |
  EncoderDecoder(EncoderMLP((1, 8, 8), 4), DecoderMLP((1, 8, 8), 4)) if stage == "vae" else \\
      EncoderDecoder(EncoderMLP((4, 1, 1), 2), DecoderMLP((4, 1, 1), 2))
loss_function: l2
batch_size: 16
learnrate: 0.01
optimizer: Adam
max_images: 64
"""


def test_a_second_stage_is_trained_as_soon_as_its_first_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    path, lab = tmp_path / "two.yml", Lab(tmp_path / "runs")
    path.write_text(BROKEN, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:

        def fails(*_: object) -> None:
            raise RuntimeError("out of luck")

        patch.setattr("aelab.execute.session.make_state", fails)
        list(lab.run(path, only="two/vae"))
    store = lab.workspace.store
    assert store.open("two/vae").state == "failed"
    list(lab.run(path))
    assert store.open("two/vae").state == "failed"  # skipped: it failed before
    waiting = store.open("two/pair")
    assert waiting.state == "interrupted" and "two/vae" in waiting.status["error"]["message"]
    list(lab.run(path, only="two/vae", retry_failed=True))
    list(lab.run(path))
    assert store.open("two/pair").state == "finished"


def test_a_budget_is_refused_where_one_run_needs_another(tmp_path: Path) -> None:
    path = tmp_path / "two.yml"
    path.write_text(TEXT, encoding="utf-8")
    with pytest.raises(ConfigError, match="which must be finished first"):
        list(Lab(tmp_path / "runs").run(path, budget=60))
