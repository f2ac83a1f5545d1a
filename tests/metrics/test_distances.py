"""Distances between sets against closed forms, and a feature net that learns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import ShapeError, UserError
from aelab.metrics import METRICS, Subject
from aelab.metrics.distances import (
    diversity,
    draw_images,
    frechet_distance,
    kernel_distance,
    precision_recall,
    sample_quality,
)
from aelab.metrics.features import train_features
from aelab.types import Images, Output


def _normal(count: int, size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, size, generator=generator, dtype=torch.float64)


def test_the_frechet_distance_is_that_of_its_moments() -> None:
    values = _normal(4000, 3, 0)
    white = (values - values.mean(0)) @ torch.linalg.inv(
        torch.linalg.cholesky(torch.cov(values.T)).T
    )  # exactly mean 0 and covariance 1
    scale, shift = torch.tensor([1.0, 2.0, 3.0]).double(), torch.tensor([1.0, 0.0, -2.0]).double()
    # |shift|^2 + sum (scale - 1)^2 for covariances that share their axes.
    assert frechet_distance(white, white * scale + shift) == pytest.approx(5 + 0 + 1 + 4, rel=1e-6)
    assert frechet_distance(white, white) == pytest.approx(0, abs=1e-9)
    turn = torch.linalg.qr(_normal(3, 3, 1))[0]
    turned = frechet_distance(white @ turn, (white * scale + shift) @ turn)
    assert turned == pytest.approx(10, rel=1e-6)


def test_the_kernel_distance_is_that_of_a_loop_and_about_zero_for_equals() -> None:
    ours, theirs = _normal(6, 2, 0), _normal(5, 2, 1) + 1

    def kernel(a: Tensor, b: Tensor) -> float:
        return float((a @ b / 2 + 1) ** 3)

    first = [kernel(a, b) for i, a in enumerate(ours) for j, b in enumerate(ours) if i != j]
    second = [kernel(a, b) for i, a in enumerate(theirs) for j, b in enumerate(theirs) if i != j]
    between = [kernel(a, b) for a in ours for b in theirs]
    expected = sum(first) / 30 + sum(second) / 20 - 2 * sum(between) / 30
    assert kernel_distance(ours, theirs) == pytest.approx(expected, rel=1e-9)
    equal = [kernel_distance(_normal(300, 4, i), _normal(300, 4, 100 + i)) for i in range(8)]
    assert min(equal) < 0 < max(equal)
    assert max(map(abs, equal)) < 0.1


def test_precision_falls_for_what_is_invented_and_recall_for_what_is_missing() -> None:
    real = torch.cat([_normal(200, 2, 0), _normal(200, 2, 1) + 20])
    half = _normal(200, 2, 2)
    precision, recall = precision_recall(half, real)
    assert precision > 0.9
    assert 0.35 < recall < 0.55
    invented = torch.cat([real, _normal(400, 2, 3) - 30])
    precision, recall = precision_recall(invented, real)
    assert 0.4 < precision < 0.55
    assert recall == 1


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    points = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    assert diversity(points) == pytest.approx(10 / 3)
    assert diversity(torch.ones(5, 2)) == 0


def test_sets_that_do_not_compare_are_refused() -> None:
    with pytest.raises(ShapeError, match="two sets"):
        frechet_distance(_normal(4, 2, 0), _normal(4, 3, 0))


class _Shift(nn.Module):
    """A latent of 4 numbers: the mean brightness of the quarters; decodes to flat quarters."""

    noise_shape, terms = None, ()

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    def decode(self, latent: Tensor) -> Tensor:
        return nn.functional.interpolate(latent.reshape(-1, 1, 2, 2), (8, 8))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        return Output(self.decode(latent), latent)


def _stripes(count: int, seed: int, *, labelled: bool) -> Images:
    """Upper half bright in class 0, left half in class 1, with noise."""
    generator = torch.Generator().manual_seed(seed)
    pixels = 0.3 * torch.rand(count, 1, 8, 8, generator=generator)
    labels = torch.randint(2, (count,), generator=generator)
    pixels[labels == 0, :, :4] += 0.6
    pixels[labels == 1, :, :, :4] += 0.6
    return Images(pixels, labels=labels if labelled else None)


def test_the_feature_net_learns_classes_and_repeats_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sets = _stripes(300, 0, labelled=True), _stripes(500, 1, labelled=True)
    first = train_features(Subject(_Shift(), *sets), images=3000)
    assert train_features(Subject(_Shift(), *sets), images=3000) is first  # kept in memory
    monkeypatch.setattr("aelab.metrics.features._LATEST", {})
    second = train_features(Subject(_Shift(), *sets), images=3000)
    assert second is not first
    assert (first.task, first.accuracy) == ("classes", 1.0)
    assert first.sha256 == second.sha256
    assert first.features(sets[0].pixels).shape == (300, 64)


def test_without_labels_the_net_learns_which_way_up_images_are() -> None:
    upright = _stripes(600, 0, labelled=True)
    top = Images(upright.pixels[upright.labels == 0])
    net = train_features(Subject(_Shift(), top, top), images=3000)
    assert net.task == "rotations"
    assert net.accuracy > 0.9
    assert net.chance < 0.35


def test_images_of_a_single_class_are_told_by_which_way_up_they_are() -> None:
    upright = _stripes(600, 0, labelled=True)
    assert upright.labels is not None
    pixels = upright.pixels[upright.labels == 0]
    top = Images(pixels, labels=torch.zeros(len(pixels), dtype=torch.int64))
    assert train_features(Subject(_Shift(), top, top), images=64).task == "rotations"
    strangers = Images(upright.pixels, labels=upright.labels + 7)
    assert train_features(Subject(_Shift(), strangers, upright), images=64).task == "rotations"


def test_a_model_that_makes_one_image_has_no_diversity_and_less_recall() -> None:
    class Stuck(_Shift):
        def decode(self, latent: Tensor) -> Tensor:
            return super().decode(latent * 0 + torch.tensor([0.75, 0.75, 0.15, 0.15]))

    sets = _stripes(400, 0, labelled=True), _stripes(400, 1, labelled=True)
    fine = sample_quality(Subject(_Shift(), *sets), sampler="mixture", count=300)
    stuck = sample_quality(Subject(Stuck(), *sets), sampler="gaussian", count=300)
    assert stuck["diversity"] < 1e-6 < 0.5 < fine["diversity"]
    assert stuck["frechet"] > 2 * fine["frechet"]
    assert fine["features_hash"] == stuck["features_hash"]
    assert 0 < fine["frechet_floor"] < stuck["frechet"]
    assert (METRICS["samples"].needs, METRICS["samples"].medium) == ({"train"}, "pixels")


def test_an_unknown_sampler_is_refused_with_those_there_are() -> None:
    subject = Subject(_Shift(), _stripes(8, 0, labelled=False))
    with pytest.raises(UserError, match=r"unknown sampler 'gausian'.*did you mean 'gaussian'"):
        draw_images(subject, "gausian", 2)
