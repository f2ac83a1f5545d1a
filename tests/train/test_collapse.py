"""Blank pictures, dead codes and a latent that tells nothing are found while a run trains."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from aelab.losses import make_objective
from aelab.models import VQ, Autoencoder, DecoderMLP, EncoderMLP, Gaussian, Identity, UNet
from aelab.train import FitSettings, Validated, fit, make_state
from aelab.train.collapse import LATE_BATCHES, collapses
from aelab.types import Images, TermSpec

SHAPE = (1, 8, 8)


def greys(count: int) -> Images:
    generator = torch.Generator().manual_seed(0)
    brightness = torch.randint(0, 256, (count, 1, 1, 1), generator=generator, dtype=torch.uint8)
    return Images(brightness.repeat(1, 1, 8, 8))


def noise(count: int) -> Images:
    generator = torch.Generator().manual_seed(0)
    return Images(torch.randint(0, 256, (count, *SHAPE), generator=generator, dtype=torch.uint8))


def found(
    model: nn.Module,
    terms: tuple[TermSpec, ...],
    learnrate: float,
    images: Callable[[int], Images] = greys,
) -> list[Any]:
    """The findings of a validation after a training of 240 batches."""
    settings = FitSettings(
        batch_size=8,
        learnrate=learnrate,
        max_images=8 * 240,
        validate_every_images=8 * 240,
        threads=1,
    )
    state = make_state(model, settings)
    events = list(fit(state, make_objective(terms), images(64), images(64), settings))
    (event,) = (event for event in events if isinstance(event, Validated))
    return [finding for finding in event.findings if finding.code != "worse-than-untrained"]


def vae() -> nn.Module:
    torch.manual_seed(0)
    return Autoencoder(
        EncoderMLP(SHAPE, 8, hidden=(12,)), Gaussian(8, 4), DecoderMLP(SHAPE, 4, hidden=(12,))
    )


def test_a_kl_that_is_zero_is_found_with_its_mend() -> None:
    terms = (TermSpec("l1", "l1", 1.0), TermSpec("kl", "kl", 30.0))
    codes = {finding.code: finding for finding in found(vae(), terms, 1e-2)}
    assert {"latent-collapsed", "output-constant"} == codes.keys()
    assert "free_bits_nats" in codes["latent-collapsed"].way_out
    assert "nats per image" in codes["latent-collapsed"].message


def test_a_sound_run_has_no_finding() -> None:
    terms = (TermSpec("l1", "l1", 1.0), TermSpec("kl", "kl", 1e-5))
    assert found(vae(), terms, 3e-3) == []


def test_a_saturated_output_is_found() -> None:
    torch.manual_seed(0)
    model = Autoencoder(
        EncoderMLP(SHAPE, 8, hidden=(12,)),
        Identity(),
        DecoderMLP(SHAPE, 8, hidden=(12,), activation_last_layer="sigmoid"),
    )
    with torch.no_grad():
        [m for m in model.modules() if isinstance(m, nn.Linear)][-1].bias.fill_(-60.0)
    (finding,) = found(model, (TermSpec("l1", "l1", 1.0),), 1e-6)
    assert finding.code == "output-constant", finding


def test_dead_codes_are_counted_against_what_could_be_used() -> None:
    torch.manual_seed(0)
    model = Autoencoder(EncoderMLP(SHAPE, 8), VQ(256, 8), DecoderMLP(SHAPE, 8))
    looks = {"choices": 64.0}
    (finding,) = collapses(model, {"codebook_usage": 2 / 256}, looks, LATE_BATCHES)
    assert finding.code == "codes-dead" and "0.78% of the 256 entries are used" in finding.message
    assert collapses(model, {"codebook_usage": 5 / 256}, looks, LATE_BATCHES) == []
    assert collapses(model, {"codebook_usage": 2 / 256}, looks, LATE_BATCHES - 1) == []


@pytest.mark.parametrize("batches", [0, LATE_BATCHES - 1])
def test_the_mean_picture_of_the_beginning_is_no_collapse(
    tiny: SimpleNamespace, batches: int
) -> None:
    looks = {"spread": 0.0, "target_spread": 1.0, "nats": 0.0}
    assert collapses(tiny.Model(), {}, looks, batches) == []


def test_pictures_that_hardly_need_the_code_are_found_while_a_model_trains() -> None:
    torch.manual_seed(0)
    terms = (TermSpec("l1", "l1", 1.0),)
    (told,) = found(UNet(SHAPE, 4, (8, 8)), terms, 3e-3, noise)
    assert told.code == "code-bypassed" and "with the codes of other images 0.0" in told.message
    torch.manual_seed(0)
    # Images of one brightness each: the code is enough, and is used.
    assert found(UNet(SHAPE, 4, (8, 8)), terms, 3e-3) == []
