"""Losses of drawn characters: values by hand, gradients, and shapes before strokes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter
from torch.nn import functional as F

from aelab.ascii import glyphs
from aelab.ascii.glyphs import ALPHABET, font_renderer, numbers_to_images, to_grid
from aelab.ascii.losses import drawing
from aelab.ascii.losses.rendered import RenderedL1, RenderedL2, RenderedSSIM
from aelab.ascii.losses.shapes import (
    RenderedBlur,
    RenderedEdges,
    RenderedMorphology,
    dilated,
    laplacian_of_gaussian,
)
from aelab.ascii.medium import Characters
from aelab.errors import ConfigError
from aelab.losses import make_objective, sharing, ssim
from aelab.losses.names import COMPARISONS
from aelab.losses.sliding import slide
from aelab.posteriors import Deterministic
from aelab.types import Images, Output

RENDERED = sorted(name for name in COMPARISONS if name.startswith("rendered"))
NUMBERS = torch.randint(0, 95, (3, 4, 6), generator=torch.Generator().manual_seed(0))


def one_hot(numbers):
    return F.one_hot(numbers.long(), 95).permute(0, 3, 1, 2).float()


def written(relaxed):
    logits = relaxed.clamp(min=1e-9).log()
    likeliest = numbers_to_images(relaxed.argmax(1))
    return Output(
        likeliest, torch.zeros(len(relaxed), 2), {}, {"logits": logits, "relaxed": relaxed}
    )


def soft(numbers=NUMBERS, seed=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    shape = (len(numbers), 95, *numbers.shape[1:])
    return torch.randn(shape, generator=generator).mul(2).softmax(1).to(dtype)


def cost(name, ours, true, **options):
    """Of one text where another was meant."""
    shape = (len(true), max(map(len, true)))
    grids = [to_grid(lines, shape)[None] for lines in (ours, true)]
    loss = COMPARISONS[name](**options)
    return loss(written(one_hot(grids[0])), numbers_to_images(grids[1])).item()


@pytest.mark.parametrize("font_zoom", [None, 20])
def test_pixels_are_compared_as_drawn(font_zoom):
    renderer = font_renderer(9, font_zoom)
    relaxed, target = soft(), numbers_to_images(NUMBERS)
    ours, true = renderer(relaxed), renderer.draw(NUMBERS)
    output, options = written(relaxed), {"font_res": 9, "font_zoom": font_zoom}
    expected = {
        "rendered_l1": (ours - true).abs().mean(dim=(1, 2, 3)),
        "rendered_l2": (ours - true).square().mean(dim=(1, 2, 3)),
        "rendered_ssim": ssim(ours, true),
    }
    for name, values in expected.items():
        found = COMPARISONS[name](**options)(output, target)
        torch.testing.assert_close(found, values, rtol=1e-4, atol=1e-6)
    summed = RenderedL2(**options, reduction="sum")(output, target)
    torch.testing.assert_close(summed, (ours - true).square().sum(dim=(1, 2, 3)))


@pytest.mark.parametrize("name", RENDERED)
def test_each_image_has_a_value_of_its_own_and_equality_costs_nothing(name):
    loss = COMPARISONS[name](font_res=6)
    target = numbers_to_images(NUMBERS)
    values = loss(written(soft()), target)
    assert values.shape == (3,) and (values > 0).all()
    alone = loss(written(soft()[1:2]), target[1:2])
    torch.testing.assert_close(values[1:2], alone)
    equal = loss(written(one_hot(NUMBERS)), target)
    torch.testing.assert_close(equal, torch.zeros(3), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "name, options",
    [
        *((name, {}) for name in RENDERED),
        ("rendered_edges", {"kind": "gradient"}),
        ("rendered_morphology", {"operations": "closing", "radii": 0.5}),
    ],
)
def test_the_gradient_is_exact(name, options):
    loss = COMPARISONS[name](font_res=5, **options)
    # Through the softmax: off the simplex paper is no longer white, where |.| has its kink.
    logits = soft(NUMBERS[:1, :1, :2], dtype=torch.float64).log().requires_grad_()
    target = numbers_to_images(NUMBERS[:1, :1, :2])
    assert torch.autograd.gradcheck(lambda x: loss(written(x.softmax(1)), target), (logits,))


@pytest.mark.parametrize("name", RENDERED)
def test_extremes_stay_finite(name):
    loss = COMPARISONS[name]()
    spaces = torch.zeros(2, 5, 6, dtype=torch.long)
    ats = spaces + ALPHABET.index("@")
    for ours in (spaces, ats):
        for true in (spaces, ats):
            relaxed = one_hot(ours).requires_grad_()
            values = loss(written(relaxed), numbers_to_images(true))
            values.sum().backward()
            assert values.isfinite().all() and relaxed.grad.isfinite().all()
            assert (values < 1e-6).all() if ours is true else (values > 0.01).all()


#: An upright line, the same one cell further, and a lying one: each of eight strokes.
LINE = ["           |            "] * 8
MOVED = ["            |           "] * 8
NOTHING = [" " * 24] * 8
OTHER = [" " * 24, " " * 24, "||||||||" + " " * 16] + [" " * 24] * 5


@pytest.mark.parametrize("name", ["character_ce", "rendered_l1", "rendered_l2"])
def test_for_losses_of_strokes_a_moved_line_is_no_better_than_another_shape(name):
    assert cost(name, MOVED, LINE) == pytest.approx(cost(name, OTHER, LINE), rel=0.02)
    # Which is why models write spaces.
    assert cost(name, MOVED, LINE) > 1.9 * cost(name, NOTHING, LINE)


@pytest.mark.parametrize(
    "name, options, share",
    [
        ("rendered_blur", {}, 0.3),
        ("rendered_blur", {"sigmas": 2}, 0.1),
        ("rendered_morphology", {}, 0.5),
        ("rendered_morphology", {"radii": 2, "operations": "dilation"}, 0.3),
    ],
)
def test_for_losses_of_shapes_a_moved_line_costs_less_than_another_shape(name, options, share):
    moved, other, nothing = (cost(name, text, LINE, **options) for text in (MOVED, OTHER, NOTHING))
    assert 0 < moved < share * other and moved < nothing


def test_blur_agrees_with_pillow():
    """Pillow approximates the Gaussian by three boxes; far from the edges that is near enough."""
    true, ours = ["      ", "  X   ", "      "] * 2, ["      "] * 6
    renderer = font_renderer(16, 20)
    sigma = 0.5
    pictures = [renderer.draw(to_grid(lines, (6, 6))[None])[0, 0] for lines in (true, ours)]
    blurred = [
        np.asarray(
            Image.fromarray((255 * picture.numpy()).round().astype("uint8")).filter(
                ImageFilter.GaussianBlur(16 * sigma)
            ),
            dtype=float,
        )
        / 255
        for picture in pictures
    ]
    energy = np.square(blurred[0] - blurred[1]).mean() * 4 * math.pi * (16 * sigma) ** 2
    found = cost("rendered_blur", ours, true, font_res=16, font_zoom=20, sigmas=[sigma])
    assert found == pytest.approx(energy, rel=0.05)


def test_blurred_noise_costs_as_much_as_noise():
    noise = torch.randn(1, 1, 300, 300, generator=torch.Generator().manual_seed(3))
    loss = RenderedBlur(font_res=5, sigmas=(0.5, 1.0))
    loss.difference = lambda output, target: noise
    assert loss(None, None).item() == pytest.approx(1, rel=0.1)


def test_dilation_lies_between_the_mean_and_the_greatest():
    ink = torch.rand(2, 1, 20, 23, generator=torch.Generator().manual_seed(4))
    hard = F.max_pool2d(ink, (7, 5), 1, (3, 2))
    soft_one = dilated(ink, (3, 2), 0.05)
    assert (soft_one <= hard + 1e-5).all()
    assert (soft_one >= hard - 0.05 * math.log(35) - 1e-5).all()
    assert (soft_one - hard).abs().max() > (dilated(ink, (3, 2), 0.02) - hard).abs().max()
    for grey in (0.0, 0.3, 1.0):
        constant = torch.full((1, 1, 9, 9), grey)
        torch.testing.assert_close(dilated(constant, (3, 2), 0.05), constant)


def test_closing_joins_near_strokes_and_leaves_lone_ones():
    """Two bars with a gap: filled by a reach of at least half the gap, and only then."""
    ink = torch.zeros(1, 1, 31, 31)
    ink[..., 8:12] = ink[..., 16:20] = 1

    def closed(reach):
        return 1 - dilated(1 - dilated(ink, (reach, reach), 0.02), (reach, reach), 0.02)

    assert closed(3)[0, 0, 15, 13] > 0.8 > 0.2 > closed(1)[0, 0, 15, 13]
    assert closed(3)[0, 0, 15, 25] < 0.2


@pytest.mark.parametrize("size, sigma", [(15, 0.2), (11, 0.9)])
def test_the_edge_filter_is_the_documents(size, sigma):
    kernel = torch.zeros(size, size, dtype=torch.float64)
    for row in range(size):
        for column in range(size):
            square = ((row - size // 2) ** 2 + (column - size // 2) ** 2) / (2 * sigma**2)
            kernel[row, column] = -(1 - square) * math.exp(-square) / (math.pi * sigma**2)
    pictures = torch.rand(2, 1, 30, 40, generator=torch.Generator().manual_seed(5)).double()
    expected = F.conv2d(pictures, kernel[None, None], padding=size // 2)
    torch.testing.assert_close(laplacian_of_gaussian(pictures, size, sigma), expected)


def test_the_documents_first_edge_filter_found_no_edges():
    output, target = written(soft()), numbers_to_images(NUMBERS)
    edges = RenderedEdges(size=15, sigma_pixels=0.2)(output, target)
    factor = 1 / (math.pi * 0.2**2) ** 2
    torch.testing.assert_close(edges, factor * RenderedL2()(output, target), rtol=0.001, atol=0)


def test_slopes_are_differences_of_neighbours():
    renderer, output, target = font_renderer(9), written(soft()), numbers_to_images(NUMBERS)
    difference = renderer(soft()) - renderer.draw(NUMBERS)
    down, across = difference.diff(dim=2).abs(), difference.diff(dim=3).abs()
    expected = (down.mean(dim=(1, 2, 3)) + across.mean(dim=(1, 2, 3))) / 2
    found = RenderedEdges(kind="gradient")(output, target)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("height, width", [(9, 7), (64, 200), (300, 150), (257, 129)])
def test_sliding_in_pieces_is_a_convolution(height, width):
    generator = torch.Generator().manual_seed(6)
    images = torch.rand(2, 1, height, width, generator=generator).double()
    down, across = (torch.rand(size, generator=generator).double() for size in (7, 5))
    kernel = (down[:, None] * across)[None, None]
    torch.testing.assert_close(slide(images, down, across), F.conv2d(images, kernel))
    padded = F.conv2d(images, kernel, padding=(3, 2))
    torch.testing.assert_close(slide(images, down, across, padded=True), padded)


def test_terms_of_an_objective_share_their_picture(monkeypatch):
    drawn = []
    renderer = font_renderer(9)
    original = type(renderer).forward
    monkeypatch.setattr(
        type(renderer), "forward", lambda self, x: drawn.append(self.cell) or original(self, x)
    )
    names = ("rendered_l1", "rendered_l2", "rendered_ssim", "rendered_edges")
    objective = make_objective(objective=dict.fromkeys(names, 1))
    output, target = written(soft()), numbers_to_images(NUMBERS)
    together = objective(output, target, 0)
    assert len(drawn) == 1 and sharing._shared.get() is None
    for name in names:
        torch.testing.assert_close(COMPARISONS[name]()(output, target), together[name])
    objective(written(soft(seed=2)), target, 0)
    assert len(drawn) == 6


def test_the_learned_renderer_waits_for_the_training_set(monkeypatch):
    monkeypatch.setattr(drawing, "learned_renderer", lambda *font: glyphs.FontRenderer(*font))
    loss = RenderedL2(renderer="learned", font_res=5)
    output, target = written(soft()), numbers_to_images(NUMBERS)
    with pytest.raises(ConfigError, match="rendered_l2 has no learned renderer"):
        loss(output, target)
    loss.prepare(Images(NUMBERS[:, None].to(torch.uint8), medium=Characters()))
    assert isinstance(loss.learned, glyphs.FontRenderer)
    torch.testing.assert_close(loss(output, target), RenderedL2(font_res=5)(output, target))


@pytest.mark.slow
def test_the_learned_renderer_is_frozen_and_lets_gradients_through(tmp_path, monkeypatch):
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path))
    options = {"renderer": "learned", "font_res": 5}
    objective = make_objective(objective={"rendered_l2": options, "rendered_l1": options})
    relaxed, target = soft().requires_grad_(), numbers_to_images(NUMBERS)
    objective.prepare(Images(NUMBERS[:, None].to(torch.uint8), medium=Characters()))
    values = objective(written(relaxed), target, 0)
    values["rendered_l2"].sum().backward()
    assert relaxed.grad.abs().sum() > 0
    assert not any(parameter.requires_grad for parameter in objective.parameters())
    right = objective(written(one_hot(NUMBERS)), target, 0)["rendered_l2"]
    assert (right < 0.02 * values["rendered_l2"]).all()


def test_a_rehearsal_on_the_meta_device_has_values_for_every_image():
    objective = make_objective(
        objective={
            **dict.fromkeys(RENDERED, 1),
            "drawn": {"formula": "rendered_l2", "renderer": "learned"},
        }
    )
    meta = torch.empty(3, 95, 4, 6, device="meta")
    output = Output(
        meta[:, :1], meta[:, :2, 0, 0], Deterministic(), {"logits": meta, "relaxed": meta}
    )
    values = objective(output, torch.empty(3, 1, 4, 6, device="meta"), 0)
    assert all(value.shape == (3,) for value in values.values())


@pytest.mark.parametrize("name", RENDERED)
def test_a_model_that_paints_is_told_so(name):
    painted = Output(torch.rand(3, 1, 4, 6), torch.zeros(3, 2))
    with pytest.raises(
        ConfigError, match=f"{name} compares characters, but this model outputs pixels"
    ):
        make_objective(objective={name: 1})(painted, numbers_to_images(NUMBERS), 0)


@pytest.mark.parametrize(
    "name, options, words",
    [
        ("rendered_l2", {"renderer": "neural"}, "renderer must be"),
        ("rendered_l1", {"reduction": "max"}, "reduction must be"),
        ("rendered_blur", {"sigmas": []}, "sigmas must be numbers above 0"),
        ("rendered_blur", {"sigmas": [1, -1]}, "sigmas must be numbers above 0"),
        ("rendered_blur", {"sigma": 1}, "no option 'sigma'"),
        ("rendered_morphology", {"radii": 0}, "radii must be numbers above 0"),
        ("rendered_morphology", {"operations": "opening"}, "operations must be of"),
        ("rendered_morphology", {"temperature": 0.001}, "temperature must be at least 0.02"),
        ("rendered_edges", {"kind": "sobel"}, "kind must be"),
        ("rendered_edges", {"size": 10}, "size must be an odd number"),
        ("rendered_edges", {"sigma_pixels": 0}, "sigma_pixels must be above 0"),
    ],
)
def test_options_without_sense_are_refused(name, options, words):
    with pytest.raises(ConfigError, match=words):
        make_objective(objective={name: options})


def test_old_names_are_known():
    objective = make_objective(objective={"rendered_mse": 1, "rendered_mae": 1})
    assert [type(term.module) for term in objective.terms] == [RenderedL2, RenderedL1]
    described = make_objective(objective={"picture": {"formula": "rendered_ssim", "window": 7}})
    assert described.describe() == "picture (rendered_ssim, window=7)"
    assert isinstance(described.terms[0].module, RenderedSSIM)
    assert "sigmas=(0.5, 1.0, 2.0)" in repr(RenderedBlur()) and RenderedMorphology().radii == (1.0,)
