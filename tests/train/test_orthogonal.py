"""Muon of convolutions: against the singular value decomposition, torch's own, and stopped runs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.train import Choice, make_optimizer
from aelab.train.orthogonal import COEFFICIENTS, MuonOfViews, orthogonalize, update_scale


def by_decomposition(matrix: Tensor, num_steps: int = 5) -> Tensor:
    """The same, from the definition: the polynomial on the singular values, in float64."""
    u, s, vt = torch.linalg.svd(matrix.double(), full_matrices=False)
    s = s / s.square().sum().sqrt()
    a, b, c = COEFFICIENTS
    for _ in range(num_steps):
        s = a * s + b * s**3 + c * s**5
    return u @ torch.diag(s) @ vt


@pytest.mark.parametrize("shape", [(7, 7), (4, 30), (30, 4), (1, 9), (9, 1)], ids=str)
@pytest.mark.parametrize("num_steps", [1, 5])
def test_orthogonalizing_is_the_polynomial_of_the_singular_values(
    shape: tuple[int, int], num_steps: int
) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    got = orthogonalize(matrix, num_steps).double()
    torch.testing.assert_close(got, by_decomposition(matrix, num_steps), atol=1e-4, rtol=1e-3)


def test_an_orthogonalized_matrix_has_singular_values_near_one_in_the_same_directions() -> None:
    matrix = torch.randn(16, 144, generator=torch.Generator().manual_seed(2))
    u, _, vt = torch.linalg.svd(matrix, full_matrices=False)
    inside = u.T @ orthogonalize(matrix) @ vt.T
    assert inside.diagonal().min() > 0.65 and inside.diagonal().max() < 1.2
    assert (inside - torch.diag(inside.diagonal())).abs().max() < 1e-3


def test_a_matrix_of_zeros_stays_zero() -> None:
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))


@pytest.mark.parametrize("adjust", ["original", "match_rms_adamw", None])
@pytest.mark.parametrize("nesterov", [True, False])
def test_on_matrices_it_is_torchs_muon(adjust: str | None, nesterov: bool) -> None:
    options = {"lr": 0.02, "weight_decay": 0.1, "nesterov": nesterov, "adjust_lr_fn": adjust}
    generator = torch.Generator().manual_seed(3)
    start = torch.randn(6, 20, generator=generator)
    one, other = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    ours, theirs = MuonOfViews([one], **options), torch.optim.Muon([other], **options)
    for _ in range(5):
        one.grad = torch.randn(6, 20, generator=generator)
        other.grad = one.grad.clone()
        ours.step(), theirs.step()
    # torch's works in bfloat16, whose steps are 0.4 % apart
    moved = (other - start).norm()
    assert (one - other).norm() < 0.02 * moved


def test_a_convolution_moves_as_the_matrix_of_its_patches() -> None:
    generator = torch.Generator().manual_seed(4)
    weight = nn.Parameter(torch.randn(5, 3, 3, 3, generator=generator))
    matrix = nn.Parameter(weight.detach().reshape(5, 27).clone())
    ours = MuonOfViews([weight], lr=0.1), MuonOfViews([matrix], lr=0.1)
    weight.grad = torch.randn(5, 3, 3, 3, generator=generator)
    matrix.grad = weight.grad.reshape(5, 27).clone()
    for optimizer in ours:
        optimizer.step()
    torch.testing.assert_close(weight.detach().reshape(5, 27), matrix.detach())


def test_the_memory_layout_does_not_change_the_update() -> None:
    generator = torch.Generator().manual_seed(5)
    plain = nn.Parameter(torch.randn(4, 6, 3, 3, generator=generator))
    nhwc = nn.Parameter(plain.detach().clone(memory_format=torch.channels_last))
    plain.grad = torch.randn(4, 6, 3, 3, generator=generator)
    nhwc.grad = plain.grad.clone(memory_format=torch.channels_last)
    MuonOfViews([plain]).step(), MuonOfViews([nhwc]).step()
    assert nhwc.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(nhwc.detach(), plain.detach())


def test_the_update_has_the_size_of_adamws() -> None:
    rows, columns = 12, 108
    update = orthogonalize(torch.randn(rows, columns)) * update_scale(
        "match_rms_adamw", rows, columns
    )
    assert 0.1 < update.square().mean().sqrt() < 0.3


@pytest.mark.parametrize("convolutions", [False, True])
def test_convolutions_go_to_muon_only_when_asked(tiny: SimpleNamespace, convolutions: bool) -> None:
    model = tiny.Model()
    choice = Choice("Muon", {"convolutions": convolutions, "adamw_factor": 0.25})
    *muon, rest = make_optimizer(model, choice, 1e-2).param_groups
    assert {p.ndim for p in rest["params"]} == ({1} if convolutions else {1, 4})
    assert [{p.ndim for p in g["params"]} for g in muon] == ([{2}, {4}] if convolutions else [{2}])
    assert [g["lr"] for g in muon] == [1e-2] * len(muon) and rest["lr"] == 2.5e-3
    trained = {p for g in (*muon, rest) for p in g["params"]}
    assert trained == set(model.parameters())


def test_a_schedule_keeps_the_factor_between_the_parts(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(
        optimizer=Choice("Muon", {"convolutions": True, "adamw_factor": 0.5}),
        scheduler=Choice("step", {"every_images": 100, "factor": 0.1}),
    )
    state = tiny.start(settings)
    tiny.fit_all(state, settings, tiny.images(100))
    *muon, rest = [group["lr"] for group in state.learner.optimizer.param_groups]
    assert muon == pytest.approx([1e-6, 1e-6]) and rest == pytest.approx(5e-7)


def test_an_unknown_argument_of_muon_is_answered_with_the_possible_ones(
    tiny: SimpleNamespace,
) -> None:
    with pytest.raises(ConfigError, match="did you mean 'convolutions'"):
        make_optimizer(tiny.Model(), Choice("Muon", {"convolution": True}), 1e-3)


@pytest.mark.parametrize(
    "arguments",
    [
        {"ns_steps": 100},
        {"ns_coefficients": [3.4, -4.8]},
        {"adjust_lr_fn": "rms"},
        {"momentum": -0.1},
    ],
)
def test_a_wrong_value_of_muon_is_named(tiny: SimpleNamespace, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as said:
        make_optimizer(tiny.Model(), Choice("Muon", arguments), 1e-3)
    assert next(iter(arguments)) in str(said.value)
