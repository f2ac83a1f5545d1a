"""A model that knows classes: its divergence, what the class tells, and samples of one class."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from typer.testing import CliRunner

from aelab import roots
from aelab.cli.main import app
from aelab.errors import ConfigError, UserError
from aelab.lab import Lab
from aelab.losses import make_objective
from aelab.losses.aggregate import TotalCorrelation, mmd_term
from aelab.losses.latent import feature_statistics_term, kl_sparse_term, latent_l2_term
from aelab.metrics import Subject, pca_skill, separation
from aelab.metrics.distances import draw_images
from aelab.models import (
    ConditionalAutoencoder,
    DecoderMLP,
    EncoderMLP,
    VariationalAutoencoder,
    VariationalEncoder,
)
from aelab.ops.sampling import same_borders
from aelab.posteriors import GaussianPosterior
from aelab.stages.first import FirstStage
from aelab.study.evaluation import subject_of
from aelab.study.explored import Explored
from aelab.study.figures import sheets
from aelab.study.figures.maps import chosen_codes, code_histogram
from aelab.study.inputs import labels_of, unit_images
from aelab.study.opened import OpenedRun
from aelab.study.rendering import Request, encode_and_render, reconstruct, renderer
from aelab.tensor_pictures import picture_line
from aelab.train import (
    Choice,
    FitSettings,
    StackedLearner,
    State,
    evaluate,
    fit,
    make_learner,
    make_state,
)
from aelab.types import Images, Output

SHAPE = (1, 6, 6)


def conditional(classes: int = 4, **options: object) -> ConditionalAutoencoder:
    return ConditionalAutoencoder(
        VariationalEncoder(EncoderMLP(SHAPE, 16, hidden=(32,)), 16, 3),
        DecoderMLP(SHAPE, 3 + classes, hidden=(32,), activation_last_layer="sigmoid"),
        SHAPE,
        classes,
        **options,  # type: ignore[arg-type]
    )


def told_by_class(count: int, seed: int = 0) -> Images:
    """Upper half: a fixed pattern of the class. Lower: a bar of half the width."""
    generator = torch.Generator().manual_seed(seed)
    patterns = torch.randint(0, 2, (4, 3, 6), generator=torch.Generator().manual_seed(9))
    labels = torch.randint(0, 4, (count,), generator=generator)
    bars = torch.randint(0, 6, (count,), generator=generator)
    pixels = torch.zeros(count, 1, 6, 6)
    pixels[:, 0, :3] = patterns[labels].float()
    for more in range(3):
        pixels[torch.arange(count), 0, 3:, (bars + more) % 6] = 1.0
    return Images(pixels, labels)


SETTINGS = FitSettings(
    max_images=16_000, batch_size=32, learnrate=0.003, optimizer=Choice("Adam"), threads=1
)
TERMS = {"bce": {"reduction": "sum"}, "kl": 1}


def trained(model: torch.nn.Module, images: Images, seed: int = 0) -> State:
    state = make_state(model, SETTINGS)
    objective = make_objective((), objective=TERMS)
    for _ in fit(state, objective, images, None, SETTINGS):
        pass
    return state


def test_the_divergence_is_that_of_torch_between_both_gaussians() -> None:
    torch.manual_seed(0)
    model = conditional(class_prior=True)
    torch.nn.init.normal_(model.prior_mean)
    torch.nn.init.normal_(model.prior_log_std, std=0.5)
    labels = torch.tensor([0, 3, 1, 2, -1])
    posterior = model(torch.rand(5, *SHAPE), None, labels).posterior
    known = labels.clamp(min=0)
    prior_mean = model.prior_mean[known] * (labels >= 0)[:, None]
    prior_std = (model.prior_log_std[known] * (labels >= 0)[:, None]).exp()
    q, p = Normal(posterior.mean, posterior.log_std.exp()), Normal(prior_mean, prior_std)
    torch.testing.assert_close(posterior.kl(), kl_divergence(q, p))
    latent, ratio = posterior.draw(torch.randn)
    code = latent[:, :3]
    wanted = (p.log_prob(code) - q.log_prob(code)).sum(1).double()
    torch.testing.assert_close(ratio, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(latent[:, 3:].argmax(1)[:4], labels[:4]) and not latent[4, 3:].any()


@torch.no_grad()
def test_samples_of_the_prior_have_mean_spread_and_classes_of_the_batch() -> None:
    model = conditional(class_prior=True)
    model.prior_mean.copy_(torch.arange(12.0).view(4, 3))
    model.prior_log_std.fill_(-1.0)
    posterior = model(torch.rand(4, *SHAPE), None, torch.tensor([2, 2, 2, 0])).posterior
    drawn = posterior.draw_prior(8000, torch.randn)
    of_two = drawn[:, 5] == 1
    assert float(of_two.float().mean()) == pytest.approx(0.75, abs=0.02)
    torch.testing.assert_close(
        drawn[of_two, :3].mean(0), torch.tensor([6.0, 7.0, 8.0]), atol=0.03, rtol=0
    )
    assert float(drawn[of_two, :3].std(0).mean()) == pytest.approx(0.368, abs=0.01)


def test_what_the_class_tells_costs_no_nats() -> None:
    torch.manual_seed(0)
    known = trained(conditional(), told_by_class(1024))
    torch.manual_seed(0)
    plain = trained(
        VariationalAutoencoder(
            VariationalEncoder(EncoderMLP(SHAPE, 16, hidden=(32,)), 16, 3),
            DecoderMLP(SHAPE, 3, hidden=(32,), activation_last_layer="sigmoid"),
            "bce",
        ),
        told_by_class(1024),
    )
    objective = make_objective((), objective=TERMS)
    found = [
        evaluate(state.learner.members[0].model, objective, told_by_class(256, 1), SETTINGS)
        for state in (known, plain)
    ]
    # The class holds ln 4 = 1.39 nats; the bar ln 6 = 1.79.
    assert found[0]["kl"] < found[1]["kl"] - 0.7
    assert found[0]["loss"] < found[1]["loss"] - 1
    model = known.learner.members[0].model
    images = told_by_class(64, 2)
    assert images.labels is not None
    codes = model.encode(images.pixels, images.labels)  # type: ignore[operator]
    other = (images.labels + 1) % 4
    swapped = model.decode(model.with_label(codes, other))  # type: ignore[operator]
    upper = {int(n): image[0, :3] for n, image in zip(images.labels, images.pixels, strict=True)}
    wanted = torch.stack([upper[int(n)] for n in other])
    # Another class changes the upper half to its pattern, and the lower half stays.
    assert ((swapped[:, 0, :3] > 0.5) == wanted.bool()).float().mean() > 0.97
    assert ((swapped[:, 0, 3:] > 0.5) == images.pixels[:, 0, 3:].bool()).float().mean() > 0.9


def test_dropping_hides_the_stated_share_of_labels_in_training_only() -> None:
    model = conditional(label_dropping=0.25)
    labels, noise = torch.zeros(8000, dtype=torch.int64), torch.randn(8000, 4)
    images = torch.rand(1, *SHAPE).expand(8000, -1, -1, -1)
    with torch.no_grad():
        hidden = 1 - model.train()(images, noise, labels).latent[:, 3:].sum(1)
    assert float(hidden.mean()) == pytest.approx(0.25, abs=0.02)
    with torch.no_grad():
        assert float(model.eval()(images, noise, labels).latent[:, 3:].sum(1).mean()) == 1
    assert model.noise_shape == (4,) and not model.needs_labels and conditional().needs_labels


def test_stacked_runs_and_parts_of_a_batch_get_the_labels_of_their_images() -> None:
    images = told_by_class(96)
    settings = FitSettings(
        max_images=64, batch_size=32, learnrate=0.01, micro_batch_size=16, threads=1
    )
    objective = make_objective((), objective=TERMS)

    def models() -> list[ConditionalAutoencoder]:
        made = []
        for seed in (1, 2):
            torch.manual_seed(seed)
            made.append(conditional(label_dropping=0.2))
        return made

    def weights(model: torch.nn.Module) -> Tensor:
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    alone = []
    for model in models():
        state = make_state(model, settings)
        list(fit(state, objective, images, None, settings))
        alone.append(weights(model))
    learners = [make_learner(model, settings) for model in models()]
    list(fit(State(StackedLearner(learners)), objective, images, None, settings))
    for learner, own in zip(learners, alone, strict=True):
        torch.testing.assert_close(weights(learner.model), own, rtol=1e-3, atol=1e-5)


def test_a_set_without_classes_or_with_more_is_refused_with_the_way_out() -> None:
    images = told_by_class(64)
    with pytest.raises(ConfigError, match="the train_set has none") as caught:
        trained(conditional(), Images(images.pixels))
    assert "subfolder" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="has 4 classes, the model knows 3"):
        trained(conditional(3), images)
    for wrong in ({"classes": 1}, {"label_dropping": 1.0}):
        with pytest.raises(ConfigError, match="possible"):
            conditional(**wrong)  # type: ignore[arg-type]


FILE = """
experiment_name: NAME
globals:
  SHAPE: (1, 8, 8)
