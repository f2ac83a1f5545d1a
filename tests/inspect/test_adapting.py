"""Modules of a user's own as models: which inner tensor is their latent."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import ConfigError
from aelab.inspect import as_model, model_facts
from aelab.losses import make_objective
from aelab.types import TermSpec

SHAPE = (1, 4, 4)


class Own(nn.Module):
    """A module as people write it: an encoder, a decoder, and a forward of their own."""

    def __init__(self, returned: Any = None, calls: int = 1) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Flatten(1), nn.Linear(16, 3))
        self.decoder = nn.Sequential(nn.Linear(3, 16), nn.Unflatten(1, SHAPE))
        self.returned, self.calls = returned, calls

    def forward(self, x: Tensor) -> Any:
        for _ in range(self.calls):
            code = self.encoder(x)
        images = self.decoder(code.relu())
        return images if self.returned is None else self.returned(images)


class Pair(nn.Module):
    """An encoder that returns more than the code."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x.flatten(1)[:, :3], x


def test_the_latent_is_what_the_encoder_returned_on_the_way() -> None:
    own = Own()
    model = as_model(own, SHAPE)
    x = torch.rand(2, *SHAPE)
    output = model(x)
    assert torch.equal(output.latent, own.encoder(x)) and output.latent.requires_grad
    assert torch.equal(output.reconstruction, own(x))
    assert model_facts(model, SHAPE).latent_shape == (3,)
    assert not own.encoder._forward_hooks, "nothing stays behind"


def test_the_first_of_several_results_counts_on_both_sides() -> None:
    own = Own(returned=lambda images: (images, 1))
    own.encoder = Pair()
    own.decoder = nn.Linear(3, 3)
    own.forward = lambda x: (x, own.decoder(own.encoder(x)[0]))  # type: ignore[method-assign]
    x = torch.rand(2, *SHAPE)
    assert torch.equal(as_model(own)(x).latent, x.flatten(1)[:, :3])


@pytest.mark.parametrize("change", ["twice", "never", "no decoder", "no module", "numbers", "flat"])
def test_an_uncertain_latent_is_empty(change: str) -> None:
    own = Own(calls=2 if change == "twice" else 1)
    forwards = {
        "never": lambda x: x,
        "no decoder": lambda x: (own.encoder(x), x)[1],
        "no module": lambda x: (own.encoder(x), x)[1],
        "numbers": lambda x: (own.encoder(x), x)[1],
        "flat": lambda x: (own.encoder(x), x)[1],
    }
    if change == "no decoder":
        del own.decoder
    if change == "no module":
        del own.encoder
        own.encoder = lambda x: x  # type: ignore[assignment]
    if change in ("numbers", "flat"):
        own.encoder = nn.Flatten(1) if change == "numbers" else nn.Flatten(0)
    if change in forwards:
        own.forward = forwards[change]  # type: ignore[method-assign]
    x = torch.zeros(2, *SHAPE, dtype=torch.int64 if change == "numbers" else None)
    assert as_model(own)(x).latent.shape == (2, 0)


def test_a_penalty_on_the_latent_reaches_the_encoder() -> None:
    own = Own()
    model = as_model(own)
    objective = make_objective(model.terms, loss_function="l1", feature_loss_weight=1.0)
    x = torch.rand(4, *SHAPE)
    values = objective(model(x), x, 0)
    values["feature_statistics"].sum().backward()
    assert own.encoder[1].weight.grad is not None
    assert own.decoder[0].weight.grad is None


def test_the_loss_terms_of_a_module_are_kept() -> None:
    own = Own()
    own.terms = [TermSpec("sparse", "latent_l1", 0.5)]  # type: ignore[assignment]
    assert as_model(own).terms == (TermSpec("sparse", "latent_l1", 0.5),)
    own.terms = ["words of its own"]  # type: ignore[assignment]
    assert as_model(own).terms == ()


def test_a_module_that_would_lose_its_noise_is_refused_with_what_it_lacks() -> None:
    own = Own()
    own.noise_shape = (3,)  # type: ignore[assignment]
    with pytest.raises(ConfigError, match=r"noise_shape.*no terms and no encode") as e:
        as_model(own)
    assert "encode(images)" in str(e.value.hint)
    own.noise_shape = None  # type: ignore[assignment]
    assert as_model(own).noise_shape is None
