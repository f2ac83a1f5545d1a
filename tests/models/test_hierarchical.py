"""Latents on several levels: densities against torch, bounds, and codes on two maps."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from aelab.errors import ConfigError
from aelab.lab import Lab
from aelab.losses import make_objective
from aelab.losses.latent import level_kl_term
from aelab.losses.reconstruction import bce
from aelab.metrics import Subject
from aelab.metrics.distances import draw_images
from aelab.metrics.likelihood import elbo, iwae
from aelab.models import ladder_vae, top_down_vae, two_level_vq
from aelab.models.hierarchical import LadderLevel, Normals, ResidualLevel
from aelab.train import Choice, FitSettings, evaluate, fit, make_state
from aelab.types import Images

SHAPE = (1, 8, 8)
MODELS = {
    "ladder": lambda: ladder_vae(SHAPE, (2, 3), (16, 32)),
    "top down": lambda: top_down_vae(SHAPE, (1, 1), channels=8, latent_channels=1),
}


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def _stirred(model: nn.Module) -> nn.Module:
    """Weights away from the start, where many are 0."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model


@pytest.mark.parametrize("name", MODELS)
def test_the_divergence_of_every_level_is_that_of_torch(name: str) -> None:
    model = _stirred(MODELS[name]())
    output = model(torch.rand(5, *SHAPE), torch.randn(5, *model.noise_shape))
    posterior = output.posterior
    q = Normal(posterior.mean, posterior.log_std.exp())
    p = Normal(posterior.prior_mean, posterior.prior_log_std.exp())
    wanted = kl_divergence(q, p)
    torch.testing.assert_close(posterior.kl(), wanted, rtol=1e-4, atol=1e-5)
    levels = torch.stack([part.sum(1) for part in wanted.split(model.level_sizes, 1)], 1)
    torch.testing.assert_close(posterior.levels(), levels, rtol=1e-4, atol=1e-5)
    ratio = (q.log_prob(output.latent) - p.log_prob(output.latent)).sum(1)
    torch.testing.assert_close(posterior.sampled_kl(), ratio, rtol=1e-4, atol=1e-4)


def test_a_ladder_multiplies_the_encoders_gaussian_and_the_prior() -> None:
    level = LadderLevel(6, 4, 3, 8)
    prior = Normals(torch.randn(5, 3), torch.randn(5, 3))
    evidence = torch.randn(5, 6)
    mean, log_std = level.seen(evidence).chunk(2, 1)
    both = level.posterior(torch.randn(5, 4), evidence, prior)
    at = torch.linspace(-2, 2, 7)[:, None, None]

    def log_density(mean: Tensor, log_std: Tensor) -> Tensor:
        return Normal(mean, log_std.exp()).log_prob(at)

    # The product of two densities differs from the joint one by a constant in z.
    apart = log_density(mean, log_std) + log_density(*prior) - log_density(*both)
    assert float(apart.detach().std(0).max()) < 1e-4


def test_a_residual_posterior_costs_what_its_shift_and_scale_cost() -> None:
    level = ResidualLevel(4, 2, (2, 2))
    _stirred(level)
    state, evidence = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    prior = level.prior(state)
    own = level.posterior(state, evidence, prior)
    shift = (own.mean - prior.mean) / prior.log_std.exp()
    scale = own.log_std - prior.log_std
    # Equation 2 of NVAE: the absolute prior does not matter.
    wanted = 0.5 * (shift.square() + (2 * scale).exp() - 2 * scale - 1)
    found = kl_divergence(
        Normal(own.mean, own.log_std.exp()), Normal(prior.mean, prior.log_std.exp())
    )
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-4)
    fresh = ResidualLevel(4, 2, (2, 2))
    at_start = fresh.posterior(state, evidence, fresh.prior(state))
    torch.testing.assert_close(at_start.mean, fresh.prior(state).mean, atol=0.05, rtol=0)


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_latents_decode_to_what_the_model_shows(name: str) -> None:
    model = _stirred(MODELS[name]()).eval()
    images = torch.rand(4, *SHAPE)
    output = model(images)
    torch.testing.assert_close(model.decode(model.encode(images)), output.reconstruction)
    noisy = model(images, torch.randn(4, *model.noise_shape))
    torch.testing.assert_close(model.decode(noisy.latent), noisy.reconstruction)


@torch.no_grad()
def test_the_prior_is_drawn_level_by_level() -> None:
    model = _stirred(ladder_vae(SHAPE, (1, 1), (4, 4)))
    drawn = model.draw_prior(20_000, torch.randn)
    # p(top) is the standard normal; below, z = mean(top) + std(top) noise.
    below = model.decoder.levels[1].prior(drawn[:, :1])
    apart = (drawn[:, 1:] - below.mean) / below.log_std.exp()
    for values in (drawn[:, :1], apart):
        assert float(values.mean()) == pytest.approx(0, abs=0.03)
        assert float(values.std()) == pytest.approx(1, abs=0.03)


def _halves(count: int, seed: int) -> Images:
    """Binary images of which one half is white: left, right, above or below."""
    pixels = torch.zeros(4, *SHAPE)
    pixels[0, 0, :4] = pixels[1, 0, 4:] = pixels[2, 0, :, :4] = pixels[3, 0, :, 4:] = 1
    generator = torch.Generator().manual_seed(seed)
    return Images(pixels[torch.randint(0, 4, (count,), generator=generator)])


