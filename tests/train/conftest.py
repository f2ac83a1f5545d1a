"""A tiny model and objective, so that training is tested without the other rooms."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from aelab.posteriors import GaussianPosterior
from aelab.train import FitSettings, State, fit, make_state
from aelab.types import Images, Output


class TinyModel(nn.Module):
    """A variational autoencoder of 8x8 images with every kind of state: BatchNorm, dropout."""

    def __init__(self, dropout: float = 0.1, noise: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)
        self.wide = nn.Conv2d(4, 4, 3, padding=1)  # its weight differs between memory layouts
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(dropout)
        self.mean = nn.Linear(256, 6)
        self.log_std = nn.Linear(256, 6)
        self.out = nn.Linear(6, 64)
        self.noise_shape = (6,) if noise else None
        self.terms = ()

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        hidden = self.dropout(self.norm(self.wide(self.conv(images))).relu()).flatten(1)
        mean, log_std = self.mean(hidden), self.log_std(hidden)
        latent = mean if noise is None else mean + log_std.exp() * noise
        picture = self.out(latent).sigmoid().reshape(-1, 1, 8, 8)
        return Output(picture, latent, GaussianPosterior(mean, log_std))


class TinyObjective:
    """Mean absolute error and a small penalty on the code."""

    def __call__(self, output: Output, target: Tensor, images_seen: int) -> dict[str, Tensor]:
        error = (output.reconstruction - target).abs().flatten(1).mean(1)
        return {"l1": error, "size": output.latent.square().mean(1)}

    def total(self, values: Mapping[str, Tensor], images_seen: int) -> Tensor:
        return values["l1"] + 0.01 * values["size"]


def _flip(images: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def _images(count: int, seed: int = 0, augment: bool = False) -> Images:
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (count, 1, 8, 8), generator=generator, dtype=torch.uint8)
    return Images(pixels, augment=(_flip,) if augment else ())


def _start(settings: FitSettings, **options: Any) -> State:
    torch.manual_seed(settings.seed)
    return make_state(TinyModel(**options), settings)


def _settings(**changes: Any) -> FitSettings:
    plain: dict[str, Any] = {
        "batch_size": 16,
        "learnrate": 1e-3,
        "max_images": 400,
        "log_every_images": 64,
        "threads": 1,
    }
    return FitSettings(**{**plain, **changes})


@pytest.fixture
def tiny() -> Iterator[SimpleNamespace]:
    """images, settings, start, objective, fit_all: everything small."""

    def fit_all(
        state: State,
        settings: FitSettings,
        train: Any,
        validation: Images | None = None,
        stop: Callable[[], bool] = lambda: False,
    ) -> list[Any]:
        objective = TinyObjective()
        return list(fit(state, objective, train, validation, settings, should_stop=stop))

    yield SimpleNamespace(
        Model=TinyModel,
        objective=TinyObjective(),
        flip=_flip,
        images=_images,
        settings=_settings,
        start=_start,
        fit_all=fit_all,
    )
