"""A sorted set and the same set shuffled give the same numbers: images are drawn, not the first."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from aelab.metrics import METRICS, Subject, iwae, separation
from aelab.metrics.distances import sample_quality
from aelab.metrics.likelihood import elbo
from aelab.posteriors import GaussianPosterior
from aelab.types import Images, Output

_CLASSES = 5


class _Means(nn.Module):
    """A variational autoencoder that is exact enough: the means of 4 x 4 pixels."""

    noise_shape, terms = None, ()

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, images: Tensor) -> Tensor:
        return 4 * nn.functional.adaptive_avg_pool2d(images, 2).flatten(1)

    def decode(self, latent: Tensor) -> Tensor:
        return nn.functional.interpolate(latent.reshape(-1, 1, 2, 2) / 4, (8, 8))

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        posterior = GaussianPosterior(latent, torch.full_like(latent, -2.0))
        return Output(self.decode(latent), latent, posterior)


def _sorted(each: int, seed: int) -> Images:
    """Classes one after the other; class c is brighter in one quarter, the last in all of them."""
    generator = torch.Generator().manual_seed(seed)
    pixels = 0.2 * torch.rand(_CLASSES * each, 1, 8, 8, generator=generator)
    labels = torch.arange(_CLASSES).repeat_interleave(each)
    for number in range(_CLASSES):
        rows, columns = slice(0, 4) if number % 2 else slice(4, 8), slice(4 * (number // 2), None)
        pixels[labels == number, :, rows, columns] += 0.15 * (number + 1)
    return Images(pixels, labels=labels)


def _shuffled(images: Images) -> Images:
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(9))
    assert images.labels is not None
    return replace(images, pixels=images.pixels[order], labels=images.labels[order])


def _subjects(**limits: int) -> tuple[Subject, Subject]:
    train, held_out = _sorted(200, 0), _sorted(150, 1)
    first = Subject(_Means(), held_out, train, formulas=("l2",), **limits)
    second = Subject(_Means(), _shuffled(held_out), _shuffled(train), formulas=("l2",), **limits)
    return first, second


def test_classes_are_told_apart_though_only_a_part_of_a_sorted_set_is_looked_at() -> None:
    for subject in _subjects(limit=200, train_limit=300):
        found = separation(subject)
        assert found["knn_latent"] > 0.95
        assert found["probe_pixels"] > 0.95


def test_the_floor_of_a_sorted_set_is_that_of_equal_distributions() -> None:
    ordered, shuffled = (sample_quality(each, count=300) for each in _subjects())
    assert ordered["frechet_floor"] < 0.05 * ordered["frechet"] + 0.5
    assert ordered["frechet_floor"] == pytest.approx(shuffled["frechet_floor"], rel=1, abs=0.3)
    assert ordered["features_accuracy"] > 0.95


def test_the_tighter_bound_is_tighter_in_a_sorted_set() -> None:
    ordered, shuffled = _subjects()
    found = iwae(ordered, samples=20, images=100)
    assert found["iwae_nats"] >= found["iwae_elbo_nats"]
    assert found["iwae_nats"] > elbo(ordered)["elbo_nats"] - 2 * found["iwae_std_error_nats"]
    again = iwae(shuffled, samples=20, images=100)
    error = found["iwae_std_error_nats"] + again["iwae_std_error_nats"]
    assert abs(found["iwae_nats"] - again["iwae_nats"]) < 3 * error


def test_a_smaller_draw_is_a_part_of_a_larger_one_and_of_every_run() -> None:
    few, many = _subjects(limit=50)[0], _subjects(limit=200)[0]
    assert torch.equal(few.images, many.images[:50])
    assert few.labels is not None
    assert torch.bincount(few.labels).tolist() == [10] * _CLASSES
    other = Subject(_Means(), _sorted(150, 1), None, seed=5, limit=50)
    assert torch.equal(other.images, few.images)


def test_a_metric_says_over_how_many_images_it_is() -> None:
    subject = _subjects(limit=600)[0]
    assert METRICS["iwae"].images(subject, {}) == 500
    assert METRICS["iwae"].images(subject, {"images": 20}) == 20
    assert METRICS["samples"].images(subject, {}) == 600
    assert METRICS["reproduction"].images(subject, {}) == 600


def test_pictures_show_a_class_that_a_draw_would_miss() -> None:
    many = _sorted(150, 1)
    assert many.labels is not None
    rows = torch.cat([torch.arange(0, 2), torch.arange(150, 750)])
    rare = replace(many, pixels=many.pixels[rows], labels=many.labels[rows])
    plain = Subject(_Means(), rare, limit=20)
    shown = Subject(_Means(), rare, limit=20, every_class=True)
    assert plain.labels is not None and shown.labels is not None
    assert plain.labels.unique().tolist() == [1, 2, 3, 4]
    assert shown.labels[shown.shown[:5]].tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(plain.images[:19], shown.images[:19])


def test_pictures_show_every_class() -> None:
    subject = _subjects()[0]
    assert subject.labels is not None
    assert subject.labels[subject.shown[:_CLASSES]].tolist() == list(range(_CLASSES))
