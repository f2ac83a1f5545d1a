"""Critics against values by hand, by autograd, and of distributions whose divergence is known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.losses.critics import (
    GAMES,
    CorrelationCritic,
    Critic,
    ImageCritic,
    LatentCritic,
    r1_penalty,
    wgan_penalty,
)
from aelab.settings import Choice
from aelab.types import Images, Output


class Tiny(nn.Module):
    """An autoencoder of 8x8 images whose last layer can be named."""

    noise_shape = None
    terms = ()

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, 5), nn.Tanh())
        self.decoder = nn.Sequential(nn.Linear(5, 12), nn.Tanh(), nn.Linear(12, 64), nn.Sigmoid())

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encoder(images)
        return Output(self.decoder(latent).reshape(-1, 1, 8, 8), latent)


def playing(**terms: Any) -> tuple[Any, Tiny, Tensor]:
    """An objective of l2 and these terms that has met a model, the model, and a batch."""
    torch.manual_seed(3)
    objective, model = make_objective(objective={"l2": 1, **terms}), Tiny()
    target = torch.rand(16, 1, 8, 8)
    objective.prepare(Images((target * 255).byte()))
    objective.meet(model, 0)
    return objective, model, target


def of_latents(latents: Tensor) -> Output:
    return Output(torch.zeros(len(latents), 1, 8, 8), latents)


def gradients(loss: Tensor, network: nn.Module) -> list[Tensor]:
    found = torch.autograd.grad(
        loss, list(network.parameters()), retain_graph=True, allow_unused=True
    )
    return [
        torch.zeros_like(p) if g is None else g
        for g, p in zip(found, network.parameters(), strict=True)
    ]


SCORES = torch.tensor([-2.0, -0.5, 0.0, 0.7, 3.0])


def test_the_games_are_those_of_their_papers() -> None:
    ones, zeros = torch.ones(5), torch.zeros(5)
    cross = F.binary_cross_entropy_with_logits
    expected = {
        "non_saturating": (
            cross(SCORES, ones, reduction="none"),
            cross(SCORES, zeros, reduction="none"),
            -torch.sigmoid(SCORES).log(),
        ),
        "hinge": (
            torch.tensor([3.0, 1.5, 1.0, 0.3, 0.0]),
            torch.tensor([0.0, 0.5, 1.0, 1.7, 4.0]),
            -SCORES,
        ),
        "least_squares": (
            torch.tensor([4.5, 1.125, 0.5, 0.045, 2.0]),
            torch.tensor([2.0, 0.125, 0.0, 0.245, 4.5]),
            torch.tensor([4.5, 1.125, 0.5, 0.045, 2.0]),
        ),
        "wasserstein": (-SCORES, SCORES, -SCORES),
    }
    assert set(expected) == set(GAMES)
    for name, losses in expected.items():
        for formula, values in zip(GAMES[name], losses, strict=True):
            torch.testing.assert_close(formula(SCORES), values)


def test_r1_is_half_of_the_squared_gradient_at_real_things() -> None:
    real = torch.randn(4, 3)
    squares = r1_penalty(lambda x: x.square().sum(1, keepdim=True), real)
    torch.testing.assert_close(squares, 2 * real.square().sum(1))  # the gradient is 2 x
    with torch.no_grad():  # as in a validation
        torch.testing.assert_close(
            r1_penalty(lambda x: x @ torch.ones(3, 1), real), squares * 0 + 1.5
        )


def test_the_penalty_of_wgan_is_zero_for_a_slope_of_one() -> None:
    real, fake, share = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4, 1)
    slope = torch.tensor([[3.0], [0.0], [4.0]])
    torch.testing.assert_close(
        wgan_penalty(lambda x: x @ slope, real, fake, share), torch.full((4,), 16.0)
    )
    steady = wgan_penalty(lambda x: x @ (slope / 5), real, fake, share)
    torch.testing.assert_close(steady, torch.zeros(4), atol=1e-6, rtol=0)


def learned(critic: Critic, draw: Any, steps: int = 150) -> None:
    """Trains a critic on draws of a distribution of latents."""
    critic.meet(of_latents(draw(8)))
    optimizer = torch.optim.Adam(critic.parameters(), 6e-3)
    for _ in range(steps):
        output = of_latents(draw(256))
        loss = critic.own_loss(output, output.reconstruction).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_the_correlation_critic_finds_the_total_correlation_of_gaussians() -> None:
    torch.manual_seed(0)
    correlation = 0.8

    def draw(count: int) -> Tensor:
        first, other = torch.randn(count), torch.randn(count)
        second = correlation * first + math.sqrt(1 - correlation**2) * other
        return torch.stack([first, second, torch.randn(count)], 1)

    critic = CorrelationCritic(hidden=[32])
    learned(critic, draw)
    with torch.no_grad():
        found = float(critic(of_latents(draw(20_000))).mean())
    known = -0.5 * math.log(1 - correlation**2)  # 0.511 nats
    assert found == pytest.approx(known, abs=0.06)


def test_the_latent_critic_finds_the_divergence_of_gaussians_from_the_prior() -> None:
    torch.manual_seed(0)

    def draw(count: int) -> Tensor:
        return torch.randn(count, 2) * 0.7 + torch.tensor([0.8, 0.0])

    critic = LatentCritic(hidden=[32])
    learned(critic, draw)
    with torch.no_grad():
        # The score estimates ln p(z) - ln q(z), so its mean under q is -KL(q || p).
        found = -float(critic.scores(draw(20_000)).mean())
    known = float(
        torch.distributions.kl_divergence(
            torch.distributions.Normal(torch.tensor([0.8, 0.0]), 0.7),
            torch.distributions.Normal(torch.zeros(2), 1.0),
        ).sum()
    )
    assert found == pytest.approx(known, abs=0.06)


@pytest.mark.parametrize("term", ["latent_critic", "correlation_critic", "image_critic"])
def test_each_player_gets_the_gradient_of_its_own_loss(term: str) -> None:
    objective, model, target = playing(**{term: 0.3})
    critic = objective.players[term]
    torch.manual_seed(1)
    values = objective(model(target), target, 0)
    total = objective.total(values, 0).sum()
    own = values[f"{term}_loss"].sum()
    assert all(g.abs().sum() == 0 for g in gradients(total, critic))
    assert all(g.abs().sum() == 0 for g in gradients(own, model))
    assert any(g.abs().sum() > 0 for g in gradients(own, critic))
    together = gradients(total + own, model), gradients(total + own, critic)
    torch.testing.assert_close(together, (gradients(total, model), gradients(own, critic)))
    expected = values["l2"].sum() + 0.3 * values[term].sum()
    torch.testing.assert_close(total, expected)


def test_the_adaptive_weight_makes_both_gradients_equal_at_the_last_layer() -> None:
    objective, model, target = playing(image_critic={"weight": 0.8, "adaptive": True})
    values = objective(model(target), target, 0)
    last = [model.decoder[2].weight]
    (theirs,) = torch.autograd.grad(values["l2"].mean(), last, retain_graph=True)
    (ours,) = torch.autograd.grad(values["image_critic"].mean(), last, retain_graph=True)
    weight = float(theirs.norm() / (ours.norm() + 1e-6))
    assert weight != pytest.approx(1, abs=0.01)
    torch.testing.assert_close(values["image_critic_weight"], torch.full((16,), weight))
    total = values["l2"] + 0.8 * weight * values["image_critic"]
    torch.testing.assert_close(objective.total(values, 0), total)
    with torch.no_grad():  # a validation uses the latest weight
        held_out = objective(model(target * 0.5), target * 0.5, 0)
    torch.testing.assert_close(held_out["image_critic_weight"], values["image_critic_weight"])


def test_a_critic_that_does_not_reach_the_encoder_trains_the_decoder_as_before() -> None:
    found = []
    for reaches in (True, False):
        objective, model, target = playing(image_critic={"reaches_encoder": reaches})
        value = objective(model(target), target, 0)["image_critic"]
        found.append((value.detach(), gradients(value.sum(), model)))
    (value, whole), (same, cut) = found
    encoder = 2  # a matrix and a bias
    torch.testing.assert_close(same, value)
    torch.testing.assert_close(cut[encoder:], whole[encoder:])
    assert all(g.abs().max() > 1e-5 for g in whole[:encoder])
    assert all(g.abs().max() < 1e-7 for g in cut[:encoder])


def test_critic_features_compare_what_the_critic_sees() -> None:
    objective, model, target = playing(critic_features={"layer": 0}, image_critic=0.1)
    critic = objective.players["image_critic"]
    output = model(target)
    values = objective(output, target, 0)
    first = critic.network.layers[0]
    expected = F.leaky_relu(first(output.reconstruction), 0.2) - F.leaky_relu(first(target), 0.2)
    torch.testing.assert_close(values["critic_features"], expected.square().flatten(1).mean(1))
    assert all(g.abs().sum() == 0 for g in gradients(values["critic_features"].sum(), critic))
    assert all(g.abs().sum() > 0 for g in gradients(values["critic_features"].sum(), model))


def test_before_its_start_a_critic_neither_counts_nor_learns() -> None:
    objective, model, target = playing(image_critic={"start_images": 100, "adaptive": True})
    before, after = (objective(model(target), target, images) for images in (99, 100))
    assert list(before) == list(after)
    assert before["image_critic"].abs().sum() == before["image_critic_loss"].abs().sum() == 0
    assert (
        objective.weights(99)["image_critic"] == 0 and objective.weights(100)["image_critic"] == 1
    )
    assert not before["image_critic_loss"].requires_grad
    assert after["image_critic_loss"].requires_grad


def test_states_are_judged_without_the_terms_of_critics() -> None:
    objective, model, target = playing(
        latent_l2=0.1, critic_features=1, image_critic=0.1, latent_critic=2
    )
    values = objective(model(target), target, 0)
    expected = values["l2"] + 0.1 * values["latent_l2"]
    torch.testing.assert_close(objective.final_total(values), expected)
    assert not objective.is_final(10**9)
    assert objective.reconstructions == {"l2": 1.0}


def test_first_weights_follow_the_seed_and_leave_other_draws_alone() -> None:
    def weights(seed: int) -> Tensor:
        objective = make_objective(objective={"l2": 1, "latent_critic": 1, "image_critic": 1})
        objective.prepare(Images(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)))
        torch.manual_seed(5)
        objective.meet(Tiny(), seed)
        return torch.cat(
            [p.detach().flatten() for p in objective.players["latent_critic"].parameters()]
        )

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))
    torch.manual_seed(5)
    Tiny()
    expected = torch.rand(3)
    weights(1)
    torch.testing.assert_close(torch.rand(3), expected)


@pytest.mark.parametrize("shape", [(3, 1, 2, 2), (2, 3, 9, 16), (1, 4, 40, 33)])
def test_a_critic_of_images_takes_any_size(shape: tuple[int, ...]) -> None:
    critic = ImageCritic(channels=[4, 6])
    output = Output(torch.rand(shape, requires_grad=True), torch.zeros(shape[0], 2))
    assert critic(output).shape == shape[:1]
    assert critic.own_loss(output, torch.rand(shape)).isfinite().all()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "game": ({"latent_critic": {"loss": "softmax"}}, "possible: .*hinge"),
    "widths": ({"latent_critic": {"hidden": [0]}}, r"hidden must be whole numbers above 0"),
    "option": ({"image_critic": {"learn_rate": 1}}, "no option 'learn_rate'.*learnrate"),
    "rate": ({"image_critic": {"learnrate": 0}}, "image_critic: learnrate must be above 0"),
    "optimizer": ({"image_critic": {"optimizer": 3}}, "image_critic: optimizer: given 3"),
    "no critic": ({"critic_features": 1}, "needs the term 'image_critic'"),
    "layer": ({"image_critic": 1, "critic_features": {"layer": 3}}, "the critic has 3 layers"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_option_is_told(case: str) -> None:
    terms, words = WRONG[case]
    with pytest.raises(ConfigError, match=words):
        make_objective(objective={"l2": 1, **terms})


def test_an_objective_that_only_a_critic_can_judge_is_refused() -> None:
    with pytest.raises(ConfigError, match="features of a critic do not count"):
        make_objective(objective={"critic_features": 1, "image_critic": 1})


def test_the_description_has_what_a_comparison_needs() -> None:
    objective = make_objective(
        objective={"l2": 1, "latent_critic": {"weight": 2, "learnrate": 0.1, "optimizer": "SGD"}}
    )
    assert objective.describe() == "l2 + 2 latent_critic (learnrate=0.1, optimizer={'SGD': {}})"
    assert objective.players["latent_critic"].learning.optimizer == Choice("SGD")
