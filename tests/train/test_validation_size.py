"""How many images a validation computes at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from aelab.inspect import as_model
from aelab.losses import make_objective
from aelab.train import FitSettings, fit, make_state
from aelab.train.batches import Batches
from aelab.train.validation_size import choose_validation_size
from aelab.types import Images, TermSpec

SETTINGS = FitSettings(batch_size=8, max_images=32, threads=1)


class Net(nn.Module):
    """One hidden layer; `width` numbers an image are the largest value."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.Tanh())
        self.decoder = nn.Sequential(nn.Linear(width, 64), nn.Unflatten(1, (1, 8, 8)))

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> the same."""
        return self.decoder(self.encoder(images))  # type: ignore[no-any-return]


class Neighbours(Net):
    """Its images see each other."""

    def forward(self, images: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> the same."""
        return super().forward(images + images.mean(0))


def _images(count: int = 400) -> Images:
    generator = torch.Generator().manual_seed(1)
    return Images(torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=generator))


def _chosen(net: nn.Module, settings: FitSettings = SETTINGS, count: int = 400) -> int:
    model = as_model(net)
    objective = make_objective([TermSpec("l2", "l2")])
    batches = Batches(_images(count), torch.device("cpu"))
    before = torch.get_rng_state()
    size = choose_validation_size(model, objective, batches, settings, 0)
    assert torch.equal(before, torch.get_rng_state()) and model.training
    assert not any(module._forward_hooks for module in model.modules())
    return size


def test_a_small_net_is_validated_in_large_batches() -> None:
    assert _chosen(Net()) == 256


def test_a_layer_of_large_values_takes_fewer_at_once() -> None:
    assert _chosen(Net(width=100_000)) == 32  # 400 kB an image


@pytest.mark.parametrize(
    ("net", "settings", "count"),
    [
        (Neighbours(), SETTINGS, 400),
        (Net(), replace(SETTINGS, batch_size=300), 400),
        (Net(), replace(SETTINGS, validation="legacy"), 400),
        (Net(), replace(SETTINGS, input_transforms=(lambda x, g: x,)), 400),
        (Net(), replace(SETTINGS, validation_limit=8), 400),
        (Net(), SETTINGS, 8),
    ],
    ids=["neighbours", "large batches", "legacy", "drawn a batch", "limit", "few images"],
)
def test_else_it_is_that_of_training(net: nn.Module, settings: FitSettings, count: int) -> None:
    assert _chosen(net, settings, count) == settings.batch_size


def test_the_choice_is_stored_and_kept_and_an_older_checkpoint_has_its_own() -> None:
    objective = make_objective([TermSpec("l2", "l2")])
    torch.manual_seed(0)
    state = make_state(as_model(Net()), SETTINGS)
    losses = [event for event in fit(state, objective, _images(), _images(), SETTINGS)]
    assert losses
    tensors, numbers = state.stored()
    assert numbers["validation_batch"] == 256
    again = make_state(as_model(Net()), SETTINGS)
    again.load(tensors, {**numbers, "validation_batch": 32})
    assert again.learner.members[0].validation_batch == 32
    del numbers["validation_batch"]
    again.load(tensors, numbers)
    list(fit(again, objective, _images(), _images(), replace(SETTINGS, max_images=64)))
    assert again.stored()[1]["validation_batch"] == 0
