"""Histogram losses against the documents' formula written out, and what they keep in memory."""

from __future__ import annotations

import pytest
import torch

from aelab.errors import ConfigError, ShapeError
from aelab.founding.losses import HistogramLoss
from aelab.losses import (
    histogram,
    histogram_distance,
    l1,
    local_histogram,
    make_objective,
    soft_counts,
    soft_histogram,
)
from aelab.types import Output


def direct_histogram(x, bins, min=0.0, max=1.0, sigma=100.0):
    """The formula as it is written: (R, N) -> (R, bins), all differences in memory at once."""
    delta = (max - min) / bins
    centre = min + delta * (torch.arange(bins, dtype=x.dtype) + 0.5)
    away = x[:, None, :] - centre[None, :, None]
    wall = torch.sigmoid(sigma * (away + delta / 2)) - torch.sigmoid(sigma * (away - delta / 2))
    return wall.sum(-1)


def direct_loss(output, target, bins, sigma, normalize, power=1):
    """Document 000's HistogramLoss, (B,), with |difference|^power."""
    batch, channels, height, width = output.shape
    histograms = [
        direct_histogram(x.reshape(batch * channels, -1), bins, sigma=sigma)
        for x in (output, target)
    ]
    if normalize is True:
        histograms = [h / (height * width) for h in histograms]
    elif normalize:
        norm = 1e-7 + torch.linalg.vector_norm(histograms[0], normalize, dim=-1, keepdim=True)
        histograms = [h / norm for h in histograms]
    difference = (histograms[0] - histograms[1]).abs() ** power
    return difference.reshape(batch, -1).mean(1)


def pair(*shape, seed=0):
    """A reconstruction that leaves 0..1 by a tenth, and a target with pixels exactly 0 and 1."""
    generator = torch.Generator().manual_seed(seed)
    output = torch.rand(shape, generator=generator) * 1.2 - 0.1
    target = (torch.rand(shape, generator=generator) * 1.2 - 0.1).clamp(0, 1)
    return output.requires_grad_(), target


@pytest.mark.parametrize(("bins", "sigma"), [(1, 50.0), (50, 200.0), (200, 50.0), (200, 200.0)])
def test_counts_are_those_of_the_formula(bins, sigma):
    x = torch.rand(7, 143, dtype=torch.float64) * 1.4 - 0.2
    torch.testing.assert_close(
        soft_histogram(x, bins, sigma=sigma), direct_histogram(x, bins, sigma=sigma)
    )
    torch.testing.assert_close(
        soft_histogram(x.float(), bins, -0.1, 0.7, sigma),
        direct_histogram(x, bins, -0.1, 0.7, sigma).float(), rtol=1e-4, atol=1e-4,
    )  # fmt: skip


def test_a_value_at_an_end_counts_one_half():
    zeros = torch.zeros(100)
    assert soft_histogram(zeros, 20).sum().item() == pytest.approx(50)
    assert soft_histogram(torch.full((100,), 0.5), 20).sum().item() == pytest.approx(100)
    assert soft_histogram(torch.ones(2, 3, 4), 10).shape == (2, 10)


@pytest.mark.parametrize("piece", [1, 40, 3000, 2**18])
def test_pieces_of_any_size_give_the_same(monkeypatch, piece):
    monkeypatch.setattr(soft_counts, "_PIECE_CPU", piece)
    x = torch.rand(5, 30, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(5, 9, dtype=torch.float64)
    found = torch.autograd.grad((soft_histogram(x, 9) * weights).sum(), x)[0]
    wanted = torch.autograd.grad((direct_histogram(x, 9) * weights).sum(), x)[0]
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(soft_histogram(x, 9), direct_histogram(x, 9))


def test_gradients_are_those_of_finite_differences():
    x = torch.rand(2, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: soft_histogram(v, 5, sigma=7.0), (x,))


@pytest.mark.parametrize("normalize", [True, False, 2, 1.5])
@pytest.mark.parametrize(("loss", "power"), [("l1", 1), ("mse", 2)])
def test_the_loss_is_the_documents(normalize, loss, power):
    output, target = pair(3, 2, 9, 8)
    module = HistogramLoss(40, 0.0, 1.0, sigma=60.0, normalize=normalize, loss=loss)
    wanted = direct_loss(output, target, 40, 60.0, normalize, power)
    value = module(output, target)
    torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-6)
    found = torch.autograd.grad(value.sum(), output)[0]
    torch.testing.assert_close(
        found, torch.autograd.grad(wanted.sum(), output)[0], rtol=2e-3, atol=1e-5
    )


