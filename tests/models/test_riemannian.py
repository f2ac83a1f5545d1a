"""The Riemannian autoencoder: metric, leapfrog and bound, against slow or exact values."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from aelab.errors import ConfigError, ShapeError
from aelab.lab import Lab
from aelab.losses import make_objective
from aelab.models import DecoderMLP, EncoderMLP, RiemannianAutoencoder, VariationalEncoder
from aelab.models.riemannian import LatentMetric, log_density
from aelab.train import FitSettings, State, Validated, fit, make_state
from aelab.train.forward import Batch
from aelab.train.solver import solver_diverges
from aelab.types import Images

SHAPE, DIMS = (1, 4, 4), 3


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def riemannian(**options: object) -> RiemannianAutoencoder:
    """A small model for images of SHAPE with D = 3."""
    return RiemannianAutoencoder(
        VariationalEncoder(EncoderMLP(SHAPE, 8), 8, DIMS),
        DecoderMLP(SHAPE, DIMS, activation_last_layer="sigmoid"),
        EncoderMLP(SHAPE, DIMS * (DIMS + 1) // 2),
        **options,  # type: ignore[arg-type]
    )


def some_metric(count: int = 6, dims: int = DIMS, temperature: float = 1.5) -> LatentMetric:
    roots = torch.randn(count, dims, dims, dtype=torch.float64)
    centres = torch.randn(count, dims, dtype=torch.float64)
    return LatentMetric(centres, roots @ roots.mT, temperature, 0.1)


def by_loops(metric: LatentMetric, latent: Tensor) -> Tensor:
    """G at one latent (D,), written out."""
    inverse = metric.least * torch.eye(len(latent), dtype=latent.dtype)
    for centre, matrix in zip(metric.centres, metric.matrices, strict=True):
        distance = math.sqrt(sum(float(x) ** 2 for x in latent - centre))
        inverse = inverse + matrix * math.exp(-(distance**2) / metric.temperature**2)
    return torch.linalg.inv(inverse)


def test_the_metric_is_the_sum_of_bells_and_its_density_that_of_torch() -> None:
    metric, latents = some_metric(), torch.randn(4, DIMS, dtype=torch.float64)
    momentum = torch.randn(4, DIMS, dtype=torch.float64)
    densities = log_density(metric.root(latents), momentum) - 0.5 * DIMS * math.log(2 * math.pi)
    for row, latent in enumerate(latents):
        g = by_loops(metric, latent)
        torch.testing.assert_close(metric.inverse(latents)[row], torch.linalg.inv(g))
        torch.testing.assert_close(
            metric.velocity(latents, momentum)[row], g.inverse() @ momentum[row]
        )
        normal = MultivariateNormal(torch.zeros(DIMS, dtype=torch.float64), g)
        torch.testing.assert_close(densities[row], normal.log_prob(momentum[row]))
    far = metric.inverse(torch.full((1, DIMS), 50.0, dtype=torch.float64))
    torch.testing.assert_close(far[0], 0.1 * torch.eye(DIMS, dtype=torch.float64))


def test_the_matrix_of_an_image_is_made_from_a_triangle_with_a_positive_diagonal() -> None:
    values = torch.randn(2, 6)
    roots = riemannian()._roots(values)
    a, b, c, d, e, f = values[0].tolist()
    expected = [[math.exp(a), 0, 0], [d, math.exp(b), 0], [e, f, math.exp(c)]]
    torch.testing.assert_close(roots[0], torch.tensor(expected))


def test_the_first_momentum_has_the_covariance_of_the_metric() -> None:
    metric, latent = some_metric(), torch.randn(1, DIMS, dtype=torch.float64)
    white = torch.randn(200_000, DIMS, dtype=torch.float64)
    root = metric.root(latent)[0]
    momentum = torch.linalg.solve_triangular(root.T, white.T, upper=True).T
    g = by_loops(metric, latent[0])
    torch.testing.assert_close(torch.cov(momentum.T), g, atol=0.02 * float(g.abs().max()), rtol=0)


def energy(
    model: RiemannianAutoencoder, images: Tensor, z: Tensor, rho: Tensor, metric: LatentMetric
):  # type: ignore[no-untyped-def]
    """The Hamiltonian (B,), with the metric written out."""
    nll = torch.nn.functional.binary_cross_entropy(model.decoder(z), images, reduction="none")
    total = 0.5 * z.square().sum(1) + nll.flatten(1).sum(1)
    for row in range(len(z)):
        inverse = metric.inverse(z[row : row + 1])[0]
        own = 0.5 * rho[row] @ inverse @ rho[row] - 0.5 * torch.logdet(inverse)
        total = total + own * torch.eye(len(z), dtype=z.dtype)[row]
    return total


def test_one_step_solves_the_equations_of_the_generalised_leapfrog() -> None:
    model = riemannian(steps=1, step_size=0.1, inverse_temperature=1.0, iterations=25).double()
    images, metric = torch.rand(3, *SHAPE, dtype=torch.float64), some_metric()
    z, rho = torch.randn(2, 3, DIMS, dtype=torch.float64)
    there, last = model.travelled(images, z, rho, metric)

    def slopes(z: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        z, rho = z.detach().requires_grad_(), rho.detach().requires_grad_()
        return torch.autograd.grad(energy(model, images, z, rho, metric).sum(), (z, rho))  # type: ignore[return-value]

    step = 0.1
    # The last equation gives the momentum in the middle; the other two must then hold.
    half = last.detach()
    for _ in range(40):
        half = last.detach() + step / 2 * slopes(there, half)[0]
    assert (there - z).abs().max() > 0.01
    torch.testing.assert_close(half, rho - step / 2 * slopes(z, half)[0])
    middle = (slopes(z, half)[1] + slopes(there, half)[1]) / 2
    torch.testing.assert_close(there.detach(), z + step * middle)


@pytest.mark.parametrize("inverse_temperature", [1.0, 0.3])
def test_the_map_keeps_volumes_if_its_equations_are_solved(inverse_temperature: float) -> None:
    found = []
    for iterations in (1, 25):
        torch.manual_seed(0)
        model = riemannian(
            steps=3, step_size=0.1, iterations=iterations, inverse_temperature=inverse_temperature
        ).double()
        images, metric = torch.rand(1, *SHAPE, dtype=torch.float64), some_metric()

        def moved(both: Tensor) -> Tensor:
            latent, momentum = both.chunk(2)
            return torch.cat(model.travelled(images, latent[None], momentum[None], metric), 1)[0]  # noqa: B023

        both = torch.randn(2 * DIMS, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(moved, both)
        assert (jacobian - torch.eye(2 * DIMS)).abs().max() > 0.1  # it does move
        found.append(abs(torch.linalg.slogdet(jacobian)[1].item()))
    assert found[1] < 1e-8 < found[0]


def test_steps_without_tempering_go_back_with_the_momentum_turned() -> None:
    model = riemannian(steps=3, step_size=0.05, inverse_temperature=1.0, iterations=25).double()
    images, metric = torch.rand(3, *SHAPE, dtype=torch.float64), some_metric()
    latent, momentum = torch.randn(2, 3, DIMS, dtype=torch.float64)
    there, last = model.travelled(images, latent, momentum, metric)
    back, turned = model.travelled(images, there, -last, metric)
    assert (there - latent).abs().max() > 0.02
    torch.testing.assert_close(back, latent)
    torch.testing.assert_close(turned, -momentum)


def test_short_steps_without_tempering_keep_the_energy() -> None:
    images, errors = torch.rand(3, *SHAPE, dtype=torch.float64), []
    for steps, step_size in ((5, 0.1), (20, 0.025)):
        torch.manual_seed(1)
        model = riemannian(
            steps=steps, step_size=step_size, inverse_temperature=1.0, iterations=15
        ).double()
        metric, noise = some_metric(), torch.randn(2, 3, DIMS, dtype=torch.float64)
        end = model.travelled(images, *noise, metric)
        change = energy(model, images, *end, metric) - energy(model, images, *noise, metric)
        errors.append(change.abs().max().item())
    assert 0 < errors[1] < errors[0] / 8  # the error falls with the square of the step


def test_with_a_flat_metric_it_is_the_hamiltonian_autoencoder() -> None:
    model = riemannian(steps=3, least=1.0).double().eval()
    images = torch.rand(2, *SHAPE, dtype=torch.float64)
    latent, momentum = torch.randn(2, 2, DIMS, dtype=torch.float64)
    flat = model._metric_of(images, latent)  # nothing kept yet: G is the identity
    ours = model.travelled(images, latent, momentum, flat)
    theirs = model.moved(images, latent, momentum)
    torch.testing.assert_close(ours[0], theirs[0])
    torch.testing.assert_close(ours[1], theirs[1])


class Linear(nn.Module):
    """A decoder (B, 2) -> (B, 1, 1, 5) without bias, which is not trained."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(5, 2))

    def forward(self, latent: Tensor) -> Tensor:
        images: Tensor = (latent @ self.weight.T)[:, None, None]
        return images


