"""The documents' validation: training mode, drawn latents, every batch counts the same."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from aelab.train import Validated, evaluate
from aelab.types import Images


def a_model(tiny: SimpleNamespace) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = tiny.Model(dropout=0.5)
    return model.train()


def test_it_counts_batches_equally(tiny: SimpleNamespace) -> None:
    """Without dropout, noise and BatchNorm only the weights of batches differ."""

    class Still(type(a_model(tiny))):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(dropout=0.0, noise=False)
            self.norm = torch.nn.Identity()

    torch.manual_seed(0)
    model = Still()
    pixels = torch.cat([torch.zeros(16, 1, 8, 8), torch.ones(2, 1, 8, 8)])
    settings = tiny.settings(validation_batch_size=16)
    dark = evaluate(model, tiny.objective, Images(pixels[:16]), settings)["loss"]
    light = evaluate(model, tiny.objective, Images(pixels[16:]), settings)["loss"]
    honest = evaluate(model, tiny.objective, Images(pixels), settings)["loss"]
    legacy_settings = tiny.settings(validation_batch_size=16, validation="legacy")
    legacy = evaluate(model, tiny.objective, Images(pixels), legacy_settings)["loss"]
    assert honest == pytest.approx((16 * dark + 2 * light) / 18, rel=1e-5)
    assert legacy == pytest.approx((dark + light) / 2, rel=1e-5)


def test_it_samples_latents_and_drops_out(tiny: SimpleNamespace) -> None:
    model, images = a_model(tiny), tiny.images(50)
    settings = tiny.settings(validation="legacy")
    first = evaluate(model, tiny.objective, images, settings, images_seen=0)
    again = evaluate(model, tiny.objective, images, settings, images_seen=0)
    later = evaluate(model, tiny.objective, images, settings, images_seen=64)
    honest = evaluate(model, tiny.objective, images, tiny.settings())
    assert first == again
    assert first["loss"] != later["loss"]
    assert first["size"] > 2 * honest["size"]  # the noise of the latent


def test_it_comes_right_after_the_first_batch(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(max_images=200, validate_every_images=100, validation="legacy")
    events = tiny.fit_all(tiny.start(settings), settings, tiny.images(500), tiny.images(20, 1))
    assert [event.images for event in events if isinstance(event, Validated)] == [16, 112, 208]