def test_the_norm_is_that_of_the_output_only():
    output, target = pair(2, 1, 8, 8)
    one, other = (
        histogram(a, b, bins=20, normalize=2) for a, b in ((output, target), (target, output))
    )
    assert not torch.allclose(one, other)
    torch.testing.assert_close(histogram(output, target), histogram(target, output))


def test_the_text_of_the_loss_prints():
    text = "HistogramLoss(bins=100, min=0.0, max=1.0, sigma=50, normalize=False, loss='l1')"
    assert repr(HistogramLoss(100, 0.0, 1.0, sigma=50, loss="l1", normalize=False)) == text
    objective = make_objective((), loss_function=HistogramLoss(3), feature_loss_weight=1e-4)
    assert objective.describe().startswith("reconstruction (HistogramLoss(bins=3, min=0.0")


def test_the_special_trainers_penalty_is_added_under_a_histogram_loss():
    output, target = pair(4, 1, 6, 6)
    objective = make_objective((), loss_function=HistogramLoss(10), feature_loss_weight=1e-4)
    latent = torch.rand(4, 5)
    values = objective(Output(output, latent), target, 0)
    statistics = (0.5 - latent.std(0).mean()).abs() + latent.mean().abs()
    assert list(values) == ["reconstruction", "feature_statistics"]
    wanted = direct_loss(output, target, 10, 100.0, True) + 1e-4 * statistics
    torch.testing.assert_close(objective.total(values, 0), wanted, rtol=1e-4, atol=1e-6)


def test_nothing_as_large_as_pixels_times_bins_is_kept():
    """What the backward pass needs is the values: saved tensors are counted by autograd's hooks."""
    output, target = pair(8, 3, 16, 16)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.numel()) or t, lambda t: t
    ):
        histogram(output, target, bins=200, normalize=False).sum()
    assert sum(saved) < 4 * (output.numel() + 24 * 200)


FORMULAS = {
    "histogram": histogram,
    "histogram_distance": histogram_distance,
    "local_histogram": local_histogram,
}


def sorted_distance(output, target):
    """Wasserstein-1 between equally many values is the mean difference of the sorted ones."""
    rows = [x.flatten(2).sort(-1).values for x in (output, target)]
    return (rows[0] - rows[1]).abs().mean(dim=(1, 2))


def test_the_distance_is_that_of_the_sorted_values():
    output, target = pair(4, 3, 16, 16)
    target = target * 0.5
    value = histogram_distance(output, target, bins=400)
    torch.testing.assert_close(value, sorted_distance(output, target), rtol=0.01, atol=1e-3)
    assert (value < l1(output, target)).all()
    coarse = histogram_distance(output, target, bins=25)
    torch.testing.assert_close(coarse, value, rtol=0.1, atol=0.002)


def test_all_mass_counts_and_pulls_from_everywhere():
    white = torch.ones(1, 1, 8, 8)
    for level in (-3.0, 0.0, 0.25, 5.0):
        x = torch.full((1, 1, 8, 8), level, requires_grad=True)
        value = histogram_distance(x, white, bins=50)
        assert value.item() == pytest.approx(abs(1 - level), abs=0.03)  # a bin and a half
        value.sum().backward()
        assert (x.grad.sign() == (1 if level > 1 else -1)).all()
    far = histogram_distance(torch.full((1, 1, 8, 8), 0.2), white, metric="l1")
    assert far.item() == pytest.approx(1.0, abs=1e-4)


