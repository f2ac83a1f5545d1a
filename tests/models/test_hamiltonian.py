"""The Hamiltonian autoencoder: its map of latent and momentum, and its bound."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.losses.latent import sampled_kl_term
from aelab.models import (
    DecoderMLP,
    EncoderMLP,
    HamiltonianAutoencoder,
    VariationalAutoencoder,
    VariationalEncoder,
)
from aelab.types import Output

SHAPE, DIMS = (1, 4, 4), 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def hamiltonian(**options: object) -> HamiltonianAutoencoder:
    """A small model for images of SHAPE with D = 3."""
    return HamiltonianAutoencoder(
        VariationalEncoder(EncoderMLP(SHAPE, 8), 8, DIMS),
        DecoderMLP(SHAPE, DIMS, activation_last_layer="sigmoid"),
        **options,  # type: ignore[arg-type]
    )


def negative_bound(model: nn.Module, images: Tensor, noise: Tensor) -> Tensor:
    """The total of the model's own terms, (B,)."""
    objective = make_objective(model.terms)  # type: ignore[arg-type]
    return objective.total(objective(model(images, noise), images, 0), 0)


@pytest.mark.parametrize("inverse_temperature", [1.0, 0.2])
def test_the_map_of_latent_and_momentum_keeps_volumes(inverse_temperature: float) -> None:
    model = hamiltonian(steps=4, step_size=0.3, inverse_temperature=inverse_temperature).double()
    images = torch.rand(1, *SHAPE, dtype=torch.float64)

    def moved(both: Tensor) -> Tensor:
        latent, momentum = both.chunk(2)
        return torch.cat(model.moved(images, latent[None], momentum[None]), 1)[0]

    both = torch.randn(2 * DIMS, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(moved, both)
    assert (jacobian - torch.eye(2 * DIMS)).abs().max() > 0.1  # it does move
    assert abs(torch.linalg.slogdet(jacobian)[1].item()) < 1e-10


def test_steps_without_tempering_go_back_with_the_momentum_turned() -> None:
    model = hamiltonian(steps=5, step_size=0.2, inverse_temperature=1.0).double()
    images = torch.rand(3, *SHAPE, dtype=torch.float64)
    latent, momentum = torch.randn(2, 3, DIMS, dtype=torch.float64)
    there, last = model.moved(images, latent, momentum)
    back, turned = model.moved(images, there, -last)
    assert (there - latent).abs().max() > 0.1
    torch.testing.assert_close(back, latent)
    torch.testing.assert_close(turned, -momentum)


def test_short_steps_without_tempering_keep_the_energy() -> None:
    images, noise = torch.rand(3, *SHAPE).double(), torch.randn(2, 3, DIMS).double()

    def energy(model: HamiltonianAutoencoder, latent: Tensor, momentum: Tensor) -> Tensor:
        nll = torch.nn.functional.binary_cross_entropy(
            model.decoder(latent), images, reduction="none"
        )
        return 0.5 * (latent.square() + momentum.square()).sum(1) + nll.flatten(1).sum(1)

    errors = []
    for steps, step_size in ((5, 0.2), (20, 0.05)):
        torch.manual_seed(1)
        model = hamiltonian(steps=steps, step_size=step_size, inverse_temperature=1.0).double()
        change = energy(model, *model.moved(images, *noise)) - energy(model, *noise)
        errors.append(change.abs().max().item())
    assert 0 < errors[1] < errors[0] / 8  # the error falls with the square of the step


def test_without_steps_the_bound_is_that_of_a_variational_autoencoder() -> None:
    model = hamiltonian(steps=0)
    images, noise = torch.rand(5, *SHAPE), torch.randn(5, 2 * DIMS)
    output = model(images, noise)
    plain = VariationalAutoencoder(VariationalEncoder(nn.Flatten(), 16, DIMS), nn.Identity())
    plain.encoder, plain.bottleneck, plain.decoder = model.encoder, model.bottleneck, model.decoder
    other: Output = plain(images, noise[:, :DIMS])
    torch.testing.assert_close(output.reconstruction, other.reconstruction)
    mean, log_std = other.posterior
    q = torch.distributions.Normal(mean, log_std.exp())
    prior = torch.distributions.Normal(0.0, 1.0)
    expected = (q.log_prob(other.latent) - prior.log_prob(other.latent)).sum(1)
    torch.testing.assert_close(sampled_kl_term(output), expected, rtol=1e-4, atol=1e-5)
    names = [name for name, _ in model.named_parameters()]
    assert not [name for name in names if "logit" in name]


class Linear(nn.Module):
    """A decoder (B, 2) -> (B, 1, 1, 5) without bias, which is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(5, 2))

    def forward(self, latent: Tensor) -> Tensor:
        images: Tensor = (latent @ self.weight.T)[:, None, None]
        return images


class Blind(nn.Module):
    """An encoder that does not look: (B, ...) -> zeros (B, 1), so that the posterior is fixed."""

    def forward(self, images: Tensor) -> Tensor:
        return images.new_zeros(len(images), 1)


def linear_gaussian(steps: int) -> tuple[HamiltonianAutoencoder, MultivariateNormal]:
    """A model whose evidence is known: images are N(0, W W^T + std^2)."""
    torch.manual_seed(3)
    std, decoder = 0.8, Linear()
    model = HamiltonianAutoencoder(
        VariationalEncoder(Blind(), 1, 2),
        decoder,
        steps=steps,
        reconstruction_loss="gaussian_nll",
        std=std,
        step_size=0.2,
    )
    covariance = decoder.weight @ decoder.weight.T + std**2 * torch.eye(5)
    return model, MultivariateNormal(torch.zeros(5), covariance)


def test_importance_weights_of_moved_latents_average_to_the_evidence() -> None:
    model, evidence = linear_gaussian(4)
    image = evidence.sample((1,))
    count = 40_000
    with torch.no_grad():
        images = image.view(1, 1, 1, 5).expand(count, -1, -1, -1)
        weights = -negative_bound(model, images, torch.randn(count, 4)).double()
    estimate = torch.logsumexp(weights, 0) - math.log(count)
    spread = (weights - estimate).exp().std().item()
    relative = spread / math.sqrt(count)  # standard error of the mean
    assert relative < 0.05
    assert estimate.item() == pytest.approx(evidence.log_prob(image).item(), abs=4 * relative)


def test_leapfrog_steps_bring_the_bound_nearer_to_the_evidence() -> None:
    # The encoder does not see the image, so all that depends on it comes from the steps.
    gaps = []
    for steps in (0, 3):
        model, evidence = linear_gaussian(steps)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
        for _ in range(200):
            images = evidence.sample((128,)).view(-1, 1, 1, 5)
            optimizer.zero_grad()
            negative_bound(model, images, torch.randn(128, 4)).mean().backward()
            optimizer.step()
        held = evidence.sample((5000,))
        with torch.no_grad():
            bound = -negative_bound(model, held.view(-1, 1, 1, 5), torch.randn(5000, 4))
        gaps.append((evidence.log_prob(held) - bound).mean().item())
    assert gaps[1] > 0  # it stays a bound
    assert gaps[1] < 0.6 * gaps[0], gaps


def test_gradients_reach_all_parts_and_need_no_gradient_mode_to_move() -> None:
    model = hamiltonian()
    images, noise = torch.rand(4, *SHAPE), torch.randn(4, 2 * DIMS)
    negative_bound(model, images, noise).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    with torch.no_grad():
        still = model(images, noise)
    torch.testing.assert_close(still.latent, model(images, noise).latent.detach())
    assert (still.latent - model(images, noise * 0 + 0.1).latent).abs().max() > 0.01
    torch.testing.assert_close(model(images).latent, model.encode(images))


def test_a_stack_of_models_computes_what_each_does() -> None:
    models = [hamiltonian(), hamiltonian()]
    images, noise = torch.rand(2, 4, *SHAPE), torch.randn(2, 4, 2 * DIMS)
    stacked, buffers = torch.func.stack_module_state(models)

    def latent(weights: dict[str, Tensor], images: Tensor, noise: Tensor) -> Tensor:
        return torch.func.functional_call(models[0], (weights, buffers), (images, noise)).latent

    together = torch.func.vmap(latent)(stacked, images, noise)
    for number, model in enumerate(models):
        torch.testing.assert_close(together[number], model(images[number], noise[number]).latent)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"step_size is 0\.7; possible: above 0, below 0\.5"):
        hamiltonian(step_size=0.7)
    with pytest.raises(ConfigError, match="steps is -1"):
        hamiltonian(steps=-1)
    with pytest.raises(ConfigError, match="inverse_temperature is 0; possible: above 0, to 1"):
        hamiltonian(inverse_temperature=0)
    with pytest.raises(ConfigError, match=r"'ssim', whose likelihood .*: bce, gaussian_nll"):
        hamiltonian(reconstruction_loss="ssim")
    encoder = VariationalEncoder(EncoderMLP(SHAPE, 8), 8, DIMS)
    with pytest.raises(ConfigError, match="BatchNorm1d, by which images") as caught:
        HamiltonianAutoencoder(encoder, DecoderMLP(SHAPE, DIMS, normalization="bn1d"))
    assert "layernorm" in str(caught.value.hint)
    with pytest.raises(ConfigError, match="not EncoderMLP"):
        HamiltonianAutoencoder(EncoderMLP(SHAPE, 8), DecoderMLP(SHAPE, DIMS))
