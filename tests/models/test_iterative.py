"""An autoencoder that corrects its code by the error of its own reconstruction."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from aelab.errors import ConfigError
from aelab.losses import make_objective
from aelab.models import (
    DecoderMLP,
    EncoderDecoder,
    EncoderMLP,
    IterativeAutoencoder,
    iterative_image_ae,
)
from aelab.models.iterative import ERROR_SCALE
from aelab.types import TermSpec

SHAPE = (3, 4, 6)


def _model(**options: object) -> IterativeAutoencoder:
    torch.manual_seed(0)
    encoder = EncoderMLP((6, 4, 6), 5, hidden=(16,))
    return IterativeAutoencoder(encoder, DecoderMLP(SHAPE, 5, hidden=(16,)), **options)  # type: ignore[arg-type]


def test_a_code_is_the_sum_of_what_the_encoder_makes_of_images_and_errors() -> None:
    model, images = _model(steps=2), torch.rand(3, *SHAPE)
    code = model.encoder(torch.cat([images, 0 * images], 1))
    drawn = []
    for _ in range(2):
        drawn.append(model.decoder(code))
        code = code + model.encoder(torch.cat([images, ERROR_SCALE * (images - drawn[-1])], 1))
    output = model(images)
    torch.testing.assert_close(output.latent, code)
    torch.testing.assert_close(model.encode(images), code)
    torch.testing.assert_close(output.reconstruction, model.decode(code))
    torch.testing.assert_close(output.posterior.earlier, torch.stack(drawn, 1))


def test_the_term_is_the_mean_error_of_the_earlier_reconstructions() -> None:
    model, images = _model(steps=3, earlier_weight=0.5), torch.rand(3, *SHAPE)
    objective = make_objective([TermSpec("l2", "l2"), *model.terms])
    with torch.no_grad():
        output = model(images)
        values = objective(output, images, 0)
    expected = [
        [(output.posterior.earlier[n, s] - images[n]).square().mean() for s in range(3)]
        for n in range(3)
    ]
    assert values["earlier_error"].tolist() == pytest.approx(
        [float(sum(row)) / 3 for row in expected]
    )
    torch.testing.assert_close(
        objective.total(values, 0), values["l2"] + 0.5 * values["earlier_error"]
    )


def test_the_decoder_learns_nothing_by_the_errors_that_the_encoder_sees() -> None:
    model, images = _model(earlier_weight=0.0), torch.rand(3, *SHAPE)
    given = torch.autograd.grad(
        model(images).reconstruction.sum(), list(model.decoder.parameters())
    )
    code = model.encode(images).detach()
    alone = torch.autograd.grad(model.decode(code).sum(), list(model.decoder.parameters()))
    for one, other in zip(given, alone, strict=True):
        torch.testing.assert_close(one, other)


def test_an_error_of_either_kind_can_be_chosen() -> None:
    images = torch.rand(3, *SHAPE)
    model = _model(error="l1")
    output = model(images)
    found = make_objective(list(model.terms))(output, images, 0)["earlier_error"]
    expected = (output.posterior.earlier[:, 0] - images).abs().mean((1, 2, 3))
    torch.testing.assert_close(found, expected)
    with pytest.raises(ConfigError, match=r"error must be 'l2' or 'l1', not 'l3'"):
        make_objective([TermSpec("e", "earlier_error", 1, {"error": "l3"})])


def test_mistakes_are_told_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"steps = 0; possible: 1, 2"):
        _model(steps=0)
    with pytest.raises(ConfigError, match="twice the channels") as caught:
        IterativeAutoencoder(EncoderMLP(SHAPE, 5), DecoderMLP(SHAPE, 5))
    assert "EncoderMLP((6, H, W), ...)" in str(caught.value.hint)
    plain = EncoderDecoder(EncoderMLP(SHAPE, 5), DecoderMLP(SHAPE, 5))
    images = torch.rand(2, *SHAPE)
    with pytest.raises(ConfigError, match="corrects nothing") as caught:
        make_objective([TermSpec("earlier_error", "earlier_error")])(plain(images), images, 0)
    assert "IterativeAutoencoder" in str(caught.value.hint)


def test_a_correction_lowers_the_error_of_a_trained_model() -> None:
    torch.manual_seed(1)
    images = (2 * torch.randn(64, 5) @ torch.randn(5, 72)).sigmoid().view(64, *SHAPE)
    model = _model()
    objective = make_objective([TermSpec("l2", "l2"), *model.terms])
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(300):
        optimizer.zero_grad()
        values = objective(model(images), images, 0)
        objective.total(values, 0).mean().backward()
        optimizer.step()
    assert values["l2"].mean() < 0.9 * values["earlier_error"].mean()


def test_the_preset_takes_any_size_and_has_the_parameters_of_its_page() -> None:
    model = iterative_image_ae((1, 28, 28))
    assert sum(p.numel() for p in model.parameters()) == 636_529
    small = iterative_image_ae((3, 9, 13), 4, channels=(4, 6), hidden=(8,), blocks=(0, 1))
    images = torch.rand(2, 3, 9, 13)
    assert small(images).reconstruction.shape == images.shape
    assert len([part for part in small.modules() if isinstance(part, nn.ConvTranspose2d)]) == 1
