"""A decoder that starts at the mean training image, and why a learned prior needs it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aelab.data import digits_dataset
from aelab.errors import ConfigError, ShapeError
from aelab.lab import Lab
from aelab.losses import make_objective
from aelab.models import (
    DecoderMLP,
    EncoderMLP,
    FromMeanImage,
    VampPriorAutoencoder,
    VariationalEncoder,
)
from aelab.train.start import start_from_images
from aelab.types import Images

SHAPE = (1, 6, 6)


class Silent(nn.Module):
    """A decoder that gives 0 everywhere."""

    def forward(self, latent: Tensor) -> Tensor:
        return latent.new_zeros(len(latent), *SHAPE) + 0 * latent.sum()


def _images(count: int = 300) -> Images:
    generator = torch.Generator().manual_seed(0)
    return Images((torch.rand(count, *SHAPE, generator=generator) * 80).to(torch.uint8))


@pytest.mark.parametrize("activation", ["sigmoid", "logits", "none"])
def test_the_first_picture_of_a_silent_decoder_is_the_mean_image(activation: str) -> None:
    images = _images()
    model = nn.Sequential(FromMeanImage(Silent(), SHAPE, activation))
    start_from_images(model, images)
    picture = model(torch.zeros(2, 3))
    shown = picture.sigmoid() if activation == "logits" else picture
    expected = (images.pixels.double() / 255).mean(0).float()
    torch.testing.assert_close(shown[1], expected, rtol=1e-4, atol=1e-6)


def test_pixels_that_are_always_black_get_a_finite_offset() -> None:
    decoder = FromMeanImage(Silent(), SHAPE)
    decoder.start_from(Images(torch.zeros(5, *SHAPE, dtype=torch.uint8)))
    assert decoder.offset.isfinite().all()
    torch.testing.assert_close(decoder(torch.zeros(1, 2)), torch.full((1, *SHAPE), 0.001))


def test_other_shapes_and_activations_are_refused() -> None:
    with pytest.raises(ConfigError, match="'tanh'; possible: logits, none, sigmoid"):
        FromMeanImage(Silent(), SHAPE, "tanh")
    with pytest.raises(ShapeError, match=r"1x6x6.*3x6x6"):
        FromMeanImage(Silent(), (3, 6, 6))(torch.zeros(1, 2))
    with pytest.raises(ShapeError, match=r"1x6x6.*1x8x8"):
        FromMeanImage(Silent(), (1, 8, 8)).start_from(_images())


FILE = """
experiment_name: mean
train_set: noise_dataset((1, 6, 6), 64, seed=1, mean=0.2, std=0.05)
model: |
  Autoencoder(
      EncoderMLP((1, 6, 6), 4),
      Gaussian(4, 2),
      FromMeanImage(DecoderMLP((1, 6, 6), 2, hidden=(4,)), (1, 6, 6)),
  )
objective: {bce: {reduction: sum}, kl: 1}
batch_size: 16
learnrate: 0.000001
optimizer: Adam
max_images: 16
"""


def test_a_run_starts_from_its_training_images(tmp_path: Path) -> None:
    lab, path = Lab(runs=tmp_path / "runs"), tmp_path / "mean.yml"
    path.write_text(FILE)
    list(lab.run(path))
    offset = lab.open("mean").model.decoder.offset
    # logit(0.2) = -1.386; one step of a millionth changes nothing
    assert offset.mean().item() == pytest.approx(-1.386, abs=0.05)
    assert offset.std().item() > 0.01  # each pixel has its own


def _learned(start: str) -> float:
    """The variance over images of what a VampPrior model shows after 20,000 digits."""
    torch.manual_seed(0)
    shape = (1, 28, 28)
    digits = digits_dataset().load()
    decoder: nn.Module = DecoderMLP(shape, 40, hidden=(200, 200), act_fn="tanh")
    if start == "mean image":
        decoder = FromMeanImage(decoder, shape)
        decoder.start_from(digits)
    else:
        decoder = nn.Sequential(decoder, nn.Sigmoid())
    features = nn.Sequential(EncoderMLP(shape, 200, hidden=(200,), act_fn="tanh"), nn.Tanh())
    model = VampPriorAutoencoder(VariationalEncoder(features, 200, 40), decoder, shape, 50)
    objective = make_objective(model.terms)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.002)
    for _ in range(200):
        images = digits.pixels[torch.randint(len(digits), (100,))].float() / 255
        images = torch.bernoulli(images)
        output = model(images, torch.randn(100, 40))
        loss = objective.total(objective(output, images, 0), 0).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return model(digits.pixels[:200].float() / 255).reconstruction.var(0).mean().item()


@pytest.mark.slow
def test_a_learned_prior_keeps_its_latent_only_from_the_mean_image() -> None:
    """From grey pictures the code becomes an offset of the picture, the same for all images."""
    assert _learned("grey") < 1e-5
    assert _learned("mean image") > 0.01  # of the digits themselves: 0.06 to 0.09
