"""Models of second stages: paths from noise to codes and back."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from aelab.errors import ConfigError
from aelab.stages.autoregressive import CodeTransformer, PixelCNN, _Autoregressive
from aelab.stages.denoising import FlowMatching, LatentDiffusion, _Denoiser
from aelab.stages.losses import CodeLikelihood, DenoisingError


def _grown(model: torch.nn.Module, seed: int = 0) -> None:
    """Weights that are not zero anywhere, as after training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.2 * torch.randn(weight.shape, generator=generator))


@pytest.mark.slow
@pytest.mark.parametrize("kind", [FlowMatching, LatentDiffusion])
def test_a_denoiser_leads_noise_to_the_data_it_was_trained_on(kind: type[_Denoiser]) -> None:
    torch.manual_seed(0)
    model = kind((2, 1, 1), width=32, blocks=2, steps=10)
    optimizer = torch.optim.Adam(model.parameters(), 0.003)
    loss = DenoisingError()

    def two_points(count: int) -> Tensor:
        """Two clusters far from each other: no normal distribution."""
        signs = torch.randint(0, 2, (count, 1)) * 2.0 - 1
        return (signs * torch.tensor([1.0, -1.0]) + 0.1 * torch.randn(count, 2))[..., None, None]

    for _ in range(400):
        images = two_points(128)
        value = loss(model(images, torch.randn(128, 3)), images).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        made = model.decode(torch.randn(500, 2)).flatten(1)
    # Both clusters, each about half of the samples, and little in between.
    assert 0.35 < (made[:, 0] > 0).float().mean() < 0.65
    assert (made[:, 0] + made[:, 1]).abs().mean() < 0.3
    assert (made.abs() - 1).abs().mean() < 0.25


@pytest.mark.parametrize("kind", [FlowMatching, LatentDiffusion])
@pytest.mark.parametrize("shape", [(6, 1, 1), (2, 4, 4), (3, 5, 1)])
def test_encoding_is_the_way_back_of_decoding(
    kind: type[_Denoiser], shape: tuple[int, int, int]
) -> None:
    torch.manual_seed(1)
    model = kind(shape, width=8, blocks=1, steps=40).eval()
    _grown(model)
    images = torch.randn(4, *shape)
    with torch.no_grad():
        back = model.decode(model.encode(images))
        assert torch.allclose(back, images, atol=0.02)
        assert torch.allclose(model(images).reconstruction, images, atol=0.02)


@pytest.mark.parametrize("kind", [FlowMatching, LatentDiffusion])
def test_the_path_starts_at_noise_and_ends_at_the_image(kind: type[_Denoiser]) -> None:
    model = kind((1, 1, 1))
    a, b, a_slope, b_slope = model.path(torch.tensor([0.0, 0.3, 1.0]))
    assert torch.allclose(a[[0, 2]], torch.tensor([0.0, 1.0]), atol=1e-6)
    assert torch.allclose(b[[0, 2]], torch.tensor([1.0, 0.0]), atol=1e-6)
    assert torch.allclose(a * b_slope - b * a_slope, -torch.ones(3), atol=1e-6)
    step = 1e-3
    ahead, behind = (model.path(torch.tensor([0.3 + sign * step])) for sign in (1, -1))
    for slope, after, before in ((a_slope, ahead[0], behind[0]), (b_slope, ahead[1], behind[1])):
        assert torch.allclose((after - before) / (2 * step), model.speed * slope[1:2], atol=1e-3)


@pytest.mark.parametrize("kind", [FlowMatching, LatentDiffusion])
def test_a_perfect_prediction_implies_the_image(kind: type[_Denoiser]) -> None:
    torch.manual_seed(2)
    model = kind((3, 1, 1), width=8, blocks=1)
    images, noise = torch.randn(5, 3, 1, 1), torch.randn(5, 4)
    wanted = model(images, noise).details["wanted"]
    model.network.forward = lambda x, time: wanted  # type: ignore[method-assign]
    output = model(images, noise)
    assert torch.allclose(output.reconstruction, images, atol=1e-4)
    assert torch.equal(DenoisingError()(output, images), torch.zeros(5))


