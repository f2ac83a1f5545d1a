"""Losses of structure, spectrum and random features, each against values from elsewhere."""

from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aelab.errors import ConfigError, ShapeError
from aelab.losses import (
    PerceptualLoss,
    fft,
    focal_frequency,
    gradient,
    l2,
    make_objective,
    ms_ssim,
    random_features,
    ssim,
)
from aelab.types import Output, TermSpec

FORMULAS = {
    "ssim": ssim,
    "ms_ssim": ms_ssim,
    "gradient": gradient,
    "sobel": lambda r, t: gradient(r, t, kind="sobel"),
    "fft": fft,
    "focal_frequency": focal_frequency,
    "random_features": random_features,
}


def pair(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(shape, generator=generator)
    return (target + 0.2 * torch.randn(shape, generator=generator)).requires_grad_(), target


#: scikit-image 0.26.0, of `waves(32, 29)`.
SCIKIT_IMAGE = 0.8386230663301788


def waves(height, width):
    """Two pictures without a random number, so that other programs can be given the same."""
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in (height, width))
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    one = 0.5 + 0.4 * torch.sin(0.9 * x + 0.35 * y)
    other = 0.45 + 0.3 * torch.sin(0.9 * x + 0.35 * y + 0.4) + 0.1 * torch.cos(2.1 * y)
    return one[None, None], other[None, None]


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_blur_costs_more_the_stronger_it_is(formula):
    target = F.interpolate(pair(2, 3, 4, 4)[1], scale_factor=8)
    blurred = [F.avg_pool2d(target, k, 1, k // 2, count_include_pad=False) for k in (1, 3, 7)]
    none, some, much = (formula(x, target).mean().item() for x in blurred)
    assert none < 1e-6 < some < much


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_only_images_of_one_shape_are_compared(formula):
    with pytest.raises(ShapeError):
        formula(torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8))
    with pytest.raises(ShapeError, match=r"images \(B, C, H, W\)"):
        formula(torch.rand(2, 8), torch.rand(2, 8))


def slow_ssim(x, y, size, sigma=1.5):
    """Wang's formula place by place, with the window's weights written out."""
    half = (size - 1) / 2
    weights = {
        (i, j): math.exp(-((i - half) ** 2 + (j - half) ** 2) / (2 * sigma**2))
        for i in range(size)
        for j in range(size)
    }
    total = sum(weights.values())
    height, width = x.shape
    values = []
    for top in range(height - size + 1):
        for left in range(width - size + 1):
            at = {
                k: (x[top + k[0], left + k[1]].item(), y[top + k[0], left + k[1]].item())
                for k in weights
            }
            mx = sum(weights[k] * a for k, (a, _) in at.items()) / total
            my = sum(weights[k] * b for k, (_, b) in at.items()) / total
            vx = sum(weights[k] * (a - mx) ** 2 for k, (a, _) in at.items()) / total
            vy = sum(weights[k] * (b - my) ** 2 for k, (_, b) in at.items()) / total
            cov = sum(weights[k] * (a - mx) * (b - my) for k, (a, b) in at.items()) / total
            c1, c2 = 0.01**2, 0.03**2
            values.append(
                (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
            )
    return sum(values) / len(values)


def test_ssim_is_the_formula_of_the_paper():
    x, y = waves(13, 12)
    assert 1 - ssim(x, y).item() == pytest.approx(slow_ssim(x[0, 0], y[0, 0], 11), abs=1e-9)


def test_ssim_is_that_of_scikit_image():
    # structural_similarity(x, y, gaussian_weights=True, use_sample_covariance=False, data_range=1)
    x, y = waves(32, 29)
    assert 1 - ssim(x, y).item() == pytest.approx(SCIKIT_IMAGE, abs=1e-7)


def test_the_window_shrinks_in_small_images():
    x, y = waves(8, 9)
    assert 1 - ssim(x, y).item() == pytest.approx(slow_ssim(x[0, 0], y[0, 0], 7), abs=1e-9)
    torch.testing.assert_close(ssim(x, y), ssim(x, y, window=7))


def test_single_precision_is_enough_for_ssim():
    x, y = waves(32, 32)
    torch.testing.assert_close(ssim(x.float(), y.float()), ssim(x, y).float(), atol=1e-5, rtol=0)


def test_ms_ssim_uses_the_scales_that_fit():
    x, y = waves(32, 32)
    torch.testing.assert_close(ms_ssim(x, y, scales=2), ms_ssim(x, y))
    torch.testing.assert_close(ms_ssim(x, y, scales=1), ssim(x, y))
    small = [F.avg_pool2d(z, 2) for z in (x, y)]
    coarse = slow_ssim(small[0][0, 0], small[1][0, 0], 11)
    contrast = slow_contrast(x[0, 0], y[0, 0])
    weights = [0.0448 / (0.0448 + 0.2856), 0.2856 / (0.0448 + 0.2856)]
    wanted = 1 - contrast ** weights[0] * coarse ** weights[1]
    assert ms_ssim(x, y).item() == pytest.approx(wanted, abs=1e-9)


def slow_contrast(x, y):
    """Mean of (2 cov + C2) / (var + var + C2) by weighted products of patches."""
    places = torch.arange(11.0, dtype=torch.float64) - 5
    line = torch.exp(-places.square() / (2 * 1.5**2))
    weight = torch.outer(line, line) / line.sum() ** 2
    patches = [z.unfold(0, 11, 1).unfold(1, 11, 1) for z in (x, y)]
    centred = [p - (p * weight).sum((2, 3), keepdim=True) for p in patches]
    (a, b), c2 = centred, 0.03**2
    both, one, other = ((u * v * weight).sum((2, 3)) for u, v in ((a, b), (a, a), (b, b)))
    return ((2 * both + c2) / (one + other + c2)).mean().item()


def test_the_gradient_loss_sees_slopes_and_no_brightness():
    ramp = torch.arange(8.0).expand(1, 1, 6, 8) / 8
    nothing = torch.zeros(1, 1, 6, 8)
    # slope 1/8 in one of two directions
    assert gradient(ramp, nothing).item() == pytest.approx(1 / 16)
    assert gradient(nothing + 0.3, nothing).item() == 0.0
    inside = gradient(ramp, nothing, kind="sobel").item()  # the two border columns have half
    assert inside == pytest.approx((6 * 1 + 2 * 0.5) / 8 / 16)
    step = torch.zeros(1, 1, 5, 5)
    step[..., 2:, :] = 1
    # one of four rows of vertical differences is 1
    assert gradient(step, torch.zeros_like(step)).item() == pytest.approx(1 / 4 / 2)


def slow_spectrum(values):
    """The orthonormal transform by its definition."""
    height, width = values.shape
    result = {}
    for u in range(height):
        for v in range(width):
            total = sum(
                values[y, x].item() * cmath.exp(-2j * math.pi * (u * y / height + v * x / width))
                for y in range(height)
                for x in range(width)
            )
            result[u, v] = total / math.sqrt(height * width)
    return result


def test_the_spectral_losses_are_those_of_the_definition():
    x, y = waves(5, 6)
    spectrum = slow_spectrum((x - y)[0, 0])
    sizes = [abs(value) for value in spectrum.values()]
    assert fft(x, y).item() == pytest.approx(sum(sizes) / 30)
    focal = sum(size / max(sizes) * size**2 for size in sizes) / 30
    assert focal_frequency(x, y).item() == pytest.approx(focal)
    gentle = sum((size / max(sizes)) ** 0.5 * size**2 for size in sizes) / 30
    assert focal_frequency(x, y, alpha=0.5).item() == pytest.approx(gentle)


def test_without_focus_the_spectrum_holds_the_squared_error():
    output, target = pair(2, 3, 9, 8)
    torch.testing.assert_close(focal_frequency(output, target, alpha=0.0), l2(output, target))
    assert (focal_frequency(output, target) < l2(output, target)).all()
    assert (fft(output, target) <= l2(output, target).sqrt()).all()


def test_the_focus_is_no_path_for_gradients():
    output, target = pair(1, 1, 4, 4)
    spectrum = torch.fft.fft2(output - target, norm="ortho")
    weight = (spectrum.abs() / spectrum.abs().max()).detach()
    wanted = torch.autograd.grad((weight * spectrum.abs().square()).mean(), output)[0]
    found = torch.autograd.grad(focal_frequency(output, target).sum(), output)[0]
    torch.testing.assert_close(found, wanted)


def test_random_features_are_orthonormal_and_decided_by_the_seed():
    from aelab.losses.random_features import _filters

    device, dtype = torch.device("cpu"), torch.float64
    filters = _filters(3, (16, 32, 40), 3, 7, device, dtype)
    assert [tuple(f.shape) for f in filters] == [(16, 3, 3, 3), (32, 16, 3, 3), (40, 32, 3, 3)]
    rows = filters[0].flatten(1)
    torch.testing.assert_close(rows @ rows.T, 2 * torch.eye(16, dtype=dtype))
    (wide,) = _filters(1, (20,), 3, 7, device, dtype)
    columns = wide.flatten(1)
    torch.testing.assert_close(columns.T @ columns, 2 * 20 / 9 * torch.eye(9, dtype=dtype))
    output, target = pair(2, 3, 8, 8)
    torch.testing.assert_close(
        random_features(output, target), random_features(output, target, seed=0)
    )
    assert not torch.allclose(
        random_features(output, target), random_features(output, target, seed=1)
    )


def test_random_features_are_the_layers_written_out():
    from aelab.losses.random_features import _filters

    output, target = pair(2, 1, 10, 9)
    first, second = _filters(1, (4, 6), 3, 0, torch.device("cpu"), torch.float32)

    def layers(x):
        one = F.gelu(F.conv2d(F.pad(x - 0.5, (1, 1, 1, 1)), first))
        return one, F.gelu(F.conv2d(F.pad(F.avg_pool2d(one, 2), (1, 1, 1, 1)), second))

    pairs = zip(layers(output), layers(target), strict=True)
    wanted = sum((a - b).abs().mean(dim=(1, 2, 3)) for a, b in pairs) / 2
    torch.testing.assert_close(random_features(output, target, widths=(4, 6)), wanted)


def test_features_keep_about_the_size_of_the_images():
    output, target = pair(8, 3, 32, 32)
    ratio = random_features(output, target).mean() / (output - target).abs().mean()
    assert 0.2 < ratio < 5


def test_any_module_is_a_perceptual_loss():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU(), nn.Dropout(0.5))
    module = PerceptualLoss(model, loss="l2")
    output, target = pair(3, 1, 8, 8)
    objective = make_objective((), loss_function=module)
    objective.train()
    value = module(output, target)
    torch.testing.assert_close(value, l2(model[:2](output), model[:2](target)))
    assert not model.training and not any(p.requires_grad for p in model.parameters())
    assert torch.autograd.grad(value.sum(), output)[0].abs().sum() > 0
    assert "loss='l2'" in repr(module)
    with pytest.raises(ConfigError, match="compares no images"):
        PerceptualLoss(model, loss="kl")


def test_perceptual_model_replaces_the_reconstruction_which_is_still_logged():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GELU())
    objective = make_objective((), loss_function="l2", perceptual_model=model)
    output, target = pair(3, 1, 8, 8)
    values = objective(Output(output, output.flatten(1), {}), target, 0)
    assert set(values) == {"l2", "perceptual"}
    torch.testing.assert_close(values["l2"], l2(output, target))
    torch.testing.assert_close(values["perceptual"], l2(model(output), model(target)))
    torch.testing.assert_close(objective.total(values, 0), values["perceptual"])
    assert not any(p.requires_grad for p in objective.parameters())
    assert make_objective((), perceptual_model=None).names == ("l1",)