class Blind(nn.Module):
    """Does not look at its images: (B, ...) -> learned numbers (B, n), the same for all."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.numbers = nn.Parameter(torch.zeros(count))

    def forward(self, images: Tensor) -> Tensor:
        return self.numbers.expand(len(images), -1)


def test_importance_weights_of_moved_latents_average_to_the_evidence() -> None:
    torch.manual_seed(3)
    std, decoder = 0.8, Linear()
    model = RiemannianAutoencoder(
        VariationalEncoder(Blind(1), 1, 2), decoder, Blind(3),
        steps=3, step_size=0.05, reconstruction_loss="gaussian_nll", std=std, iterations=8,
        centres=5, least=0.3,
    ).double().eval()  # fmt: skip
    roots = 0.3 * torch.randn(5, 2, 2).double()
    model._keep(torch.randn(5, 2).double(), roots @ roots.mT)
    weight = decoder.weight
    evidence = MultivariateNormal(
        torch.zeros(5).double(), weight @ weight.T + std**2 * torch.eye(5).double()
    )
    image, count = evidence.sample((1,)), 4_000
    objective = make_objective(model.terms)
    with torch.no_grad():
        images = image.view(1, 1, 1, 5).expand(count, -1, -1, -1)
        output = model(images, torch.randn(count, 4, dtype=torch.float64))
        weights = -objective.total(objective(output, images, 0), 0)
    estimate = torch.logsumexp(weights, 0) - math.log(count)
    relative = (weights - estimate).exp().std().item() / math.sqrt(count)
    assert relative < 0.1
    assert estimate.item() == pytest.approx(evidence.log_prob(image).item(), abs=4 * relative)


def test_the_latest_images_are_kept_as_centres_and_with_the_weights() -> None:
    model = riemannian(centres=5)
    kept: list[Tensor] = []
    for count in (2, 2, 3):
        images = torch.rand(count, *SHAPE)
        model.train()(images, torch.randn(count, 2 * DIMS))
        kept += model.encode(images).detach()
    assert {tuple(row.tolist()) for row in model.centres} == {tuple(r.tolist()) for r in kept[-5:]}
    assert bool((torch.linalg.eigvalsh(model.matrices) > 0).all())
    before = model.centres.clone()
    model.eval()(torch.rand(2, *SHAPE), torch.randn(2, 2 * DIMS))
    assert torch.equal(model.centres, before)
    other = riemannian(centres=5)
    other.load_state_dict(model.state_dict())
    images, noise = torch.rand(2, *SHAPE), torch.randn(2, 2 * DIMS)
    assert torch.equal(other.eval()(images, noise).latent, model(images, noise).latent)
    model.train()(torch.rand(12, *SHAPE), torch.randn(12, 2 * DIMS))  # more than are kept
    assert not torch.equal(model.centres, before)


def test_gradients_reach_all_parts_and_images_of_a_validation_are_independent() -> None:
    model, objective = riemannian(), make_objective(riemannian().terms)
    images, noise = torch.rand(6, *SHAPE), torch.randn(6, 2 * DIMS)
    objective.total(objective(model(images, noise), images, 0), 0).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    model.eval()
    with torch.no_grad():
        together = model(images, noise)
        alone = model(images[:1], noise[:1])
    torch.testing.assert_close(together.latent[:1], alone.latent)
    torch.testing.assert_close(model(images).latent, model.encode(images))


def test_what_cannot_work_is_refused() -> None:
    for name in ("temperature", "least", "centres", "iterations"):
        with pytest.raises(ConfigError, match=f"RiemannianAutoencoder: {name} is 0; possible"):
            riemannian(**{name: 0})
    model = riemannian()
    model.metric = EncoderMLP(SHAPE, 5)
    with pytest.raises(ShapeError, match="metric gives 5 numbers per image, and a latent of 3"):
        model(torch.rand(2, *SHAPE), torch.randn(2, 2 * DIMS))


def test_the_missed_equations_are_those_of_the_leapfrog() -> None:
    model = riemannian(steps=1, step_size=0.1, inverse_temperature=1.0, iterations=1).double()
    images, noise = torch.rand(4, *SHAPE).double(), torch.randn(4, 2 * DIMS).double()
    z, (mean, _) = model.bottleneck(model.encoder(images), noise[:, :DIMS])
    metric = model._made_of(images, mean)
    root = metric.root(z)
    rho = torch.linalg.solve(root.mT, noise[:, DIMS:, None])[..., 0]

    def slopes(z: Tensor, rho: Tensor) -> tuple[Tensor, Tensor]:
        z, rho = z.detach().requires_grad_(), rho.detach().requires_grad_()
        return torch.autograd.grad(energy(model, images, z, rho, metric).sum(), (z, rho))  # type: ignore[return-value]

    half = rho - 0.05 * slopes(z, rho)[0]
    first = half - (rho - 0.05 * slopes(z, half)[0])
    there = z + 0.1 * slopes(z, half)[1]
    second = there - (z + 0.05 * (slopes(z, half)[1] + slopes(there, half)[1]))
    sizes = [
        missed.norm(dim=1) / (value - missed).norm(dim=1).clamp(min=1)
        for missed, value in ((first, half), (second, there))
    ]
    torch.testing.assert_close(model.unsolved(images, noise), torch.maximum(*sizes).detach())
    model.iterations = 40
    assert float(model.unsolved(images, noise).max()) < 1e-12


@pytest.mark.parametrize(
    ("options", "level"),
    [
        ({}, None),
        ({"step_size": 0.4}, "warning"),
        ({"step_size": 0.4, "iterations": 12}, "problem"),
    ],
)
def test_steps_too_long_for_the_solver_are_told_with_a_shorter_one(
    options: dict[str, float], level: str | None
) -> None:
    model = riemannian(**options)
    images, noise = torch.rand(40, *SHAPE).round(), torch.randn(40, 2 * DIMS)
    told = solver_diverges(model, Batch(images, images, noise))
    if level is None:
        assert told is None
        return
    assert told is not None and told.level == level and told.code == "solver-diverges"
    assert "steps of 0.4" in told.message and "step_size, for instance 0.1" in told.way_out
    assert ("numbers end" in told.message) == (level == "problem")
    assert solver_diverges(DecoderMLP(SHAPE, 2), Batch(images, images, noise)) is None


def pictures(count: int) -> Images:
    generator = torch.Generator().manual_seed(3)
    return Images(torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8))


def test_a_run_continues_bit_for_bit_with_its_kept_centres() -> None:
    settings = FitSettings(batch_size=8, max_images=96)

    def made() -> State:
        torch.manual_seed(0)
        return make_state(riemannian(centres=12, steps=2), settings)

    def train(state: State, batches: int = 1_000) -> None:
        objective, remaining = make_objective(riemannian().terms), iter(range(batches))
        list(
            fit(state, objective, pictures(40), pictures(16), settings,
                should_stop=lambda: next(remaining, None) is None)
        )  # fmt: skip

    whole, first, second = made(), made(), made()
    train(whole)
    train(first, batches=5)
    tensors, numbers = first.stored()
    second.load(tensors, json.loads(json.dumps(numbers)))
    assert second.clock.batches == 5
    train(second)
    expected, found = whole.stored()[0], second.stored()[0]
    assert {"model.centres", "model.matrices", "model.place"} <= expected.keys() == found.keys()
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


def test_a_training_whose_solver_ends_numbers_is_refused_with_a_shorter_step() -> None:
    settings = FitSettings(batch_size=16, max_images=32)
    torch.manual_seed(0)
    state = make_state(riemannian(step_size=0.45, iterations=25), settings)
    with pytest.raises(ConfigError, match="numbers end for") as told:
        list(fit(state, make_objective(riemannian().terms), pictures(32), pictures(16), settings))
    assert "a shorter step_size" in (told.value.hint or "") and state.clock.images == 0


def test_a_validation_warns_of_a_solver_that_diverges() -> None:
    settings = FitSettings(batch_size=8, max_images=8, validate_every_images=8, learnrate=1e-6)
    torch.manual_seed(0)
    model = riemannian(step_size=0.2)
    state, objective = make_state(model, settings), make_objective(riemannian().terms)
    events = list(fit(state, objective, pictures(16), pictures(16), settings))
    told = [f for e in events if isinstance(e, Validated) for f in e.findings]
    assert "solver-diverges" in {finding.code for finding in told}, told


def test_the_doctor_tells_a_diverging_solver_once(tmp_path: Path) -> None:
    path = tmp_path / "far.yml"
    path.write_text(
        "experiment_name: far\n"
        "globals: {SHAPE: '(1, 8, 8)'}\n"
        "train_set: digits_dataset(train=True, shape=SHAPE)\n"
        "model: |\n"
        "  RiemannianAutoencoder(\n"
        "      VariationalEncoder(EncoderMLP(SHAPE, 16), 16, 4),\n"
        '      DecoderMLP(SHAPE, 4, activation_last_layer="sigmoid"),\n'
        "      EncoderMLP(SHAPE, 10), step_size=0.45, iterations=40)\n"
        "batch_size: 50\nlearnrate: 0.001\noptimizer: Adam\nmax_images: 8000\n"
    )
    (plan,) = Lab(tmp_path / "runs", device="cpu").check(path).runs
    codes = [found.code for found in plan.findings if found.level != "note"]
    assert codes.count("solver-diverges") == 1 and "term-without-gradient" not in codes
