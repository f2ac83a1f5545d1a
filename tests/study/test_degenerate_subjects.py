"""Every figure and measure of a model that says nothing, of one image, of one number: no crash."""

from __future__ import annotations

import math
from collections.abc import Set

import pytest
import torch
from torch import Tensor, nn

from aelab.errors import AelabError
from aelab.metrics import METRICS, Subject, lacking
from aelab.posteriors import GaussianPosterior
from aelab.study.figures import FIGURES, drawn_figure
from aelab.types import Images, Output


class _Collapsed(nn.Module):
    """Variational; every code is the same, or one number, and every picture grey."""

    noise_shape, terms = None, ()

    def __init__(self, size: int, *, moves: bool = False) -> None:
        super().__init__()
        self.size, self.moves = size, moves
        self.unused = nn.Parameter(torch.zeros(1))

    def encode(self, images: Tensor) -> Tensor:
        code = images.new_full((len(images), self.size), 0.3)
        return code + self.moves * images.flatten(1).mean(1, keepdim=True)

    def decode(self, latent: Tensor) -> Tensor:
        return latent.new_full((len(latent), 1, 8, 8), 0.5)

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        posterior = GaussianPosterior(latent, torch.zeros_like(latent))
        return Output(self.decode(latent), latent, posterior)


def _images(count: int, *, same: bool = False) -> Images:
    pixels = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(count))
    pixels = pixels[:1].expand(count, -1, -1, -1).clone() if same else pixels
    return Images(pixels, labels=torch.arange(count) % 3)


SUBJECTS = {
    "collapsed": lambda: Subject(_Collapsed(8), _images(40), _images(60)),
    "one number": lambda: Subject(_Collapsed(1, moves=True), _images(40), _images(60)),
    "constant number": lambda: Subject(_Collapsed(1), _images(40), _images(60)),
    "one image": lambda: Subject(_Collapsed(8, moves=True), _images(1), _images(2)),
    "two images": lambda: Subject(_Collapsed(8, moves=True), _images(2), _images(2)),
    "fewer images than numbers": lambda: Subject(_Collapsed(64), _images(5), _images(6)),
    "equal images": lambda: Subject(_Collapsed(4), _images(30, same=True), _images(30, same=True)),
}

_DRAWN = [
    name
    for name, figure in FIGURES.items()
    if not figure.of_run and figure.medium in ("", "pixels") and "conditioned" not in figure.needs
]


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_figure_is_drawn_or_says_in_a_line_why_not(name: str) -> None:
    subject = SUBJECTS[name]()
    told = {}
    for figure in _DRAWN:
        try:
            assert len(drawn_figure(figure, subject).content) > 50
        except AelabError as error:
            told[figure] = error.message
    for options in ({"method": "tsne"}, {"of": "all"}, {"mark": "thumbnails"}):
        try:
            drawn_figure("map", subject, options)
        except AelabError as error:
            told[str(options)] = error.message
    few = {"class_samples", "tsne_plot", "{'method': 'tsne'}", "interpolation", "z_interpolation"}
    assert set(told) <= (few if "image" in name else set()), told


_TRAINING = {"samples"}  # a net is trained for it, four seconds a subject


@pytest.mark.slow
@pytest.mark.parametrize("name", SUBJECTS)
def test_quality_of_samples_is_a_number_or_says_in_a_line_why_not(name: str) -> None:
    _measure(name, _TRAINING)


@pytest.mark.parametrize("name", SUBJECTS)
def test_every_measure_is_a_number_or_says_in_a_line_why_not(name: str) -> None:
    _measure(name, METRICS.keys() - _TRAINING)


def _measure(name: str, metrics: Set[str]) -> None:
    subject = SUBJECTS[name]()
    for metric in map(METRICS.__getitem__, sorted(metrics)):
        if lacking(subject, metric):
            continue
        options = {"samples": 3} if metric.function.__name__ == "iwae" else {}
        try:
            values = metric.function(subject, **options)
        except AelabError as error:
            assert error.message
            continue
        assert all(isinstance(value, float) for value in values.values())
        if len(subject.images) > 2 and name != "equal images":
            wrong = {key for key, value in values.items() if not math.isfinite(value)}
            assert not wrong - {"skill_l1", "skill_l2"}, wrong
