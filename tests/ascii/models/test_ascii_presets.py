"""Document 002's networks with their exact sizes, starts and objectives; and the better one."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aelab.ascii.glyphs import character_numbers
from aelab.ascii.models.characters import CharacterAutoencoder, GumbelSoftmax, Softmax
from aelab.ascii.models.presets import NETWORKS, WISHES, ascii_autoencoder_2022
from aelab.ascii.models.small import small_ascii_ae
from aelab.errors import ConfigError, ShapeError
from aelab.inspect import model_facts, model_notes
from aelab.models import GaussianMap

#: Commit, D, parameters of encoder and decoder: section 6.3 of the specification.
COUNTS = [
    ("cb2c7dd", 256, 352_468, 286_759),
    ("469523a", 256, 352_468, 286_759),
    ("9b3168b", 256, 352_468, 286_759),
    ("20717f2", 512, 1_072_696, 811_135),
    ("2e13fa9", 512, 809_016, 773_365),
    ("f27fb91", 512, 809_016, 773_365),
    ("928930d", 512, 809_016, 773_365),
]


def texts(count: int, height: int, width: int) -> torch.Tensor:
    numbers = torch.randint(0, 95, (count, 1, height, width), generator=generator())
    return numbers / 255


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(4)


def on_meta(commit: str, shape: tuple[int, int] = (64, 64), **options) -> CharacterAutoencoder:
    with torch.device("meta"):
        return ascii_autoencoder_2022(commit, shape, **options)


@pytest.mark.parametrize(("commit", "latent_dims", "encoder", "decoder"), COUNTS)
def test_networks_have_the_parameters_of_their_commit(
    commit: str, latent_dims: int, encoder: int, decoder: int
) -> None:
    for shape in [(64, 64), (32, 32)]:
        facts = model_facts(on_meta(commit, shape), (1, *shape))
        assert facts.latent_shape == (latent_dims,)
        assert facts.parameters == {
            "model": encoder + decoder,
            "encoder": encoder,
            "decoder": decoder,
        }


def test_a_training_step_of_the_newest_costs_15_7_gigaflop_a_picture() -> None:
    facts = model_facts(on_meta("2e13fa9"), (1, 64, 64))
    assert 3 * facts.flops_per_image / 1e9 == pytest.approx(15.7, abs=0.05)


def kinds(module: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in module.modules() if not list(layer.children())]


def test_convolutions_are_followed_by_the_activation_and_then_by_the_norm() -> None:
    for commit, activation in [("cb2c7dd", "LeakyReLU"), ("469523a", "ReLU"), ("2e13fa9", "ReLU")]:
        model = on_meta(commit)
        triple = ["Conv2d", activation, "BatchNorm2d"]
        assert kinds(model.encoder)[:15] == 5 * triple
        assert kinds(model.decoder)[:3] == ["Linear", activation, "BatchNorm1d"]
    first, linear, deep = (on_meta(commit) for commit in ("cb2c7dd", "20717f2", "2e13fa9"))
    assert kinds(first.encoder)[15:] == ["FlattenPixels", "BatchNorm1d"]
    assert kinds(linear.encoder)[15:] == ["FlattenPixels", "Linear", "ReLU", "BatchNorm1d"]
    assert kinds(linear.decoder)[:6] == 2 * ["Linear", "ReLU", "BatchNorm1d"]
    assert kinds(deep.encoder)[15:] == ["FlattenPixels"]
    assert kinds(first.decoder)[-1] == kinds(linear.decoder)[-1] == "Conv2d"
    last = ["Conv2d", "ReLU", "BatchNorm2d", "Conv2d", "LogSoftmax"]
    assert kinds(deep.decoder)[-5:] == last


def test_maps_have_the_documents_sizes() -> None:
    model, sizes = on_meta("2e13fa9"), []
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _, __, output: sizes.append(tuple(output.shape[1:])))
    model(torch.empty(2, 1, 64, 64, device="meta"))
    assert sizes[:5] == [(64, 64, 64), (48, 32, 32), (32, 16, 16), (16, 12, 12), (8, 8, 8)]
    assert sizes[5:9] == [(16, 12, 12), (32, 16, 16), (48, 32, 32), (64, 64, 64)]
    assert sizes[9:] == [(95, 64, 64), (95, 64, 64)]


@pytest.mark.parametrize(
    ("commit", "std"), [("cb2c7dd", 0.15), ("9b3168b", 0.01), ("20717f2", 0.1)]
)
def test_all_parameters_begin_as_normal_numbers_of_the_commits_spread(
    commit: str, std: float
) -> None:
    torch.manual_seed(0)
    model = ascii_autoencoder_2022(commit, (32, 32))
    numbers = torch.cat([parameter.flatten() for parameter in model.parameters()])
    assert numbers.std().item() == pytest.approx(std, rel=0.01)
    scales = [m.weight for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert max(scale.mean().abs().item() for scale in scales) < 5 * std
    plain = ascii_autoencoder_2022(commit, (32, 32), legacy_init=False)
    assert all((m.weight == 1).all() for m in plain.modules() if isinstance(m, nn.BatchNorm2d))


def test_variances_of_the_last_commit_sum_to_1() -> None:
    torch.manual_seed(0)
    texts_of_one = texts(2, 20, 20)
    for commit, is_simplex in [("928930d", True), ("2e13fa9", False)]:
        model = ascii_autoencoder_2022(commit, (20, 20)).eval()
        variances = (2 * model(texts_of_one).posterior.log_std).exp().sum(1)
        assert torch.allclose(variances, torch.ones(2), atol=1e-4) == is_simplex


def test_log_probabilities_of_later_commits_are_normalised() -> None:
    torch.manual_seed(0)
    for commit, is_normalised in [("20717f2", False), ("2e13fa9", True)]:
        logits = ascii_autoencoder_2022(commit, (9, 8)).eval()(texts(2, 9, 8)).details["logits"]
        sums = logits.exp().sum(1)
        assert torch.allclose(sums, torch.ones_like(sums), atol=1e-4) == is_normalised


#: Commit, formula of characters, of pictures, relaxation: section 6.5.
OBJECTIVES = [
    ("cb2c7dd", "character_ce", "rendered_l1", Softmax, None),
    ("4dfffc0", "character_ce", "rendered_l1", GumbelSoftmax, None),
    ("469523a", "character_ce", "rendered_l2", GumbelSoftmax, None),
    ("9b3168b", "character_ce", "rendered_l2", GumbelSoftmax, None),
    ("20717f2", "character_ce", "rendered_l2", GumbelSoftmax, None),
    ("66ea1d6", "character_ce", "rendered_edges", GumbelSoftmax, None),
    ("2e13fa9", "legacy_character_ce", "rendered_l2", GumbelSoftmax, 0.5),
    ("928930d", "legacy_character_ce", "rendered_l2", GumbelSoftmax, 0.5),
    ("f27fb91", "character_nll", "rendered_l2", GumbelSoftmax, 0.5),
]


@pytest.mark.parametrize(("commit", "characters", "picture", "relaxation", "floor"), OBJECTIVES)
def test_objectives_are_those_of_the_commit(
    commit: str, characters: str, picture: str, relaxation: type, floor: float | None
) -> None:
    model = on_meta(commit, gumbel_tau=0.3, gumbel_tau_r=1e-3, kl_weight=0.05)
    assert [term.formula for term in model.terms] == [characters, picture, "gaussian_kl"]
    assert [term.weight for term in model.terms] == [0.1, 1.0, 0.05]
    assert model.terms[2].options == {"reduction": "mean"}
    assert (model.terms[1].options.get("reduction") == "sum") == (commit in ("469523a", "9b3168b"))
    assert type(model.relaxation) is relaxation
    if relaxation is GumbelSoftmax:
        assert model.relaxation.hard == (floor is not None)
        model.relaxation.at(0, 5_000)
        assert model.relaxation.tau == (0.3 if floor is None else floor)
    assert {*NETWORKS} <= {*WISHES}


def test_an_objective_may_come_from_another_commit_and_terms_may_go() -> None:
    model = on_meta("20717f2", objective="76478ad", character_weight=0.0, gumbel_tau_r=1.0)
    assert [term.formula for term in model.terms] == ["rendered_l2", "gaussian_kl"]
    model.relaxation.at(0, 10)
    assert model.relaxation.tau == 0.25
    options = {"frequency_power": 0.7, "space_deemph": 100.0}
    model = on_meta("2e13fa9", character_options=options, image_options={"font_res": 9})
    assert model.terms[0].options == {"normalize": "batch", **options}
    assert model.terms[1].options == {"font_res": 9, "font_zoom": 20}
    own = Softmax()
    assert on_meta("2e13fa9", relaxation=own).relaxation is own


def test_a_full_hash_is_its_commit_and_an_unknown_one_is_told() -> None:
    full = "20717f245465d08bf7b58b392e87e0b4ec8e6f74"
    assert on_meta(full).bottleneck.latent_dims == 512
    with pytest.raises(ConfigError, match=r"(?s)'2e13fa8'.*possible: .*2e13fa9"):
        ascii_autoencoder_2022("2e13fa8")
    with pytest.raises(ShapeError, match=r"\(3, 64, 64\)"):
        ascii_autoencoder_2022("2e13fa9", (3, 64, 64))
    assert "without noise" in model_notes(on_meta("2e13fa9"))[0].message


@pytest.mark.parametrize("side", [8, 9, 17, 33, 60, 61])
def test_other_grids_come_back_in_their_size(side: int) -> None:
    model = on_meta("2e13fa9", (side, 64))
    output = model(torch.empty(2, 1, side, 64, device="meta"))
    assert output.details["logits"].shape == (2, 95, side, 64)


def test_the_better_model_has_the_size_and_cost_that_are_documented() -> None:
    with torch.device("meta"):
        model = small_ascii_ae((24, 24))
    facts = model_facts(model, (1, 24, 24))
    assert facts.parameters["model"] == 576_799
    assert facts.flops_per_image < 80e6
    assert facts.latent_shape == (8 * 6 * 6,)


@pytest.mark.parametrize("options", [{}, {"latent_dims": 5}, {"beta": 0.1}])
@pytest.mark.parametrize("shape", [(8, 8), (24, 24), (13, 31), (1, 64), (1, 9, 16)])
def test_the_better_model_takes_any_grid(shape: tuple[int, ...], options: dict) -> None:
    with torch.device("meta"):
        model = small_ascii_ae(shape, **options)
    height, width = shape[-2:]
    output = model(torch.empty(2, 1, height, width, device="meta"))
    assert output.details["logits"].shape == (2, 95, height, width)
    assert output.latent.ndim == 2


def test_the_better_model_begins_at_the_frequencies_and_not_at_even_odds() -> None:
    torch.manual_seed(0)
    model = small_ascii_ae((12, 12), space_share=0.75)
    relaxed = model(texts(4, 12, 12)).details["relaxed"]
    assert relaxed[:, 0].mean().item() == pytest.approx(0.75, abs=0.1)
    assert relaxed[:, 1:].mean().item() == pytest.approx(0.25 / 94, rel=0.5)


def test_the_better_model_evaluates_what_it_trained() -> None:
    torch.manual_seed(0)
    model = small_ascii_ae((12, 12), beta=0.1, embedding=8, channels=(8, 12))
    images, noise = texts(3, 12, 12), torch.randn(3, *model.noise_shape)
    training = model(images, noise).details["logits"]
    evaluating = model.eval()(images, noise).details["logits"]
    assert torch.equal(training, evaluating)
    alone = model(images[:1], noise[:1]).details["logits"]
    torch.testing.assert_close(alone, evaluating[:1], rtol=1e-4, atol=1e-5)


def test_the_gaussian_map_begins_with_little_noise_and_shares_its_weights() -> None:
    torch.manual_seed(0)
    bottleneck = GaussianMap((6, 3, 4), 2)
    features, noise = torch.randn(5, 6, 3, 4), torch.randn(5, 24)
    latent, posterior = bottleneck(features, noise)
    assert torch.equal(posterior.log_std, torch.full((5, 24), -2.0))
    torch.testing.assert_close(latent, posterior.mean + math.exp(-2) * noise)
    shifted = bottleneck(features.roll(1, 3))[1].mean.reshape(5, 3, 4, 2)
    torch.testing.assert_close(shifted, posterior.mean.reshape(5, 3, 4, 2).roll(1, 2))
    with pytest.raises(ShapeError, match="6x4x3"):
        bottleneck(features.transpose(2, 3))


def test_beta_is_the_weight_of_an_evidence_bound_of_one_cell() -> None:
    with torch.device("meta"):
        terms = small_ascii_ae((10, 20), beta=0.5).terms
    assert [(term.name, term.formula) for term in terms] == [
        ("character_ce", "character_ce"),
        ("kl", "gaussian_kl"),
    ]
    assert terms[1].weight == 0.5 / 200


@pytest.mark.parametrize(
    "options", [{"space_share": 0.0}, {"embedding": 0}, {"latent_channels": 0}, {"blocks": (1, -1)}]
)
def test_what_the_better_model_cannot_be_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="small_ascii_ae"):
        small_ascii_ae((8, 8), **options)
    with pytest.raises(ShapeError, match=r"\(3, 8, 8\)"):
        small_ascii_ae((3, 8, 8))


def test_the_better_model_learns_a_few_texts_by_heart() -> None:
    torch.manual_seed(0)
    model = small_ascii_ae((8, 8), embedding=16, channels=(32,), latent_channels=24)
    images = texts(4, 8, 8) * (torch.rand(4, 1, 8, 8, generator=generator()) < 0.4)
    numbers = character_numbers(images)
    optimizer = torch.optim.Adam(model.parameters(), lr=6e-3)
    for _ in range(80):
        loss = F.cross_entropy(model(images).details["logits"], numbers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    written = character_numbers(model(images).reconstruction)
    assert (written == numbers)[numbers > 0].float().mean() > 0.95
