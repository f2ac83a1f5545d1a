"""What people hand to the loop from Python: taken where it is clear, refused with the way out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import Dataset, TensorDataset

from aelab.data import DATASETS
from aelab.errors import AelabError, ConfigError, DataError
from aelab.inspect import as_model
from aelab.losses import make_objective
from aelab.train import FitSettings, evaluate, fit, make_state
from aelab.types import Images

SETTINGS = FitSettings(batch_size=16, learnrate=1e-3, max_images=64, threads=1)
PIXELS = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8)


def module(*more: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 16), *more, nn.Unflatten(1, (1, 4, 4)))


def losses(train: Any, validation: Any = None, loss: str = "l2", **changes: Any) -> list[float]:
    torch.manual_seed(0)
    settings = FitSettings(**{**vars(SETTINGS), **changes})
    state = make_state(as_model(module()), settings)
    events = fit(state, make_objective(loss_function=loss), train, validation, settings)
    return [event.terms["loss"] for event in events if hasattr(event, "terms")]


class Pairs(Dataset[Any]):
    def __len__(self) -> int:
        return len(PIXELS)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return PIXELS[row].float() / 255, row % 3


@pytest.mark.parametrize(
    "given",
    [Images(PIXELS.numpy()), PIXELS, PIXELS.numpy(), PIXELS.numpy() / 255.0, [(0, PIXELS)],
     TensorDataset(PIXELS.float() / 255), Pairs(), Images(PIXELS.numpy()[::-1][::-1])],
)  # fmt: skip
def test_arrays_tensors_and_torch_data_sets_train_as_images_do(given: Any) -> None:
    assert losses(given, given) == pytest.approx(losses(Images(PIXELS), Images(PIXELS)), abs=1e-6)


def test_a_data_set_of_the_lab_is_read() -> None:
    described = DATASETS["noise_dataset"]((1, 4, 4), size=40)
    assert losses(described) == losses(described.load())


@pytest.mark.parametrize(
    ("given", "way"),
    [
        (PIXELS.float(), "divide by 255"),
        (PIXELS.long(), "divide by 255"),
        (PIXELS.numpy().astype("float32"), "divide by 255"),
        (PIXELS.permute(0, 2, 3, 1).repeat(1, 2, 2, 1), "permute(0, 3, 1, 2)"),
        (PIXELS[:, 0], "images[:, None]"),
        (torch.full((9, 1, 4, 4), torch.nan), "image 0 has a pixel that is NaN"),
        ([1, 2, 3], "aelab.types.Images(pixels)"),
        ("mnist", "aelab.types.Images(pixels)"),
        ([PIXELS], "aelab.types.Images(pixels)"),
    ],
)
def test_what_is_no_set_of_images_is_refused_with_the_way_out(given: Any, way: str) -> None:
    with pytest.raises(AelabError) as raised:
        losses(given)
    assert way in str(raised.value)
    with pytest.raises(AelabError) as raised:
        losses(PIXELS, given)
    assert way in str(raised.value)


def test_images_are_tensors_or_arrays() -> None:
    with pytest.raises(AelabError, match="must be a tensor, not list"):
        Images([[1, 2]])  # type: ignore[arg-type]
    labelled = Images(PIXELS.numpy(), labels=np.arange(40))  # type: ignore[arg-type]
    assert labelled.labels is not None and labelled.labels.dtype == torch.int64


def test_binary_cross_entropy_of_other_images_is_refused() -> None:
    with pytest.raises(DataError, match=r"bce compares with images in 0\.\.1"):
        losses(PIXELS.float() / 127.5 - 1, loss="bce")


def test_a_plain_module_is_told_to_be_wrapped() -> None:
    with pytest.raises(ConfigError, match="as_model"):
        make_state(module(), SETTINGS)


def test_a_module_that_returns_a_tensor_is_told_to_be_wrapped() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = module()

        def forward(self, images: torch.Tensor, noise: torch.Tensor | None = None) -> Any:
            return self.inner(images)

    state = make_state(Two(), SETTINGS)
    with pytest.raises(ConfigError, match="as_model"):
        list(fit(state, make_objective(), PIXELS, None, SETTINGS))


@pytest.mark.parametrize(("count", "micro"), [(33, None), (40, 13)])
def test_a_batch_of_one_for_its_statistics_is_told(count: int, micro: int | None) -> None:
    settings = FitSettings(
        batch_size=16 if micro is None else 40, max_images=80, micro_batch_size=micro, threads=1
    )
    state = make_state(as_model(module(nn.BatchNorm1d(16))), settings)
    with pytest.raises(ConfigError, match="leave a batch of 1 image"):
        list(fit(state, make_objective(), PIXELS[:count], None, settings))


def test_evaluate_takes_the_same_and_names_bad_pixels() -> None:
    model, objective = as_model(module()), make_objective(loss_function="l2")
    terms = evaluate(model, objective, PIXELS.numpy(), SETTINGS)
    assert terms == evaluate(model, objective, Images(PIXELS), SETTINGS)
    with pytest.raises(AelabError, match="image 3 has a pixel that is infinity"):
        bad = PIXELS.float() / 255
        bad[3] = torch.inf
        evaluate(model, objective, bad, SETTINGS)