def test_perceptual_model_may_be_a_function_of_complex_values():
    objective = make_objective((), perceptual_model=torch.fft.fft2)
    output, target = pair(3, 1, 8, 8)
    values = objective(Output(output, output.flatten(1), {}), target, 0)
    wanted = (torch.fft.fft2(output) - torch.fft.fft2(target)).abs().mean((1, 2, 3))
    torch.testing.assert_close(values["perceptual"], wanted)
    assert torch.autograd.grad(values["perceptual"].sum(), output)[0].isfinite().all()


def test_perceptual_model_leaves_penalties_and_weights_of_a_model_alone():
    terms = (
        TermSpec("rec", "l1", 3.0, {"reduction": "sum"}),
        TermSpec("kl", "kl", 0.5),
    )
    objective = make_objective(terms, perceptual_model=nn.Conv2d(1, 2, 3), feature_loss_weight=0.1)
    weights = {"rec": 0.0, "perceptual": 3.0, "kl": 0.5, "feature_statistics": 0.1}
    assert objective.weights(0) == weights
    with pytest.raises(ConfigError, match="objective too"):
        make_objective((), objective={"l1": 1}, perceptual_model=nn.Identity())
    with pytest.raises(ConfigError, match="must be a module, a function or None, not 3"):
        make_objective((), perceptual_model=3)