def test_the_wall_of_a_bin_is_relative_to_its_width():
    output, target = pair(2, 1, 16, 16)
    wide = histogram_distance(10 * output, 10 * target, bins=30, min=0.0, max=10.0)
    torch.testing.assert_close(wide, 10 * histogram_distance(output, target, bins=30))


def test_only_the_local_one_knows_where_the_pixels_are():
    target = pair(2, 3, 16, 16)[1]
    order = torch.randperm(256, generator=torch.Generator().manual_seed(0))
    shuffled = target.flatten(2)[..., order].reshape(target.shape)
    assert histogram_distance(shuffled, target).max() < 1e-5
    assert histogram(shuffled, target).max() < 1e-5
    assert local_histogram(shuffled, target).min() > 0.03
    whole = local_histogram(shuffled, target * 0.5, windows=(16,), bins=100)
    torch.testing.assert_close(whole, histogram_distance(shuffled, target * 0.5))
    pixels = local_histogram(shuffled, target, windows=(1,), bins=200)
    torch.testing.assert_close(pixels, l1(shuffled, target), rtol=0.02, atol=0.002)


def test_windows_cover_every_pixel_of_any_image():
    for height, width, side in ((33, 10, 8), (5, 9, 4), (3, 3, 8), (16, 16, 16), (7, 5, 1)):
        x = torch.arange(float(height * width)).reshape(1, 1, height, width)
        from aelab.losses.histograms import _windows

        seen = _windows(x, side)
        assert set(seen.flatten().tolist()) == set(range(height * width))
        assert seen.shape[-1] == min(side, height) * min(side, width)
        top, left = seen[0, 0, 0].item() // width, seen[0, 0, 0].item() % width
        assert (top, left) == (0, 0)


MISTAKES = {
    "bins": (lambda: HistogramLoss(0), "bins >= 1, not 0"),
    "range": (lambda: HistogramLoss(3, 1.0, 0.0), "min < max"),
    "sigma": (lambda: HistogramLoss(3, sigma=0.0), "steepness above 0"),
    "loss": (lambda: HistogramLoss(3, loss="l7"), "unknown loss 'l7'"),
    "penalty": (lambda: HistogramLoss(3, loss="kl"), "compares no images"),
    "metric": (lambda: histogram_distance(*pair(1, 1, 2, 2), metric="l3"), "'wasserstein' or 'l1'"),
    "windows": (lambda: local_histogram(*pair(1, 1, 2, 2), windows=()), "one or more sides"),
    "normalize": (lambda: histogram(*pair(1, 1, 2, 2), normalize=-1), "number p above 0"),
    "name": (lambda: histogram(*pair(1, 1, 2, 2), loss="l3"), "possible: huber, l1, l2"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_of_a_histogram_names_what_is_possible(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_only_images_have_channels_to_count():
    for formula in FORMULAS.values():
        with pytest.raises(ShapeError, match=r"images \(B, C, H, W\)"):
            formula(torch.rand(2, 5), torch.rand(2, 5))


def descended(formula):
    """L1 and distance of the distributions after moving the pixels of a random picture."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 16), torch.linspace(0, 1, 16), indexing="ij")
    disc = ((x - 0.4) ** 2 + (y - 0.6) ** 2 < 0.08).float()
    target = (0.05 + 0.2 * x + 0.7 * disc)[None, None]
    moved = torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=0.02)
    for _ in range(300):
        optimizer.zero_grad()
        formula(moved, target).sum().backward()
        optimizer.step()
    return l1(moved, target).item(), histogram_distance(moved, target).item()


def test_what_descent_makes_of_a_random_picture():
    """The old formula finds not even the values, the distance the values, the local one places."""
    counts = descended(lambda output, target: histogram(output, target, normalize=False))
    assert counts[0] > 0.3 and counts[1] > 0.05
    values = descended(histogram_distance)
    assert values[0] > 0.25 and values[1] < 0.005
    places = descended(local_histogram)
    assert places[0] < 0.12 and places[1] < 0.005
    assert descended(lambda a, b: local_histogram(a, b, windows=(2, 4)))[0] < 0.04
