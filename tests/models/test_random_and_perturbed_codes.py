"""RandomProjection and FSP against an independent implementation, and by what they promise."""

from __future__ import annotations

import pytest
import torch
import vector_quantize_pytorch as reference

from aelab.errors import ConfigError, ShapeError
from aelab.models import FSP, RandomProjection


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_a_random_projection_chooses_as_the_reference_implementation() -> None:
    ours = RandomProjection(codebook_size=32, dims=8, entry_dims=4)
    theirs = reference.RandomProjectionQuantizer(dim=8, codebook_size=32, codebook_dim=4)
    theirs.rand_projs.copy_(ours.projection[None])
    theirs.vq._codebook.embed.copy_(ours.codebook[None])
    vectors = 3 * torch.randn(5, 200, 8) + 1
    latent, posterior = ours(vectors)
    assert torch.equal(posterior.index, theirs(vectors))
    torch.testing.assert_close(latent, ours.lookup(posterior.index))
    assert latent.shape == (5, 200, 4) and len(posterior.index.unique()) > 25


@pytest.mark.parametrize(
    ("before", "after", "count"), [((3, 24), (3, 12), 3), ((3, 16, 2, 5), (3, 8, 2, 5), 20)]
)
def test_entries_take_the_place_of_vectors(
    before: tuple[int, ...], after: tuple[int, ...], count: int
) -> None:
    bottleneck = RandomProjection(16, 8, 4).train()
    state = {name: tensor.clone() for name, tensor in bottleneck.state_dict().items()}
    features = torch.randn(before, requires_grad=True)
    latent, posterior = bottleneck(features)
    assert latent.shape == after and posterior.index.shape == (3, count)
    last = latent.permute(0, 2, 3, 1) if latent.ndim == 4 else latent
    torch.testing.assert_close(last.reshape(3, count, 4), bottleneck.lookup(posterior.index))
    (latent * torch.randn(after)).sum().backward()
    assert features.grad is not None and features.grad.abs().sum() > 0
    assert not list(bottleneck.parameters()) and set(state) == {"projection", "codebook"}
    assert all(torch.equal(t, state[name]) for name, t in bottleneck.state_dict().items())


def test_fsp_without_noise_equals_the_reference_implementation() -> None:
    for curve, name in (("logistic", "tanh"), ("normal", "normal")):
        ours = FSP(3, (8, 5, 2), curve)
        theirs = reference.FSP([8, 5, 2], act_name=name).eval()
        features = 1.5 * torch.randn(400, 3)
        latent, posterior = ours(features)
        expected, index, _, _ = theirs(features)
        torch.testing.assert_close(latent, expected, rtol=1e-5, atol=1e-5)
        assert torch.equal(posterior.index[:, 0], index.long())
        torch.testing.assert_close(ours.lookup(posterior.index)[:, 0], latent)
        everything = torch.arange(ours.codebook_size)
        torch.testing.assert_close(
            ours.lookup(everything[None])[0], theirs.indices_to_codes(everything)
        )


def test_noise_of_fsp_is_uniform_over_the_width_of_a_level() -> None:
    bottleneck = FSP(1, (4,))
    features = torch.full((20_000, 1), 0.1)
    latent, _ = bottleneck(features, torch.randn(20_000, 1))
    moved = latent / 12**0.5 + 0.5 - torch.sigmoid(torch.tensor(0.2))
    assert -0.125 <= moved.min() < -0.124 and 0.124 < moved.max() <= 0.1251
    assert moved.std().item() == pytest.approx(0.25 / 12**0.5, rel=0.02)
    # Near the end, noise that would leave 0..1 is left out.
    latent, _ = bottleneck(features + 3, torch.randn(20_000, 1))
    assert latent.max() <= 3**0.5
    assert (latent == latent.mode(0).values).float().mean() > 0.4


def test_fsp_keeps_the_gradient_of_its_curve_with_and_without_noise() -> None:
    bottleneck = FSP((4, 2, 2), (5, 3))
    for noise in (None, torch.randn(3, 4, 2, 2)):
        features = torch.randn(3, 4, 2, 2, requires_grad=True)
        latent, posterior = bottleneck(features, noise)
        assert latent.shape == features.shape and posterior.index.shape == (3, 8)
        latent.sum().backward()
        share = torch.sigmoid(2 * features.detach())
        expected = 2 * share * (1 - share) * 12**0.5
        torch.testing.assert_close(features.grad, expected)


def test_settings_and_shapes_without_sense_are_refused() -> None:
    with pytest.raises(ConfigError, match="dims and entry_dims at least 2, not 16, 8 and 1"):
        RandomProjection(16, 8, 1)
    with pytest.raises(ConfigError, match=r"at least 2 levels, not \(8, 1\)"):
        FSP(4, (8, 1))
    with pytest.raises(ConfigError, match="curve is 'tan'; possible: logistic, normal"):
        FSP(4, (8, 5), "tan")  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="gives 6, but 4 were declared"):
        FSP(4, (8, 5))(torch.randn(2, 6))
    with pytest.raises(ShapeError, match="cannot be split into vectors of 8"):
        RandomProjection(16, 8, 4)(torch.randn(2, 12))
