"""A U-Net: what passes beside its code, and what is left without it."""

from __future__ import annotations

import pytest
import torch

from aelab.errors import ConfigError
from aelab.models import UNet

SHAPE = (1, 9, 12)


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def test_with_code_is_the_model_with_its_own_codes_and_changes_with_others() -> None:
    model, images = UNet(SHAPE, 6, (4, 6, 8)).eval(), torch.rand(3, *SHAPE)
    output = model(images)
    assert torch.equal(model.with_code(images, output.latent), output.reconstruction)
    other = model.with_code(images, output.latent.roll(1, 0))
    assert (other - output.reconstruction).abs().amax((1, 2, 3)).min() > 1e-5
    assert not torch.equal(model.decode(output.latent), output.reconstruction)
    # With the maps of another image, the same code gives another picture.
    swapped = model.with_code(images.roll(1, 0), output.latent)
    assert (swapped - output.reconstruction).abs().amax((1, 2, 3)).min() > 1e-5


@pytest.mark.parametrize("skips", [0, 1, 2])
def test_skips_are_counted_from_the_coarsest_map(skips: int) -> None:
    model = UNet(SHAPE, 6, (4, 6, 8), skips=skips).eval()
    latent, maps = model.encoder(torch.rand(2, *SHAPE))
    assert [m.shape[1:] for m in maps] == [(4, 9, 12), (6, 5, 6)]
    made = model.decoder(latent, maps)
    without_fine = model.decoder(latent, [torch.zeros_like(maps[0]), maps[1]])
    without_coarse = model.decoder(latent, [maps[0], torch.zeros_like(maps[1])])
    assert torch.equal(without_fine, made) == (skips < 2)
    assert torch.equal(without_coarse, made) == (skips < 1)
    assert model.bypasses == (skips > 0)


def test_without_skips_it_is_an_ordinary_autoencoder() -> None:
    model, images = UNet(SHAPE, 6, skips=0).eval(), torch.rand(2, *SHAPE)
    output = model(images)
    assert torch.equal(model.decode(model.encode(images)), output.reconstruction)


def test_more_skips_than_maps_are_refused() -> None:
    with pytest.raises(ConfigError, match="3 stages have 2 maps to pass, and skips is 3"):
        UNet(SHAPE, 6, (4, 6, 8), skips=3)
