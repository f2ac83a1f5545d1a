"""Too little memory: parts of a batch instead of the whole one, where that is the same."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import RunFailed
from aelab.posteriors import Deterministic
from aelab.train import Halved, State, Validated, ValidationHalved, fit, make_state
from aelab.types import Output


class Plain(nn.Module):
    """An autoencoder without statistics of a batch; it needs memory for each image."""

    noise_shape, terms = None, ()

    def __init__(self, fits: int, batch_norm: bool = False) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(64, 6), nn.Linear(6, 64)
        self.norm = nn.BatchNorm1d(6) if batch_norm else nn.Identity()
        self.dropout = nn.Dropout(0.2)
        self.fits = fits

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        code = self.norm(self.encoder(images.flatten(1)))
        if self.training and len(images) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB")
        picture = self.decoder(self.dropout(code)).sigmoid().reshape(-1, 1, 8, 8)
        return Output(picture, code, Deterministic())


class OfTheBatch:
    """A loss that has one value for a batch."""

    def __call__(self, output: Output, target: Tensor, images_seen: int) -> dict[str, Tensor]:
        spread = output.latent.std(0, correction=0).mean()
        return {"spread": spread.expand(len(target))}

    def total(self, values: dict[str, Tensor], images_seen: int) -> Tensor:
        return values["spread"]


def trained(tiny: SimpleNamespace, objective: Any = None, **model: Any) -> tuple[State, list[Any]]:
    settings = tiny.settings(max_images=160)
    torch.manual_seed(0)
    state = make_state(Plain(**model), settings)
    events = list(fit(state, objective or tiny.objective, tiny.images(64), None, settings))
    return state, events


def test_a_batch_that_does_not_fit_is_computed_in_parts(tiny: SimpleNamespace) -> None:
    torch.manual_seed(0)
    (whole, _), (parts, events) = trained(tiny, fits=99), trained(tiny, fits=5)
    assert [event for event in events if isinstance(event, Halved)] == [Halved(0, 4)]
    assert events[-1].images == 160
    assert parts.learner.members[0].micro_batch == 4
    assert parts.stored()[1]["micro_batch"] == 4
    model, other = whole.learner.members[0].model, parts.learner.members[0].model
    assert whole.clock.steps == parts.clock.steps == 10
    # Dropout draws others for each part; everything else is the same up to rounding.
    assert torch.allclose(model.encoder.weight, other.encoder.weight, atol=0.02)


def test_statistics_of_a_batch_are_refused_with_advice(tiny: SimpleNamespace) -> None:
    with pytest.raises(RunFailed) as caught:
        trained(tiny, fits=5, batch_norm=True)
    assert "computing them in parts would change the result" in caught.value.message
    assert "GroupNorm" in str(caught.value.hint)


def test_a_loss_of_the_whole_batch_is_refused_too(tiny: SimpleNamespace) -> None:
    with pytest.raises(RunFailed, match="depends on the other images of its batch"):
        trained(tiny, OfTheBatch(), fits=5)


def test_what_does_not_fit_at_all_is_the_same_error_as_before(tiny: SimpleNamespace) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        trained(tiny, fits=0)


class Held(Plain):
    """A model that needs memory for each image in evaluation mode only."""

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        if not self.training and len(images) > self.fits:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 8.00 GiB")
        fits, self.fits = self.fits, len(images)
        output = super().forward(images, noise)
        self.fits = fits
        return output


def validated(
    tiny: SimpleNamespace, objective: Any = None, fits: int = 99, **changes: Any
) -> tuple[State, list[Any]]:
    settings = tiny.settings(
        **{"max_images": 160, "validate_every_images": 80, "validation_batch_size": 16, **changes}
    )
    torch.manual_seed(0)
    state, images = make_state(Held(fits), settings), tiny.images(64)
    return state, list(fit(state, objective or tiny.objective, images, images, settings))


def test_a_validation_that_does_not_fit_takes_fewer_images_at_once(tiny: SimpleNamespace) -> None:
    (_, whole), (parts, events) = validated(tiny), validated(tiny, fits=5)
    halved = [event for event in events if isinstance(event, ValidationHalved)]
    first = next(event.images for event in events if isinstance(event, Validated))
    assert halved == [ValidationHalved(first, 4)]  # said once, then kept
    assert parts.stored()[1]["validation_batch"] == 4
    losses = [
        [event.terms["loss"] for event in each if isinstance(event, Validated)]
        for each in (whole, events)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) >= 2


def test_a_run_that_continues_keeps_the_size_of_its_validations(tiny: SimpleNamespace) -> None:
    state, _ = validated(tiny, fits=5)
    settings = tiny.settings(max_images=320, validate_every_images=80, validation_batch_size=16)
    continued = make_state(Held(5), settings)
    continued.load(*state.stored())
    images = tiny.images(64)
    events = list(fit(continued, tiny.objective, images, images, settings))
    assert not [event for event in events if isinstance(event, ValidationHalved)]
    assert [event for event in events if isinstance(event, Validated)]


def test_a_validation_loss_of_whole_batches_is_refused_with_advice(tiny: SimpleNamespace) -> None:
    with pytest.raises(RunFailed, match="smaller ones would give another loss") as caught:
        validated(tiny, OfTheBatch(), fits=5)
    assert "validation_batch_size: 8" in str(caught.value.hint)


def test_a_single_image_that_does_not_fit_ends_the_validation(tiny: SimpleNamespace) -> None:
    with pytest.raises(torch.OutOfMemoryError):
        validated(tiny, fits=0)
