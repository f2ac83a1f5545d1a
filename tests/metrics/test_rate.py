"""The rate of a latent: divergences and entropies against closed forms, and what lacks one."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from aelab.metrics import METRICS, Subject, lacking
from aelab.metrics.rate import rate
from aelab.posteriors import CodePosterior, Deterministic, GaussianPosterior
from aelab.types import Images, Output

#: Four images of one pixel.
PIXELS = torch.tensor([0, 0, 128, 255], dtype=torch.uint8).reshape(4, 1, 1, 1)


class _Model(nn.Module):
    """Its latent is the image; the posterior is given."""

    def __init__(self, kind: str, log_std: float = 0.0) -> None:
        super().__init__()
        self.kind, self.log_std = kind, log_std
        self.codebooks = {"": 4} if kind == "codes" else {}

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        code = images.flatten(1)
        posteriors = {
            "gaussian": GaussianPosterior(code, torch.full_like(code, self.log_std)),
            # a second place, at which all images have the same entry
            "codes": CodePosterior(torch.cat([(2 * code).round().long(), 0 * code.long() + 3], 1)),
            "plain": Deterministic(),
        }
        return Output(images, code, posteriors[self.kind])

    def decode(self, latents: Tensor) -> Tensor:
        return latents.reshape(-1, 1, 1, 1)


def _subject(kind: str, log_std: float = 0.0) -> Subject:
    return Subject(_Model(kind, log_std), Images(PIXELS))


def test_the_rate_of_a_gaussian_is_its_divergence_in_bits() -> None:
    log_std = math.log(0.001)
    found = rate(_subject("gaussian", log_std))
    squares = sum((pixel / 255) ** 2 for pixel in (0, 0, 128, 255)) / 4
    nats = 0.5 * (squares + 1e-6 - 1 - 2 * log_std)
    assert found["rate_bits"] == pytest.approx(nats / math.log(2), rel=1e-5)
    assert "capacity_bits" not in found


def test_the_error_at_a_rate_is_that_of_a_drawn_latent() -> None:
    subject = _subject("gaussian", math.log(0.01))
    assert METRICS["reproduction"].function(subject)["l2"] == 0  # of the mean latent
    assert 0 < rate(subject)["rate_l2"] < 4 * 0.01**2


def test_the_rate_of_codes_is_the_entropy_of_their_choices() -> None:
    found = rate(_subject("codes"))  # entries 0, 0, 1, 2 of four at the first place
    assert found["rate_bits"] == pytest.approx(1.5)  # 1/2 x 1 bit + 2 x 1/4 x 2 bits
    assert found["capacity_bits"] == pytest.approx(4)  # of two places
    assert found["rate_l2"] == 0


def test_a_plain_code_has_no_rate() -> None:
    assert "neither codebooks nor a posterior" in lacking(_subject("plain"), METRICS["rate"])
    assert lacking(_subject("codes"), METRICS["rate"]) == ""
