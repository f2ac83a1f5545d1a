"""Validation is in evaluation mode, without noise, weighted by image, unless another is named."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from aelab.errors import ConfigError
from aelab.ops.subset import draw_order
from aelab.train import VALIDATIONS, evaluate
from aelab.types import Images


def a_model(tiny: SimpleNamespace) -> torch.nn.Module:
    torch.manual_seed(0)
    model: torch.nn.Module = tiny.Model(dropout=0.5)
    model.train()
    return model


def test_every_image_counts_the_same_however_it_is_cut(tiny: SimpleNamespace) -> None:
    model, images = a_model(tiny), tiny.images(50)
    whole = evaluate(model, tiny.objective, images, tiny.settings(validation_batch_size=50))
    cut = evaluate(model, tiny.objective, images, tiny.settings(validation_batch_size=16))
    assert cut == pytest.approx(whole, rel=1e-6)
    assert set(whole) == {"loss", "l1", "size"}


def test_validation_equals_the_mean_by_hand(tiny: SimpleNamespace) -> None:
    model, images = a_model(tiny), tiny.images(50)
    found = evaluate(model, tiny.objective, images, tiny.settings())
    model.eval()
    pixels = images.pixels.float() / 255
    with torch.no_grad():
        output = model(pixels)
    assert found["l1"] == pytest.approx((output.reconstruction - pixels).abs().mean().item())
    assert found["loss"] == pytest.approx(found["l1"] + 0.01 * found["size"])


def test_validation_leaves_mode_buffers_and_pixels_alone(tiny: SimpleNamespace) -> None:
    model, images = a_model(tiny), tiny.images(50)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    for validation in VALIDATIONS:
        for training in (False, True):
            model.train(training)
            evaluate(model, tiny.objective, images, tiny.settings(validation=validation))
            assert model.training is training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_an_unknown_validation_says_which_there_are(tiny: SimpleNamespace) -> None:
    settings = tiny.settings(validation="evaluation")
    with pytest.raises(ConfigError, match="unknown validation 'evaluation'"):
        evaluate(a_model(tiny), tiny.objective, tiny.images(20), settings)


def test_a_frozen_validation_set_is_drawn_once(tiny: SimpleNamespace) -> None:
    model, images = a_model(tiny), tiny.images(50, augment=True)
    free, frozen = tiny.settings(), tiny.settings(freeze_validation_set=True)
    losses = {
        name: [
            evaluate(model, tiny.objective, images, s, images_seen=n)["loss"] for n in (0, 64, 128)
        ]
        for name, s in (("free", free), ("frozen", frozen))
    }
    assert len(set(losses["free"])) == 3
    assert len(set(losses["frozen"])) == 1


def test_the_validation_limit_draws_images_of_every_class(tiny: SimpleNamespace) -> None:
    model, images = a_model(tiny), tiny.images(50)
    sorted_set = replace(images, labels=torch.arange(50) // 10)
    limited = evaluate(model, tiny.objective, sorted_set, tiny.settings(validation_limit=20))
    rows = draw_order(50, sorted_set.labels)[:20].sort().values
    assert torch.bincount(rows // 10).tolist() == [4] * 5  # not the first two classes
    assert limited == evaluate(model, tiny.objective, Images(images.pixels[rows]), tiny.settings())


@pytest.mark.parametrize("validation", VALIDATIONS)
def test_validation_does_not_change_training(tiny: SimpleNamespace, validation: str) -> None:
    weights = []
    for every in (None, 16):
        settings = tiny.settings(validate_every_images=every, validation=validation)
        state = tiny.start(settings)
        tiny.fit_all(state, settings, tiny.images(100), tiny.images(30, 1))
        weights.append(state.learner.model.out.weight)
    assert torch.equal(*weights)