MISTAKES = {
    "window": (lambda: ssim(*pair(1, 1, 9, 9), window=4), "odd number of pixels, not 4"),
    "sigma": (lambda: ssim(*pair(1, 1, 9, 9), sigma_pixels=0.0), "above 0, not 0.0"),
    "scales": (lambda: ms_ssim(*pair(1, 1, 9, 9), scales=6), "from 1 to 5, not 6"),
    "kind": (lambda: gradient(*pair(1, 1, 9, 9), kind="x"), "'difference' or 'sobel', not 'x'"),
    "alpha": (lambda: focal_frequency(*pair(1, 1, 9, 9), alpha=-1.0), "at least 0, not -1.0"),
    "widths": (lambda: random_features(*pair(1, 1, 9, 9), widths=()), "needs layers"),
}


@pytest.mark.parametrize(("call", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_of_an_option_names_what_is_possible(call, message):
    with pytest.raises(ConfigError, match=message):
        call()


def test_terms_of_an_objective_take_the_options():
    objective = make_objective(
        (),
        objective={
            "l1": 1,
            "ssim": {"weight": 0.1, "window": 7},
            "edges": {"formula": "gradient", "kind": "sobel"},
            "fft": {"weight": 0.5},
            "features": {"formula": "random_features", "widths": [8, 8], "seed": 3},
        },
    )
    assert objective.describe() == (
        "l1 + 0.1 ssim (window=7) + edges (gradient, kind=sobel) + 0.5 fft"
        " + features (random_features, widths=[8, 8], seed=3)"
    )
    with pytest.raises(ConfigError, match="has no option 'windows'; did you mean 'window'"):
        make_objective((), objective={"ssim": {"windows": 3}})
