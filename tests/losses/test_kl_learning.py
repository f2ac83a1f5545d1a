"""What the two KL formulas do to a small model: the known signatures of both."""

from __future__ import annotations

import pytest
import torch

from aelab.losses import gaussian_kl, make_objective
from aelab.models import (
    DecoderMLP,
    EncoderMLP,
    VariationalAutoencoder,
    VariationalEncoder,
)

SHAPE = (1, 16, 16)


def discs(num_images, generator):
    place = torch.rand(num_images, 3, 1, 1, generator=generator)
    axis = torch.linspace(0, 1, 16)
    distance = (axis.view(1, 16, 1) - place[:, 0]) ** 2 + (axis.view(1, 1, 16) - place[:, 1]) ** 2
    return (distance.sqrt() < 0.15 + 0.25 * place[:, 2]).float()[:, None]


def train(kl, kl_weight, steps, learnrate=1e-3):
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = VariationalAutoencoder(
        VariationalEncoder(EncoderMLP(SHAPE, 128, hidden=(256,)), 128, 16),
        DecoderMLP(SHAPE, 16, hidden=(256,)),
        "l1",
        kl_loss_weight=kl_weight,
        kl=kl,
    )
    objective = make_objective(model.terms)
    optimizer = torch.optim.Adam(model.parameters(), learnrate)
    images = discs(4096, generator)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learnrate * (1 - step / steps)
        batch = images[torch.randint(0, len(images), (64,), generator=generator)]
        values = objective(model(batch, torch.randn(64, 16, generator=generator)), batch, step * 64)
        optimizer.zero_grad()
        objective.total(values, step * 64).mean().backward()
        optimizer.step()
    with torch.no_grad():
        held_out = discs(512, generator)
        output = model(held_out, torch.randn(512, 16, generator=generator))
        values = {name: v.mean().item() for name, v in objective(output, held_out, 0).items()}
        true_kl = gaussian_kl(*output.posterior).mean().item()
        spread = output.posterior.log_std.exp().mean().item()
    median = (held_out - held_out.median(dim=0).values).abs().mean().item()
    return values, true_kl, spread, median


@pytest.mark.slow
def test_the_legacy_formula_draws_the_spread_to_zero():
    values, true_kl, spread, _ = train("legacy", 1.0, steps=2000)
    assert values["kl"] < 0.02
    assert true_kl > 50 and spread < 0.02


@pytest.mark.slow
def test_the_legacy_formula_gives_an_autoencoder_with_a_shrinking_code():
    values, true_kl, spread, median = train("legacy", 0.01, steps=2000)
    assert values["l1"] < 0.6 * median
    assert true_kl > 50 and spread < 0.02


@pytest.mark.slow
def test_the_correct_formula_collapses_at_weight_one():
    values, true_kl, spread, median = train("gaussian", 1.0, steps=2000)
    assert values["l1"] > 0.95 * median
    assert true_kl < 0.01 and spread == pytest.approx(1.0, abs=0.05)


@pytest.mark.slow
def test_the_correct_formula_learns_at_a_tenth_of_one_per_pixel():
    values, true_kl, _, median = train("gaussian", 0.1 / (16 * 16), steps=2000)
    assert values["l1"] < 0.6 * median
    assert 5 < true_kl < 60