@pytest.mark.parametrize("name", MODELS)
def test_bounds_agree_and_beat_the_best_model_of_single_pixels(name: str) -> None:
    model = MODELS[name]()
    settings = FitSettings(
        max_images=6_400, batch_size=32, learnrate=0.005, optimizer=Choice("Adam"), threads=1
    )
    # With the full weight from the start a ladder often leaves its latents unused.
    terms = {"bce": {"reduction": "sum"}, "level_kl": {"warmup_images": 3000}}
    objective = make_objective((), objective=terms)
    assert objective.bounds == ("level_kl",)  # validation draws noise for it
    for _ in fit(make_state(model, settings), objective, _halves(1024, 0), None, settings):
        pass
    held = _halves(1024, 1)
    found = evaluate(model, objective, held, settings)
    levels = [found[f"kl_level_{number + 1}"] for number in range(len(model.level_sizes))]
    assert sum(levels) == pytest.approx(found["level_kl"], rel=1e-3)
    subject = Subject(model, held, formulas=("bce", "level_kl"))
    bound, tighter = elbo(subject, samples=4), iwae(subject, samples=16, images=128)
    # Single images can cost 100 nats, so the means may differ by 4 measured standard errors.
    with torch.no_grad():
        output = model(held.pixels, torch.randn(len(held.pixels), *model.noise_shape))
        each = level_kl_term(output) + bce(output.reconstruction, held.pixels, "sum")
    error = float(each.std()) / math.sqrt(len(each)) * math.sqrt(1 + 1 / 4)
    assert bound["elbo_nats"] == pytest.approx(-found["loss"], abs=4 * error)
    assert tighter["iwae_elbo_nats"] < tighter["iwae_nats"]
    # Four equally likely images hold ln 4 = 1.39 nats, and independent pixels 44.
    assert 1.3 < -tighter["iwae_nats"] < 8
    assert draw_images(subject, "auto", 8).isfinite().all()


def test_free_bits_of_a_level_end_its_gradient() -> None:
    model = _stirred(ladder_vae(SHAPE, (2, 3), (16, 32)))
    output = model(torch.rand(5, *SHAPE), torch.randn(5, 5))
    levels = output.posterior.levels()
    limit = float(levels.detach().max()) + 1
    limited = level_kl_term(output, free_bits_nats=limit)
    torch.testing.assert_close(limited, torch.full((5,), 2 * limit))
    assert not torch.autograd.grad(limited.sum(), levels, retain_graph=True)[0].any()
    torch.testing.assert_close(level_kl_term(output), levels.sum(1))


def test_codes_on_two_maps_are_learned_counted_and_decoded() -> None:
    model = two_level_vq(SHAPE, codebook_size=16, dims=4, channels=12, halvings=1)
    assert model.codebooks == {"top": 16, "bottom": 16}
    settings = FitSettings(
        max_images=6_400, batch_size=32, learnrate=0.003, optimizer=Choice("Adam"), threads=1
    )
    objective = make_objective((), objective={"l2": 1, "commitment": 0.25})
    for _ in fit(make_state(model, settings), objective, _halves(512, 0), None, settings):
        pass
    found = evaluate(model, objective, _halves(128, 1), settings)
    blank = float(_halves(128, 1).pixels.var(0).mean())  # the error of the mean image
    assert found["l2"] < 0.2 * blank
    assert found["codebook_usage_top"] > 0.1 and found["codebook_perplexity_bottom"] > 1.2
    images = _halves(4, 2).pixels
    model.eval()
    with torch.no_grad():
        output = model(images)
        torch.testing.assert_close(model.decode(model.encode(images)), output.reconstruction)
        assert output.posterior.top.shape == (4, 4) and output.posterior.bottom.shape == (4, 16)
        top = model.bottleneck["top"].lookup(output.posterior.top)  # (4, 4, 4)
        torch.testing.assert_close(output.latent[:, :16], top.permute(0, 2, 1).flatten(1))


def test_mistakes_of_hierarchies_are_told() -> None:
    with pytest.raises(ConfigError, match="latent_dims has 2 levels, hidden 3"):
        ladder_vae(SHAPE, (2, 3), (8, 8, 8))
    with pytest.raises(ConfigError, match="every map needs one"):
        top_down_vae(SHAPE, (1, 0))
    with pytest.raises(ConfigError, match="halvings is 0"):
        two_level_vq(SHAPE, halvings=0)
    with pytest.raises(ConfigError, match="needs latents on several levels"):
        level_kl_term(two_level_vq(SHAPE)(torch.rand(2, *SHAPE)))


FILE = """
experiment_name: levels
globals:
  SHAPE: (1, 8, 8)
train_set: noise_dataset(SHAPE, 64, seed=1)
validation_set: noise_dataset(SHAPE, 32, seed=2)
model: ladder_vae(SHAPE, (2, 3), (16, 16))
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_images: 128
"""


def test_a_hierarchy_is_used_like_every_other_run(tmp_path: Path) -> None:
    (tmp_path / "levels.yml").write_text(FILE)
    lab = Lab(tmp_path / "runs", device="cpu")
    assert not [p for run in lab.check(tmp_path / "levels.yml").runs for p in run.problems]
    list(lab.run(tmp_path / "levels.yml"))
    opened = lab.open("levels")
    assert opened.encode("validation").shape == (32, 5)
    assert opened.sample(3).shape == (3, 1, 8, 8)
    assert opened.interpolate(*opened.inputs("validation").pixels[:2, None], steps=4).shape[0] == 4
    values = opened.evaluate(
        ["elbo", "iwae", "latent_use"], options={"iwae": {"samples": 8}}
    ).values
    assert math.isfinite(values["elbo_nats"]) and values["latent_dims"] == 5
    for name in ("sample", "traversals", "posterior", "kl", "histogram"):
        assert opened.figure(name, out=tmp_path / f"{name}.png").stat().st_size > 500
    last = [row for row in opened.run.metrics() if "kl_level_1" in row]
    assert last and last[-1]["kl_level_2"] >= 0