def _models() -> list[_Autoregressive]:
    torch.manual_seed(3)
    made: list[_Autoregressive] = [
        PixelCNN((1, 3, 4), 5, width=8, blocks=3),
        CodeTransformer((2, 3, 2), 5, num_hidden=16, num_layers=2, num_heads=2),
    ]
    for model in made:
        _grown(model)
        model.eval()
    return made


@pytest.mark.parametrize("number", [0, 1])
def test_logits_depend_on_all_places_before_and_on_no_later_one(number: int) -> None:
    model = _models()[number]
    entries = torch.randn(1, model.length, 5, requires_grad=True)
    # The embedding is replaced by numbers that have a gradient.
    weight = model.tokens.weight
    before = torch.cat([entries @ weight[:5], weight[None, -1:]], 1)
    model.tokens.forward = (  # type: ignore[method-assign]
        lambda index: before[:, index[0].clamp(max=model.length)]
    )
    places = torch.arange(model.length)[None]
    if isinstance(model, CodeTransformer):
        model.codebook_size = model.length  # the row that stands before the first
    logits = model.logits(places)
    for place in range(model.length):
        (slope,) = torch.autograd.grad(logits[0, place].sum(), entries, retain_graph=True)
        reached = slope[0].abs().sum(-1) > 0
        assert not reached[place:].any()
        if isinstance(model, CodeTransformer):
            assert reached[:place].all()
        elif place >= 4:
            assert reached[place - 4]  # straight above: there is no blind spot
            assert place % 4 == 3 or reached[place - 3]  # above to the right
            assert place % 4 == 0 or reached[place - 1]


@pytest.mark.parametrize("number", [0, 1])
def test_indices_survive_the_way_to_normal_numbers_and_back(number: int) -> None:
    model = _models()[number]
    images = torch.randint(0, 5, (6, *model.shape)).float()
    assert torch.equal(model.decode(model.encode(images)), images)
    assert torch.allclose(model(images).latent, model.encode(images), atol=1e-6)


@pytest.mark.parametrize("number", [0, 1])
def test_normal_noise_is_decoded_to_samples_of_the_model(number: int) -> None:
    model = _models()[number]
    made = model.decode(torch.randn(1500, model.length)).movedim(1, 3).flatten(1).long()
    # The first index has an unconditional distribution, the second one given the first.
    first = model.logits(made[:1])[0, 0].softmax(0)
    share = torch.bincount(made[:, 0], minlength=5) / 1500
    assert torch.allclose(share, first, atol=0.05)
    most = int(share.argmax())
    chosen = made[made[:, 0] == most]
    wanted = model.logits(chosen[:1])[0, 1].softmax(0)
    given = torch.bincount(chosen[:, 1], minlength=5) / len(chosen)
    assert torch.allclose(given, wanted, atol=0.1)


def test_the_likelihood_of_codes_is_the_product_of_the_conditional_ones() -> None:
    model = _models()[0]
    images = torch.randint(0, 5, (3, 1, 3, 4)).float()
    value = CodeLikelihood()(model(images), images)
    log_p = model.logits(images.flatten(1).long()).log_softmax(-1)
    own = log_p.gather(-1, images.flatten(1).long()[..., None])[..., 0]
    assert torch.allclose(value, -own.mean(1), atol=1e-6)
    # All pictures of two places: the probabilities sum to 1.
    small = PixelCNN((1, 1, 2), 3, width=4, blocks=1)
    _grown(small)
    every = torch.cartesian_prod(torch.arange(3), torch.arange(3)).float().view(9, 1, 1, 2)
    total = (-2 * CodeLikelihood()(small(every), every)).exp().sum().item()
    assert math.isclose(total, 1.0, abs_tol=1e-5)


def test_mistakes_name_the_way_out() -> None:
    with pytest.raises(ConfigError, match="it takes one"):
        PixelCNN((2, 4, 4), 8)
    with pytest.raises(ConfigError, match="at least 1"):
        FlowMatching((4, 1, 1), steps=0)
    with pytest.raises(ConfigError, match="no output 'code_logits'"):
        images = torch.randn(2, 4, 1, 1)
        CodeLikelihood()(FlowMatching((4, 1, 1), width=8)(images), images)
