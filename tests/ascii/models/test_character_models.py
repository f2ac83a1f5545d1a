"""Models that write: reading characters, soft characters with noise, and what has a gradient."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from aelab.ascii.glyphs import character_numbers, numbers_to_images, to_grid
from aelab.ascii.medium import Characters
from aelab.ascii.models.characters import (
    CharacterAutoencoder,
    CharacterEmbedding,
    GumbelSoftmax,
    OneHotCharacters,
    Softmax,
)
from aelab.errors import ConfigError, DataError, ShapeError
from aelab.inspect import count_parameters, model_facts
from aelab.medium import PIXELS, medium_of
from aelab.models import (
    Autoencoder,
    DecoderConv2d,
    DecoderMLP,
    EncoderConv2d,
    EncoderMLP,
    Identity,
)
from aelab.train.clocked_modules import set_clock

CAT = numbers_to_images(to_grid([r" /\_/\ ", "( o.o )", " > ^ < "], (8, 9))[None])


def small(relaxation: nn.Module | None = None, reading: nn.Module | None = None):
    torch.manual_seed(3)
    width = 95 if reading is None else reading.channels
    encoder = EncoderConv2d((width, 8, 9), 6, channels=(4, 5))
    decoder = DecoderConv2d((95, 8, 9), 6, channels=(5, 4))
    return CharacterAutoencoder(encoder, None, decoder, reading, relaxation)


def test_one_hots_are_torchs() -> None:
    maps = OneHotCharacters()(CAT)
    expected = F.one_hot(character_numbers(CAT), 95).permute(0, 3, 1, 2)
    assert maps.dtype == torch.float32
    assert torch.equal(maps, expected.float())


def test_an_embedding_is_a_1x1_convolution_of_one_hots() -> None:
    reading = CharacterEmbedding(7)
    convolution = F.conv2d(OneHotCharacters()(CAT), reading.table.weight.T[:, :, None, None])
    torch.testing.assert_close(reading(CAT), convolution)
    assert count_parameters(small(reading=reading))["encoder"] > 95 * 7


@pytest.mark.parametrize("reading", [OneHotCharacters(), CharacterEmbedding(3)])
@pytest.mark.parametrize("training", [True, False])
def test_pictures_are_no_characters(reading: nn.Module, training: bool) -> None:
    reading.train(training)
    with pytest.raises(DataError, match=r"0 to 200 .* 95, from 0 to 94"):
        reading(torch.tensor([0, 200]).reshape(1, 1, 1, 2) / 255)
    with pytest.raises(ShapeError, match="3x4x4"):
        reading(torch.zeros(1, 3, 4, 4))


def test_a_model_says_what_is_likeliest_and_how_likely() -> None:
    model = small()
    output = model(CAT)
    logits = output.details["logits"]
    assert logits.shape == output.details["relaxed"].shape == (1, 95, 8, 9)
    assert torch.equal(character_numbers(output.reconstruction), logits.argmax(1))
    assert not output.reconstruction.requires_grad
    assert output.reconstruction.dtype == torch.float32
    torch.testing.assert_close(output.details["relaxed"], logits.softmax(1))
    assert torch.equal(model.decode(output.latent), output.reconstruction)
    assert torch.equal(model.encode(CAT), output.latent)
    assert model.medium == Characters()
    assert [term.formula for term in model.terms] == ["character_ce"]
    assert model_facts(model, (1, 8, 9)).latent_shape == (6,)


@pytest.mark.parametrize("which", ["logits", "relaxed"])
@pytest.mark.parametrize("relaxation", [Softmax(), GumbelSoftmax(), GumbelSoftmax(hard=False)])
def test_gradients_reach_the_encoder(which: str, relaxation: nn.Module) -> None:
    model = small(relaxation, CharacterEmbedding(4))
    weights = torch.randn(1, 95, 8, 9, generator=torch.Generator().manual_seed(1))
    (model(CAT).details[which] * weights).sum().backward()
    for name, parameter in [*model.encoder.named_parameters(), *model.reading.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name


def test_straight_through_draws_are_one_hots_with_the_gradient_of_the_soft_ones() -> None:
    logits = torch.randn(2, 95, 3, 4, requires_grad=True)
    weights = torch.randn(2, 95, 3, 4)
    torch.manual_seed(5)
    hard = GumbelSoftmax(tau=0.7)(logits)
    (gradient,) = torch.autograd.grad((hard * weights).sum(), logits)
    torch.manual_seed(5)
    soft = GumbelSoftmax(tau=0.7, hard=False)(logits)
    (expected,) = torch.autograd.grad((soft * weights).sum(), logits)
    assert torch.equal(hard.unique(), torch.tensor([0.0, 1.0]))
    assert torch.equal(hard.sum(1), torch.ones(2, 3, 4))
    assert torch.equal(hard.argmax(1), soft.argmax(1))
    torch.testing.assert_close(gradient, expected)
    torch.testing.assert_close(soft.sum(1), torch.ones(2, 3, 4))


def test_noise_is_torchs_own_formula() -> None:
    logits = torch.randn(2, 5, 3, 4)
    torch.manual_seed(11)
    ours = GumbelSoftmax(tau=0.4, hard=False)(logits)
    torch.manual_seed(11)
    theirs = F.gumbel_softmax(logits, tau=0.4, dim=1)
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("tau", [0.2, 0.9])
def test_characters_are_drawn_as_often_as_they_are_probable(tau: float) -> None:
    probabilities = torch.tensor([0.6, 0.25, 0.1, 0.05])
    draws = 40_000
    logits = probabilities.log()[None, :, None, None].expand(1, 4, 200, draws // 200)
    torch.manual_seed(0)
    frequencies = GumbelSoftmax(tau)(logits).mean((0, 2, 3))
    error = (probabilities * (1 - probabilities) / draws).sqrt()
    assert ((frequencies - probabilities).abs() < 4 * error).all(), frequencies


def test_a_low_temperature_makes_weights_hard_and_a_high_one_even() -> None:
    torch.manual_seed(0)
    logits = torch.randn(1, 20, 10, 10)
    assert GumbelSoftmax(0.01, hard=False)(logits).amax(1).mean() > 0.97
    assert GumbelSoftmax(100.0, hard=False)(logits).amax(1).mean() < 0.06


def test_evaluation_is_without_noise() -> None:
    logits = torch.randn(2, 95, 3, 4)
    hard, soft = GumbelSoftmax(0.5).eval(), GumbelSoftmax(0.5, hard=False).eval()
    expected = F.one_hot(logits.argmax(1), 95).permute(0, 3, 1, 2).float()
    assert torch.equal(hard(logits), expected)
    torch.testing.assert_close(soft(logits), (logits / 0.5).softmax(1))


def test_training_repeats_itself_from_torchs_seed() -> None:
    model = small(GumbelSoftmax())
    torch.manual_seed(1)
    first = model(CAT).details["relaxed"]
    torch.manual_seed(1)
    assert torch.equal(model(CAT).details["relaxed"], first)
    torch.manual_seed(2)
    assert not torch.equal(model(CAT).details["relaxed"], first)


@pytest.mark.parametrize(
    ("rate", "epoch", "tau"),
    [(3e-5, 16_310, 0.61), (7e-6, 25_000, 0.84), (1e-5, 25_000, 0.78), (3e-5, 23_105, 0.5)],
)
def test_temperatures_are_the_documents_at_its_epochs(rate: float, epoch: int, tau: float) -> None:
    relaxation = GumbelSoftmax(1.0, rate_per_epoch=rate, floor=0.5)
    model = small(relaxation)
    assert relaxation.tau == 1.0
    set_clock(model, 0, epoch)
    assert relaxation.tau == pytest.approx(tau, abs=0.005)
    set_clock(model, 0, 100 * epoch)
    assert relaxation.tau == 0.5
    set_clock(model, 0, 0)
    assert relaxation.tau == 1.0


@pytest.mark.parametrize(
    ("rate", "epoch"), [(7e-6, 99_021), (1e-5, 69_315), (3e-5, 23_105), (7e-5, 9_902)]
)
def test_the_floor_is_reached_when_the_document_says(rate: float, epoch: int) -> None:
    relaxation = GumbelSoftmax(1.0, rate_per_epoch=rate, floor=0.5)
    relaxation.at(0, epoch - 1)
    assert relaxation.tau > 0.5
    relaxation.at(0, epoch + 1)  # the document's numbers are rounded
    assert relaxation.tau == 0.5


def test_a_temperature_may_fall_with_images() -> None:
    relaxation = GumbelSoftmax(0.9, rate_per_image=1e-4, floor=0.2)
    relaxation.at(5_000, 3)
    assert relaxation.tau == pytest.approx(0.9 * math.exp(-0.5))
    constant = GumbelSoftmax(0.9)
    constant.at(10**9, 10**6)
    assert constant.tau == 0.9


@pytest.mark.parametrize(
    "options",
    [{"tau": 0.0}, {"floor": 2.0}, {"rate_per_epoch": -1.0}, {"rate_per_image": 1e-3}],
)
def test_a_schedule_that_makes_no_sense_is_refused(options: dict) -> None:
    with pytest.raises(ConfigError, match="GumbelSoftmax"):
        GumbelSoftmax(**options)


def test_half_precision_draws_in_full_precision() -> None:
    logits = torch.randn(1, 95, 2, 2).bfloat16()
    assert GumbelSoftmax()(logits).dtype == Softmax()(logits).dtype == torch.float32


def test_a_decoder_that_paints_is_refused() -> None:
    model = CharacterAutoencoder(
        EncoderConv2d((95, 8, 9), 6, channels=(4,)), None, DecoderMLP((1, 8, 9), 6)
    )
    with pytest.raises(ShapeError, match=r"1x8x9.*95xHxW"):
        model(CAT)


def test_alphabets_of_images_and_model_must_agree() -> None:
    writes = small()
    paints = Autoencoder(EncoderMLP((1, 8, 9), 4), Identity(), DecoderMLP((1, 8, 9), 4))
    Characters().refuse_model(medium_of(writes))
    PIXELS.refuse_model(medium_of(paints))
    with pytest.raises(ConfigError, match=r"the model outputs pixels[^\n]*\n.*small_ascii_ae"):
        Characters().refuse_model(medium_of(paints))
    with pytest.raises(ConfigError, match=r"the model outputs characters[^\n]*\n.*image_to_ascii"):
        PIXELS.refuse_model(medium_of(writes))
    with pytest.raises(ConfigError, match="number 2 characters, ' #'"):
        Characters(" #").refuse_model(medium_of(writes))
