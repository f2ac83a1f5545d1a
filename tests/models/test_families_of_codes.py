"""Combined quantizers, signs, sparse codes and categories against values from elsewhere."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
import vector_quantize_pytorch as reference
from torch import Tensor, nn

from aelab.errors import ConfigError, ShapeError
from aelab.losses.latent import kl_term
from aelab.models import (
    BSQ,
    FSQ,
    LFQ,
    VQ,
    Autoencoder,
    BatchTopK,
    Categorical,
    DecoderMLP,
    EncoderMLP,
    GaussianAndCategorical,
    Grouped,
    Residual,
    TopK,
)
from aelab.models.quantizers import rotated
from aelab.posteriors import CategoricalPosterior
from aelab.types import Output


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_residual_levels_add_up_to_what_the_library_chooses() -> None:
    ours = Residual([VQ(16, 4), VQ(16, 4), VQ(16, 4)]).eval()
    theirs = reference.ResidualVQ(dim=4, num_quantizers=3, codebook_size=16, kmeans_init=False)
    theirs.eval()
    for mine, other in zip(ours.quantizers, theirs.layers, strict=True):
        mine.codebook.copy_(other._codebook.embed[0])
    features = torch.randn(5, 7, 4)
    latent, posterior = ours(features)
    quantized, index, _ = theirs(features)
    assert torch.equal(posterior.choice, index)
    torch.testing.assert_close(latent, quantized)
    assert list(ours.codebooks.values()) == [16, 16, 16]


def test_each_residual_level_leaves_less_over() -> None:
    features = torch.randn(64, 8, requires_grad=True)
    errors: list[float] = []
    for levels in (1, 2, 3):
        quantizer = Residual([FSQ((5, 5)) for _ in range(levels)])
        latent, _ = quantizer(0.3 * features)
        errors.append((latent - 0.3 * features).detach().square().mean().item())
    assert errors[2] < errors[1] < errors[0] / 2
    latent.sum().backward()  # straight-through: as if nothing had been quantized
    torch.testing.assert_close(features.grad, torch.full_like(features, 0.3))


def test_groups_have_codebooks_of_their_own() -> None:
    first, second = VQ(8, 2), VQ(4, 2)
    features = torch.randn(3, 8, 2, 5)
    latent, posterior = Grouped([first, second])(features)
    for part, piece, rows in ((first, features[:, :4], 0), (second, features[:, 4:], 1)):
        alone, codes = part.eval()(piece)
        assert torch.equal(posterior.choice[..., rows], codes.index)
        torch.testing.assert_close(latent[:, 4 * rows : 4 * rows + 4], alone)
    with pytest.raises(ShapeError, match="cannot be cut into 2 equal groups"):
        Grouped([VQ(8, 2), VQ(4, 2)])(torch.randn(3, 5))


def test_codebooks_inside_of_combined_quantizers_learn() -> None:
    parts = [VQ(4, 2), VQ(4, 2)]
    model = Autoencoder(
        EncoderMLP((1, 4, 4), 4), Grouped([Residual(parts), LFQ(2)]), DecoderMLP((1, 4, 4), 4)
    )
    before = [part.codebook.clone() for part in parts]
    model.train()(torch.rand(6, 1, 4, 4))
    model.after_step()
    assert all(not torch.equal(a, p.codebook) for a, p in zip(before, parts, strict=True))
    assert [term.name for term in model.terms] == ["commitment", "code_entropy"]
    assert model.codebooks == {"1": 4, "2": 4, "3": 4}


@pytest.mark.parametrize("combined", [Residual, Grouped])
def test_combined_quantizers_refuse_what_cannot_be_meant(combined: type[nn.Module]) -> None:
    one = VQ(4, 2)
    with pytest.raises(ConfigError, match="stands in the list twice"):
        combined([one, one])
    with pytest.raises(ConfigError, match="Linear is no quantizer"):
        combined([nn.Linear(2, 2)])
    with pytest.raises(ConfigError, match="Categorical is no quantizer"):
        combined([Categorical(4)])
    with pytest.raises(ConfigError, match="at least one quantizer"):
        combined([])


def test_levels_of_fixed_entries_become_finer_and_learned_ones_see_the_error_itself() -> None:
    mixed = Residual([VQ(4, 2), FSQ((3, 3)), Residual([VQ(4, 2)]), Grouped([LFQ(2)])])
    assert mixed.scales == [1.0, 0.25, 1.0, 0.25**3]
    assert Residual([VQ(4, 2), FSQ((3, 3))], scale=0.5).scales == [1.0, 0.5]


@pytest.mark.parametrize("make", [LFQ, BSQ])
def test_the_code_is_made_of_signs_and_its_entropy_is_that_of_all_entries(
    make: type[LFQ],
) -> None:
    quantizer = make(3, sharpness=0.7, diversity=0.5)
    features = torch.randn(5, 6)
    latent, posterior = quantizer(features)
    entries = quantizer.lookup(torch.arange(8)[None])[0]  # (8, 3)
    assert torch.equal(latent.sign(), features.sign())
    torch.testing.assert_close(quantizer.lookup(posterior.index).view_as(latent), latent)
    vectors = features.view(5, 2, 3)
    vectors = nn.functional.normalize(vectors, dim=-1) if make is BSQ else vectors
    distance = (vectors[:, :, None] - entries).square().sum(-1)
    p = (-0.7 * distance).softmax(-1)  # (5, 2, 8), of all entries
    sure = -(p * p.log()).sum(-1).mean(1)
    bits = torch.tensor(list(itertools.product((0, 1), repeat=3)), dtype=torch.float32).flip(1)
    share = (p @ bits).mean((0, 1))
    varied = -(share * share.log() + (1 - share) * (1 - share).log()).sum()
    torch.testing.assert_close(posterior.code_entropy, sure - 0.5 * varied)


def test_lfq_counts_as_the_library_does() -> None:
    theirs = reference.LFQ(codebook_size=16, dim=4).eval()
    features = torch.randn(2, 9, 4)
    quantized, index, _ = theirs(features)
    latent, posterior = LFQ(4)(features)
    torch.testing.assert_close(latent, quantized)
    # The library's first bit is the highest.
    flipped = sum(((posterior.index >> bit) & 1) << (3 - bit) for bit in range(4))
    assert torch.equal(flipped, index)


def test_two_levels_are_signs() -> None:
    quantizer = FSQ((2, 5, 2))
    features = torch.randn(50, 3)
    latent, posterior = quantizer(features)
    assert quantizer.codebook_size == 20
    assert torch.equal(latent[:, [0, 2]], features[:, [0, 2]].sign())
    torch.testing.assert_close(quantizer.lookup(posterior.index)[:, 0], latent)


def test_top_k_keeps_the_largest_and_their_gradient() -> None:
    features = torch.tensor([[3.0, -1.0, 2.0, 1.0]], requires_grad=True)
    latent, _ = TopK(2)(features)
    assert latent.tolist() == [[3.0, 0.0, 2.0, 0.0]]
    latent.sum().backward()
    assert features.grad is not None and features.grad.tolist() == [[1.0, 0.0, 1.0, 0.0]]


def test_batch_top_k_shares_the_budget_and_keeps_its_threshold_for_later() -> None:
    bottleneck = BatchTopK(1, decay=0.0)
    features = torch.tensor([[3.0, 2.5, 1.0], [0.1, 0.2, 0.3]])
    assert bottleneck.train()(features)[0].tolist() == [[3.0, 2.5, 0.0], [0.0, 0.0, 0.0]]
    alone = bottleneck.eval()(torch.tensor([[2.4, 2.6, 0.0]]))[0]
    torch.testing.assert_close(alone, torch.tensor([[0.0, 2.6, 0.0]]))


def test_the_divergence_of_categories_is_that_of_torch() -> None:
    logits = torch.randn(4, 3, 5)
    posterior = CategoricalPosterior(logits.log_softmax(-1))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=logits),
        torch.distributions.Categorical(logits=torch.zeros(4, 3, 5)),
    )
    torch.testing.assert_close(posterior.kl(), expected)
    output = Output(torch.zeros(4, 1, 2, 2), torch.zeros(4, 15), posterior)
    torch.testing.assert_close(kl_term(output), expected.sum(1))


def test_categories_are_drawn_as_often_as_they_are_likely() -> None:
    p = torch.tensor([0.5, 0.3, 0.2])
    posterior = CategoricalPosterior(p.log().expand(20_000, 1, 3))
    generator = torch.Generator().manual_seed(1)

    def normal(shape: tuple[int, ...]) -> Tensor:
        return torch.randn(shape, generator=generator)

    one_hot, ratio = posterior.draw(normal)
    torch.testing.assert_close(one_hot.mean(0), p, atol=0.01, rtol=0)
    assert float(ratio.exp().mean()) == pytest.approx(1.0, abs=0.02)  # E_q[p / q] = 1
    prior = posterior.draw_prior(9000, normal)
    torch.testing.assert_close(prior.mean(0), torch.full((3,), 1 / 3), atol=0.02, rtol=0)


def test_the_relaxed_category_is_near_a_corner_when_it_is_cold() -> None:
    features, noise = torch.randn(6, 4), torch.randn(6, 10)
    hard, _ = Categorical(4, 2, 5, temperature=0.01)(features, noise)
    assert (hard.view(6, 2, 5).max(-1).values > 0.95).float().mean() > 0.8
    mean, posterior = Categorical(4, 2, 5)(features)
    torch.testing.assert_close(mean.view(6, 2, 5).sum(-1), torch.ones(6, 2))
    assert posterior.choices()["2"].shape == (6, 1)


def test_a_joint_latent_has_both_divergences() -> None:
    latent, posterior = GaussianAndCategorical(4, 3, 2, 5)(torch.randn(6, 4), torch.randn(6, 13))
    assert latent.shape == (6, 13) and posterior.kl().shape == (6, 5)
    prior = posterior.draw_prior(7, torch.randn)
    assert prior.shape == (7, 13)
    assert prior[:, 3:].sum(1).tolist() == [2.0] * 7
    assert math.isfinite(posterior.draw(torch.randn)[1].detach().sum().item())


def test_the_rotation_is_the_gradient_of_the_library() -> None:
    from vector_quantize_pytorch.vector_quantize_pytorch import rotate_to

    gradients = []
    entries = torch.randn(2, 5, 4)
    for towards in (rotated, rotate_to):
        vectors = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(3))
        vectors.requires_grad_()
        made = towards(vectors, entries)
        torch.testing.assert_close(made.detach(), entries)
        (made * torch.arange(4.0)).sum().backward()
        gradients.append(vectors.grad)
    torch.testing.assert_close(*gradients)


def test_entries_of_directions_have_length_one() -> None:
    quantizer = VQ(8, 4, cosine=True, start="kmeans")
    for _ in range(3):
        latent, _ = quantizer.train()(10 * torch.randn(40, 4))
        torch.testing.assert_close(latent.norm(dim=1), torch.ones(40))
        quantizer.after_step()


def test_k_means_begins_in_the_middle_of_clusters() -> None:
    middles = torch.tensor([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0]])
    vectors = middles.repeat(30, 1) + 0.1 * torch.randn(90, 2)
    errors = {}
    for start in ("batch", "kmeans"):
        quantizer = VQ(3, 2, start=start)  # type: ignore[arg-type]
        quantizer.train()(vectors)
        quantizer.after_step()
        errors[start] = float(quantizer.eval()(vectors)[1].commitment.mean())
    assert errors["kmeans"] < 0.02 and errors["kmeans"] <= errors["batch"]
