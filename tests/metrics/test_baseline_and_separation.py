"""PCA against the singular values of the data; classifiers on data whose answer is known."""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from aelab.errors import ConfigError, DataError
from aelab.metrics import METRICS, Subject, lacking
from aelab.metrics.baseline import fit_pca, pca_skill
from aelab.metrics.separation import knn_accuracy, linear_probe_accuracy, separation
from aelab.types import Images, Output


def _values(count: int = 60, size: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(count, size, generator=generator) * torch.linspace(3, 0.1, size)


def test_pca_is_that_of_a_singular_value_decomposition() -> None:
    values = _values()
    pca = fit_pca(values, 3)
    centred = values.numpy() - values.numpy().mean(0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    assert np.allclose(pca.variance.numpy(), singular[:3] ** 2 / 59, rtol=1e-4)
    assert np.allclose(np.abs(pca.components.numpy() @ rows[:3].T), np.eye(3), atol=1e-4)
    kept = centred @ rows[:3].T @ rows[:3] + values.numpy().mean(0)
    assert np.allclose(pca.restore(pca.project(values)).numpy(), kept, atol=1e-4)


def test_more_components_than_pixels_restore_everything() -> None:
    values = _values()
    pca = fit_pca(values, 100)
    assert pca.components.shape == (8, 8)
    assert torch.allclose(pca.restore(pca.project(values)), values, atol=1e-4)


class _Linear(nn.Module):
    """Keeps the first two pixels, in both directions; wrong by `offset`."""

    noise_shape, terms = None, ()

    def __init__(self, offset: float = 0.0) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.tensor(offset))

    def encode(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2]

    def decode(self, latent: Tensor) -> Tensor:
        rest = torch.full((len(latent), 2), 0.5)
        return torch.cat([latent, rest], 1).reshape(-1, 1, 2, 2) + self.offset

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        return Output(self.decode(latent), latent)


def _set(seed: int) -> Images:
    """Two pixels that vary much, two that hardly do; the class is in the first."""
    generator = torch.Generator().manual_seed(seed)
    pixels = torch.rand(400, 4, generator=generator)
    pixels[:, 2:] = 0.5 + 0.01 * (pixels[:, 2:] - 0.5)
    return Images(pixels.reshape(-1, 1, 2, 2), labels=(pixels[:, 0] > 0.5).long())


def test_a_linear_code_that_keeps_what_pca_keeps_has_no_skill_and_a_worse_one_less() -> None:
    equal = pca_skill(Subject(_Linear(), _set(1), _set(2)))
    assert equal["skill_l2"] == pytest.approx(0, abs=0.05)
    worse = pca_skill(Subject(_Linear(0.1), _set(1), _set(2)))
    assert worse["skill_l2"] < -10
    assert worse["pca_l2"] == equal["pca_l2"]


def test_neighbours_vote_and_the_nearest_decides_a_tie() -> None:
    train = torch.tensor([[0.0], [1.0], [1.1], [5.0]])
    labels = torch.tensor([0, 1, 1, 0])
    point = torch.tensor([[0.3]])
    assert knn_accuracy(train, labels, point, torch.tensor([0]), neighbours=1) == 1
    assert knn_accuracy(train, labels, point, torch.tensor([1]), neighbours=3) == 1
    assert knn_accuracy(train, labels, point, torch.tensor([0]), neighbours=2) == 1
    assert knn_accuracy(train, labels, torch.tensor([[4.9]]), torch.tensor([0]), neighbours=2) == 1


def test_a_probe_finds_a_linear_border_and_not_a_ring() -> None:
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(2000, 2, generator=generator)
    line = (points @ torch.tensor([1.0, -2.0]) > 0.3).long()
    ring = (points.norm(dim=1) > 1.1).long()
    first, rest = slice(0, 1000), slice(1000, 2000)
    args = points[first], line[first], points[rest], line[rest]
    assert linear_probe_accuracy(*args) > 0.98
    args = points[first], ring[first], points[rest], ring[rest]
    assert linear_probe_accuracy(*args) < 0.65
    assert knn_accuracy(*args) > 0.95


def test_separation_compares_latent_and_pixels_and_needs_labels() -> None:
    values = separation(Subject(_Linear(), _set(1), _set(2)))
    of_classes = {"knn_latent.0", "knn_latent.1"}
    assert set(values) == {"knn_latent", "knn_pixels", "probe_latent", "probe_pixels"} | of_classes
    assert min(values.values()) > 0.9
    blank = Images(_set(1).pixels)
    assert "no labels" in lacking(Subject(_Linear(), blank, blank), METRICS["separation"])


def _named(labels: list[int], names: list[str], seed: int) -> Images:
    """Images of a brightness that belongs to the name of their class."""
    level = {"aa": 0.1, "bb": 0.4, "cc": 0.8}
    generator = torch.Generator().manual_seed(seed)
    means = torch.tensor([level[names[label]] for label in labels])
    pixels = means[:, None] + 0.02 * torch.rand(len(labels), 4, generator=generator)
    images = Images(pixels.view(-1, 1, 2, 2), labels=torch.tensor(labels))
    return replace(images, facts={"label_names": names})


def test_classes_are_matched_by_their_names_where_one_is_missing_on_one_side() -> None:
    train = _named([0] * 9 + [1] * 40 + [2] * 40, ["aa", "bb", "cc"], 0)
    held_out = _named([0] * 10 + [1] * 10, ["bb", "cc"], 1)  # a folder without the first class
    subject = Subject(_Linear(), held_out, train)
    assert subject.classes == ("aa", "bb", "cc")
    values = separation(subject)
    assert values["knn_latent"] == values["probe_latent"] == values["knn_pixels"] == 1
    assert values["knn_latent.bb"] == values["knn_latent.cc"] == 1
    assert "knn_latent.aa" not in values
    other_way = separation(Subject(_Linear(), train, held_out))
    assert "knn_latent.aa" not in other_way  # never seen: as the note of such sets says
    assert other_way["knn_latent"] == other_way["probe_pixels"] == other_way["knn_latent.bb"] == 1
    strangers = _named([0] * 10, ["aa"], 2)
    with pytest.raises(ConfigError, match="no class is in both the training and the held-out set"):
        separation(Subject(_Linear(), strangers, held_out))


def test_labels_may_be_any_whole_numbers() -> None:
    images = _set(1)
    assert images.labels is not None
    wild = replace(images, labels=torch.where(images.labels == 0, -7, 10**12))
    values = separation(Subject(_Linear(), wild, wild))
    assert values["knn_latent.-7"] > 0.9
    assert values["knn_latent.1000000000000"] > 0.9


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_classifiers_are_right_far_from_zero(offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    step = max(0.05, offset * 2e-6)  # what float32 can still hold there
    labels = torch.arange(4).repeat_interleave(200)
    spread = 0.06 * step * torch.randn(800, 8, generator=generator)
    codes = offset + step * labels[:, None] + spread
    order = torch.randperm(800, generator=generator)
    codes, labels = codes[order], labels[order]
    halves = codes[:400], labels[:400], codes[400:], labels[400:]
    assert knn_accuracy(*halves) == 1
    assert linear_probe_accuracy(*halves) == 1


def test_classifiers_take_tiny_and_constant_codes() -> None:
    labels = torch.arange(2).repeat(50)
    tiny = 1e-9 * (labels[:, None] + 0.1 * torch.rand(100, 3))
    assert linear_probe_accuracy(tiny, labels, tiny, labels) == 1
    same = torch.full((100, 3), 0.3)
    assert linear_probe_accuracy(same, labels, same, labels) == 0.5
    assert 0 <= knn_accuracy(same, labels, same, labels) <= 1


def test_codes_that_are_no_numbers_are_told() -> None:
    class Broken(_Linear):
        def encode(self, images: Tensor) -> Tensor:
            return super().encode(images) * float("nan")

    good = Images(torch.rand(20, 1, 2, 2), labels=torch.arange(2).repeat(10))
    with pytest.raises(ConfigError, match=r"20 of 20 training images' codes are infinite"):
        separation(Subject(Broken(), good, good))


def test_held_out_images_that_are_no_numbers_are_named() -> None:
    bad = Images(torch.full((20, 1, 2, 2), float("nan")), labels=torch.arange(2).repeat(10))
    with pytest.raises(DataError, match="validation_set: image 0 has a pixel that is NaN"):
        Subject(_Linear(), bad)


def test_the_linear_probe_is_the_minimum_that_automatic_gradients_find() -> None:
    generator = torch.Generator().manual_seed(5)
    centres = torch.randn(3, 6, generator=generator)
    labels, test_labels = (torch.randint(3, (n,), generator=generator) for n in (300, 400))
    train = centres[labels] + torch.randn(300, 6, generator=generator)
    test = centres[test_labels] + torch.randn(400, 6, generator=generator)
    inputs, held_out = ((each - train.mean(0)) / train.std(0, correction=0)
                        for each in (train.double(), test.double()))  # fmt: skip
    weight = torch.zeros(3, 6, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([weight, bias], lr=0.05)
    for _ in range(600):
        optimizer.zero_grad()
        fit = nn.functional.cross_entropy(inputs @ weight.T + bias, labels)
        (fit + 0.5 * 1e-2 * weight.square().sum()).backward()
        optimizer.step()
    right = (held_out @ weight.T + bias).argmax(1) == test_labels
    found = linear_probe_accuracy(train, labels, test, test_labels, weight_decay=1e-2)
    assert 0.6 < found < 0.95
    assert found == pytest.approx(right.double().mean().item(), abs=1 / 400)


def test_the_pixels_of_one_set_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = separation(Subject(_Linear(), _set(1), _set(2)))
    asked: list[int] = []

    def counted(train: Tensor, *others: Tensor) -> float:
        asked.append(train.shape[1])
        return linear_probe_accuracy(train, *others)

    module = sys.modules["aelab.metrics.separation"]
    monkeypatch.setattr(module, "linear_probe_accuracy", counted)
    assert separation(Subject(_Linear(), _set(1), _set(2))) == first
    assert asked == [2]
    separation(Subject(_Linear(), _set(1), _set(3)))
    assert asked == [2, 2, 4]
