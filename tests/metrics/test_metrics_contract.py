"""Every measure and sampler of the tables: documented keys, numbers that repeat, densities."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from aelab.ascii.medium import Characters
from aelab.errors import ConfigError
from aelab.metrics import METRICS, SAMPLERS, Subject, lacking, measure
from aelab.palette.colours import GivenPalette
from aelab.palette.medium import Colours
from aelab.posteriors import Deterministic, GaussianPosterior
from aelab.types import Images, Output

PAGE = (Path(__file__).parents[2] / "docs/measures.md").read_text("utf-8")


PALETTE = GivenPalette(["#000000", "#ff0000", "#ffffff"])


class Blurry(nn.Module):
    """A variational autoencoder of 8x8 pictures that keeps the brightness of each quarter."""

    noise_shape, terms = (4,), ()

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, 4).flatten(1) * 4 - 2

    def decode(self, latent: Tensor) -> Tensor:
        return (
            ((latent + 2) / 4).reshape(-1, 1, 2, 2).repeat_interleave(4, 2).repeat_interleave(4, 3)
        )

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        mean = self.encode(images)
        latent = mean if noise is None else mean + 0.3 * noise
        posterior = GaussianPosterior(mean, torch.full_like(mean, math.log(0.3)))
        return Output(self.decode(latent), latent, posterior)


class Writing(nn.Module):
    """A plain autoencoder of 6x6 texts that forgets the last row."""

    noise_shape, terms, medium = None, (), Characters()

    def encode(self, images: Tensor) -> Tensor:
        return images[:, :, :5].flatten(1)

    def decode(self, latent: Tensor) -> Tensor:
        kept = latent.reshape(-1, 1, 5, 6)
        return torch.cat([kept, torch.zeros_like(kept[:, :, :1])], 2)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        return Output(self.decode(latent), latent, Deterministic())


class Painting(nn.Module):
    """A plain autoencoder of 8x8 pictures in colours that paints the last row black."""

    noise_shape, terms, medium = None, (), Colours(PALETTE)

    def encode(self, images: Tensor) -> Tensor:
        return images[:, :, :7].flatten(1)

    def decode(self, latent: Tensor) -> Tensor:
        kept = latent.reshape(-1, 1, 7, 8)
        return torch.cat([kept, torch.zeros_like(kept[:, :, :1])], 2)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        return Output(self.decode(latent), latent, Deterministic())


def pictures(count: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    pixels = torch.rand(count, 1, 8, 8, generator=generator) * 0.5
    pixels[:, :, :4] += 0.2 * labels.view(-1, 1, 1, 1)
    factors = torch.stack([labels, torch.arange(count) // 3 % 2], 1)
    names = {"factor_names": ["kind", "turn"], "factor_sizes": [3, 2]}
    return Images(pixels, labels=labels, facts=names, factors=factors)


def texts(count: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    grids = torch.randint(0, 95, (count, 1, 6, 6), generator=generator)
    grids *= torch.rand(grids.shape, generator=generator) < 0.4
    return Images(grids.to(torch.uint8), medium=Characters())


def paintings(count: int, seed: int) -> Images:
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(0, PALETTE.count, (count, 1, 8, 8), generator=generator)
    return Images(numbers.to(torch.uint8), medium=Colours(PALETTE))


def subject_for(name: str) -> Subject:
    """A model, held-out and training images that have what the metric needs."""
    for model, images in ((Blurry, pictures), (Writing, texts), (Painting, paintings)):
        subject = Subject(model().eval(), images(60, 0), images(90, 1))
        if not lacking(subject, METRICS[name]):
            return subject
    raise AssertionError(f"no subject here has what {name} needs")


def documented_keys(name: str) -> tuple[set[str], set[str]]:
    """Keys that the row of a metric in docs/measures.md names, and their prefixes."""
    (cell,) = re.findall(rf"^\| `{name}` \| (.*?) \|", PAGE, re.M)
    keys: set[str] = set()
    last = ""
    for word in re.findall(r"`([^`]+)`", cell):
        if word.startswith("_"):  # `rendered_ssim_blur_1`, `_2`, `_4`
            keys.add(last.rsplit("_", 1)[0] + word)
        else:
            keys.add(word)
            last = word
    prefixes = {key for key in keys if key.endswith("_")}
    return keys - prefixes, prefixes


#: A net is trained for these, some seconds: their keys are tested with -m slow.
TRAINED = {"samples"}
#: It needs a stored run: tests/stages compares it with `samples`, whose keys it has.
OF_STORED_RUNS = {"decoded_samples"}
NAMES = [
    pytest.param(name, marks=pytest.mark.slow if name in TRAINED else ())
    for name in METRICS.ours
    if name not in OF_STORED_RUNS
]


@pytest.mark.parametrize("name", NAMES)
def test_a_measure_gives_the_documented_numbers_and_gives_them_again(name: str) -> None:
    values = measure(subject_for(name), METRICS[name])
    assert all(type(value) is float and math.isfinite(value) for value in values.values()), values
    assert measure(subject_for(name), METRICS[name]) == values
    keys, prefixes = documented_keys(name)
    plain = {key for key in values if not key.startswith(tuple(prefixes) or ("/",))}
    unknown = {key for key in plain if key not in keys and key.partition(".")[0] not in keys}
    assert not unknown, f"docs/measures.md does not name these keys of {name}: {sorted(unknown)}"
    gone = {key for key in keys if "NAME" not in key} - set(values)
    assert not gone, f"docs/measures.md names keys that {name} does not give: {sorted(gone)}"


@pytest.mark.parametrize("name", [name for name in METRICS.ours if METRICS[name].needs])
def test_a_measure_says_what_a_subject_lacks(name: str) -> None:
    nothing = Subject(Writing().eval(), Images(torch.zeros(4, 1, 6, 6)), None)
    with pytest.raises(ConfigError, match="cannot be measured: "):
        measure(nothing, METRICS[name])


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return torch.randn(120, 3, generator=torch.Generator().manual_seed(0)) * 2 + 5


#: Samplers that are trained: fewer steps.
QUICKLY = {"flow": {"steps": 20}}


@pytest.mark.parametrize("name", SAMPLERS.ours)
def test_a_sampler_draws_latents_near_the_codes_and_draws_them_again(
    name: str, codes: Tensor
) -> None:
    def fitted() -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(3)
        sampler = SAMPLERS[name](codes, generator, **QUICKLY.get(name, {}))
        return sampler.sample(50, generator), sampler.log_density(codes[:7])

    drawn, density = fitted()
    assert drawn.shape == (50, 3) and drawn.dtype == codes.dtype and drawn.isfinite().all()
    assert density.shape == (7,) and density.dtype == torch.float64 and density.isfinite().all()
    if name != "prior":  # the only one that is not fitted
        assert (drawn.mean(0) - 5).abs().max() < 1.5
    again, density_again = fitted()
    assert torch.equal(again, drawn) and torch.equal(density_again, density)