train_set: image_folder_dataset("pictures", SHAPE)
validation_set: image_folder_dataset("pictures", SHAPE)
model: |
  MODEL
objective: {bce: {reduction: sum}, kl: 1}
batch_size: 8
learnrate: 0.01
optimizer: Adam
max_images: 2400
"""
ENCODER = "VariationalEncoder(EncoderMLP(SHAPE, 16), 16, 2)"
SIGMOID = 'activation_last_layer="sigmoid"'


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A folder of bright and of dark pictures, and runs with and without classes."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("classes")
    generator = torch.Generator().manual_seed(0)
    for number in range(24):
        name, level = (("bright", 200), ("dark", 20))[number % 2]
        pixels = level + torch.randint(0, 40, (8, 8), generator=generator)
        (folder / "pictures" / name).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels.to(torch.uint8).numpy())
        picture.save(folder / "pictures" / name / f"{number}.png")
    home = Lab(folder / "runs", device="cpu")
    models = {
        "with": f"ConditionalAutoencoder({ENCODER}, DecoderMLP(SHAPE, 4, {SIGMOID}), SHAPE, 2)",
        "without": f"VariationalAutoencoder({ENCODER}, DecoderMLP(SHAPE, 2, {SIGMOID}))",
    }
    for name, text in models.items():
        (folder / f"{name}.yml").write_text(FILE.replace("MODEL", text).replace("NAME", name))
        assert not [p for run in home.check(folder / f"{name}.yml").runs for p in run.problems]
        list(home.run(folder / f"{name}.yml"))
    return home


@pytest.fixture(scope="module")
def opened(lab: Lab) -> OpenedRun:
    return lab.open("with")


def test_samples_of_a_class_look_like_it(lab: Lab, opened: OpenedRun) -> None:
    assert opened.classes == ("bright", "dark")
    for run in (opened, lab.open("without")):
        bright, dark = (run.sample(8, of_class=name).mean() for name in ("bright", "dark"))
        assert bright > 0.6 and dark < 0.4
    with pytest.raises(UserError, match="no class 'drak'; did you mean 'dark'"):
        opened.sample(8, of_class="drak")
    with pytest.raises(UserError, match="does not know classes"):
        lab.open("without").sample(8, "prior", of_class="dark")


def test_images_bring_their_classes_or_are_told_to(opened: OpenedRun) -> None:
    given = opened.inputs("validation")
    codes = opened.encode("validation")
    assert codes.shape == (24, 4)
    assert [opened.classes[n] for n in codes[:, 2:].argmax(1)] == list(given.class_names)
    one = given.pixels[:1]
    assert torch.equal(opened.encode(one, classes=["dark"])[:, 2:], torch.tensor([[0.0, 1.0]]))
    assert (
        opened.reconstruct(one, classes=["dark"]).mean()
        < opened.reconstruct(one, classes=["bright"]).mean()
    )
    for use in (opened.encode, opened.reconstruct):
        with pytest.raises(UserError, match="needs the class of each image") as caught:
            use(one)
        assert "label_dropping" in str(caught.value.hint) and "--class" in str(caught.value.hint)
    both = torch.cat([one, one])
    assert torch.equal(
        opened.encode(both, classes="dark"), opened.encode(both, classes=["dark", "dark"])
    )


def test_a_dropped_picture_is_taken_for_the_class_that_reproduces_it_best(
    opened: OpenedRun,
) -> None:
    folder = opened.run.path.parent.parent / "pictures"
    for name in ("bright", "dark"):
        path = sorted((folder / name).iterdir())[0]
        known = opened.encode(path, classes=name)
        for look in (Explored(opened).look, opened.looker().look):
            found = look(path)
            assert found["class"] == name and found["nearest"]
        torch.testing.assert_close(torch.tensor(found["code"]), known[0])


def test_a_folder_without_classes_is_encoded_as_the_given_class(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = str(lab.workspace.runs.parent / "pictures" / "dark")
    for verb, out in (("encode", "codes.csv"), ("reconstruct", "made")):
        words = [verb, "with", folder, "--out", out, "--runs", str(lab.workspace.runs)]
        refused = CliRunner().invoke(app, words)
        hint = str(getattr(refused.exception, "hint", refused.output))
        assert "--class" in hint and "known: bright, dark" in hint
        answer = CliRunner().invoke(app, [*words, "--class", "dark"])
        assert answer.exit_code == 0, answer.output
        assert (tmp_path / out).exists()
    assert ",dark," in (tmp_path / "codes.csv").read_text()


def test_a_graph_of_images_alone_is_refused_for_a_model_that_needs_classes(
    opened: OpenedRun, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="needs the class of each") as caught:
        opened.export(tmp_path / "graphs", ["torch-export"])
    assert "safetensors" in str(caught.value.hint)
    assert opened.export(tmp_path / "files", ["safetensors"])


def test_figures_and_measures_know_the_classes(lab: Lab, opened: OpenedRun, tmp_path: Path) -> None:
    for name in ("class_samples", "class_swap", "sample", "traversals"):
        assert opened.figure(name, out=tmp_path / f"{name}.png").stat().st_size > 500
    lab.open("without").figure("class_samples", out=tmp_path / "fitted.png")
    with pytest.raises(UserError, match="not conditioned on classes"):
        lab.open("without").figure("class_swap", out=tmp_path / "none.png")
    values = opened.evaluate(["elbo", "latent_use"]).values
    assert values["latent_dims"] == 2 and values["active_units"] <= 2
    assert values["rate_nats"] >= 0


def test_a_second_stage_learns_the_codes_with_the_classes_of_the_images(
    lab: Lab, opened: OpenedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    text = (lab.workspace.runs.parent / "with.yml").read_text()
    head = "\n".join(
        line for line in text.splitlines() if not line.startswith(("train_set", "validation_set"))
    ).split("model:")[0]
    path = tmp_path / "codes.yml"
    path.write_text(
        head.replace("with", "codes") + "train_set: latents_of('with')\n"
        "model: FlowMatching((4, 1, 1), width=8, blocks=1, steps=2)\n"
        "batch_size: 8\nlearnrate: 0.01\noptimizer: Adam\nmax_images: 64\n"
    )
    list(lab.run(path))
    with roots.entering(roots.Roots((lab.workspace.runs.parent,), runs=lab.workspace.runs)):
        first = FirstStage.find("with")
    found = first.codes("train", "mean", 0)["values"]
    assert torch.equal(found[:, 2:], opened.encode("train")[:, 2:])
    torch.testing.assert_close(found, opened.encode("train"))
    drawn = first.codes("train", "drawn", 0)["values"]
    assert torch.equal(drawn[:, 2:], found[:, 2:]) and not torch.equal(drawn, found)
    assert opened.sample(3, "run:codes").shape == (3, 1, 8, 8)


def test_a_render_is_that_of_the_class(lab: Lab, tmp_path: Path) -> None:
    text = (lab.workspace.runs.parent / "with.yml").read_text()
    own = f"DecoderMLP(SHAPE, 4, {SIGMOID})"
    assert own in text
    implicit = "fast_implicit_decoder(SHAPE, 4, num_hidden=8)"
    path = lab.workspace.runs.parent / "implicit.yml"
    path.write_text(text.replace(own, implicit).replace("with", "implicit"))
    list(lab.run(path))
    run = lab.open("implicit")
    given = run.inputs("validation")
    labels = labels_of(run, len(given), given)[0]
    images, decoder = unit_images(given), renderer(run, Request())
    size, whole = (8, 8), same_borders((8, 8), (8, 8))
    made = encode_and_render(run.model, decoder, images, size, whole, labels)
    torch.testing.assert_close(made, run.reconstruct("validation").clamp(0, 1))
    torch.testing.assert_close(reconstruct(run.model, images, (0.0, 1.0), labels), made)
    unknown = encode_and_render(run.model, decoder, images, size, whole)
    assert not torch.allclose(made, unknown, atol=1e-3)
    assert len(run.render(["16"], images=4, out=tmp_path).files) == 1
    truth = "image_folder_dataset('pictures', (1, 8, 8)).resize((1, 16, 16))"
    assert run.render(["16"], images=4, out=tmp_path, truth=truth).scores


def test_the_class_that_a_model_was_told_is_not_counted_among_its_codes() -> None:
    # Noise with classes drawn at random: an encoder cannot find them.
    torch.manual_seed(0)
    held, train = (
        Images(torch.rand(count, *SHAPE), torch.randint(0, 4, (count,))) for count in (400, 300)
    )
    subject = Subject(conditional(), held, train)
    assert subject.latents.shape == (400, 7) and subject.codes.shape == (400, 3)
    torch.testing.assert_close(subject.codes, subject.posterior.mean)  # type: ignore[union-attr]
    torch.testing.assert_close(subject.train_codes, subject.train_latents[:, :3])
    found = separation(subject)  # a classifier that sees the class is always right
    assert found["knn_latent"] < 0.4 and found["probe_latent"] < 0.4
    # PCA with as many numbers as the code, not as the code and the class.
    rows = subject.train_images.flatten(1).double()
    axes = torch.linalg.svd(rows - rows.mean(0), full_matrices=False).Vh[:3]
    apart = subject.images.flatten(1).double() - rows.mean(0)
    linear = (apart @ axes.T @ axes + rows.mean(0)).clamp(0, 1)
    error = (subject.images.flatten(1) - linear).abs().mean()
    assert pca_skill(subject)["pca_l1"] == pytest.approx(error.item(), rel=1e-4)
    for of in ("heldout", "train", "all"):
        assert chosen_codes(subject, of, 50)[1].shape == (50, 3)
    known = chosen_codes(subject, "train", 50)[1]
    torch.testing.assert_close(known, subject.train_codes[:50])
    figure = code_histogram(subject)
    assert "codes of 3 numbers" in figure.axes[0].get_title("left")


def test_a_fitted_sampler_draws_whole_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    images = told_by_class(400)
    torch.manual_seed(0)
    subject, decoded = Subject(conditional(), images), list[Tensor]()
    monkeypatch.setattr(subject, "decode", decoded.append)
    draw_images(subject, "gaussian", 300)
    (drawn,) = decoded
    assert drawn.shape == (300, 7)
    classes = drawn[:, 3:]
    assert torch.equal(classes.sort(1).values, torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(300, 4))
    share = torch.bincount(subject.labels, minlength=4) / 400  # type: ignore[arg-type]
    assert (classes.mean(0) - share).abs().max() < 0.1
    torch.testing.assert_close(drawn[:, :3].std(0), subject.codes.std(0), atol=0.2, rtol=0.2)


def test_penalties_of_the_code_leave_the_class_out() -> None:
    torch.manual_seed(0)
    model, images = conditional(), told_by_class(16)
    output = model(images.pixels, torch.randn(16, 3), images.labels)
    code = output.latent[:, :3]
    assert torch.equal(latent_l2_term(output), 0.5 * code.square().sum(1))
    plain = Output(output.reconstruction, code, GaussianPosterior(*output.posterior[:2]))
    for term in (TotalCorrelation(64), kl_sparse_term, feature_statistics_term):
        torch.testing.assert_close(term(output), term(plain))
    with torch.no_grad():  # the draws of the prior are those of validations
        told, alone = mmd_term(output), mmd_term(plain)
    assert told.shape == alone.shape == (16,) and (told - alone).abs().max() < 0.5


def test_neighbours_are_those_of_the_codes_alone(opened: OpenedRun) -> None:
    codes = opened.encode("validation")[:, :2]
    apart = torch.cdist(codes.double(), codes.double()).fill_diagonal_(float("inf")).min(1).values
    found = opened.neighbours("validation", among="train")
    assert float(found.distances.max()) == pytest.approx(0, abs=1e-5)  # each image is in both
    among = opened.neighbours("validation")
    assert float(among.distances.min()) == pytest.approx(apart.min().item(), rel=1e-4)


def test_traversals_follow_the_code_by_its_divergence(
    opened: OpenedRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = list[str]()

    def noted(label: str, *given: object, **options: object) -> object:
        labels.append(label)
        return picture_line(label, *given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(sheets, "picture_line", noted)
    sheets.traversals(subject_of(opened))
    assert sorted(label.split(":")[0] for label in labels) == ["0", "1"]
    assert all(label.endswith("nats") for label in labels)
