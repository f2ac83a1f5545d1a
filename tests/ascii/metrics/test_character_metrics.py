"""Measures of models that write, on texts whose values are counted by hand."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from aelab.ascii.glyphs import ALPHABET, font_renderer, numbers_to_images, to_grid
from aelab.ascii.medium import Characters
from aelab.ascii.metrics.characters import (
    _PASS_PIXELS,
    blurred,
    characters,
    characters_baseline,
    clamped_numbers,
    nearest_training_pictures,
)
from aelab.errors import ConfigError, UserError
from aelab.losses import ssim
from aelab.metrics import METRICS, Subject, lacking, measure
from aelab.ops.subset import draw_order
from aelab.study.figures import FIGURES, drawn_figure
from aelab.types import Images, Output

HOUSE = ["  /\\  ", " /  \\ ", " |__| "]
WAVES = ["~~~~~~", "      ", "~~~~~~"]


class Writes(nn.Module):
    """Writes whatever it is told for each text: a latent of 2 numbers that nobody reads."""

    noise_shape, terms, medium = None, (), Characters()

    def __init__(self, change: dict[int, int]) -> None:
        super().__init__()
        self._table = torch.arange(256)
        for before, after in change.items():
            self._table[before] = after

    def encode(self, images: Tensor) -> Tensor:
        return images.flatten(1)[:, :2]

    def decode(self, latent: Tensor) -> Tensor:
        raise AssertionError("nothing here draws from latents")

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        return Output(self._table[(images * 255).round().long()] / 255, latent)


def _number(character: str) -> int:
    return ALPHABET.index(character)


def _texts(*texts: list[str], labels: list[int] | None = None) -> Images:
    grids = torch.stack([to_grid(text, (3, 6)) for text in texts])[:, None]
    return Images(
        grids,
        labels=None if labels is None else torch.tensor(labels),
        medium=Characters(),
    )


def _subject(change: dict[str, str], *texts: list[str], train: Images | None = None) -> Subject:
    model = Writes({_number(before): _number(after) for before, after in change.items()})
    return Subject(model, _texts(*texts), train)


def test_a_model_that_copies_has_the_best_of_everything() -> None:
    values = characters(_subject({}, HOUSE, WAVES))
    for key in (
        "accuracy",
        "accuracy_without_spaces",
        "rendered_ssim",
        "contour_agreement",
        "skill_ssim_blur_2",
    ):
        assert values[key] == pytest.approx(1, abs=1e-5), key
    for blur in (1, 2, 4):
        assert values[f"rendered_ssim_blur_{blur}"] == pytest.approx(1, abs=1e-5)


def test_characters_are_counted_over_all_cells_and_over_those_that_are_no_space() -> None:
    # 2 texts of 18 cells. The house has 8 characters, 2 of them |; the waves 12, all wrong.
    values = characters(_subject({"|": "!", "~": " "}, HOUSE, WAVES))
    assert values["accuracy"] == pytest.approx((36 - 2 - 12) / 36)
    assert values["accuracy_without_spaces"] == pytest.approx((8 - 2) / 20)
    assert values["blank_share_original"] == pytest.approx((10 + 6) / 36)
    assert values["blank_share"] == pytest.approx((10 + 18) / 36)


def test_spaces_that_are_filled_lower_accuracy_but_not_that_without_spaces() -> None:
    values = characters(_subject({" ": "`"}, HOUSE))
    assert values["accuracy"] == pytest.approx(8 / 18)
    assert values["accuracy_without_spaces"] == 1
    assert values["blank_share"] == 0


def test_blank_reconstructions_agree_on_no_contour_and_blank_originals_have_no_share() -> None:
    gone = characters(_subject({"/": " ", "\\": " ", "|": " ", "_": " "}, HOUSE))
    assert gone["contour_agreement"] == 0
    assert gone["accuracy_without_spaces"] == 0
    assert gone["blank_share"] == 1
    assert gone["skill_ssim_blur_2"] == pytest.approx(0, abs=1e-5)
    blank = characters(_subject({}, ["", "", ""]))
    assert math.isnan(blank["skill_ssim_blur_2"])
    assert math.isnan(blank["accuracy_without_spaces"])
    assert blank["contour_agreement"] == 1


def test_blur_forgives_another_stroke_at_the_same_place_but_not_a_missing_one() -> None:
    other = characters(_subject({"|": "!", "_": "-"}, HOUSE))
    missing = characters(_subject({"|": " ", "_": " "}, HOUSE))
    sharpness = ["rendered_ssim", *(f"rendered_ssim_blur_{blur}" for blur in (1, 2, 4))]
    values = [other[key] for key in sharpness]
    assert values == sorted(values), "the more blur, the more alike"
    assert all(other[key] > missing[key] for key in sharpness)
    assert other["contour_agreement"] > missing["contour_agreement"]
    blank = characters_baseline(_subject({}, HOUSE, train=_texts(HOUSE)))
    lacks = 1 - other["rendered_ssim_blur_2"], 1 - blank["spaces_rendered_ssim_blur_2"]
    assert other["skill_ssim_blur_2"] == pytest.approx(1 - lacks[0] / lacks[1], abs=1e-4)


def test_drawn_measures_are_means_over_pictures_however_many_fit_in_a_pass() -> None:
    generator = torch.Generator().manual_seed(1)
    renderer = font_renderer(9)
    each = 24 * 24 * renderer.cell[0] * renderer.cell[1]
    count = 2 * (_PASS_PIXELS // each) + 1
    texts = torch.randint(0, 95, (count, 1, 24, 24), generator=generator, dtype=torch.uint8)
    subject = Subject(Writes({_number("#"): _number(" ")}), Images(texts, medium=Characters()))
    values = characters(subject)
    ours = renderer.draw(texts[:, 0])
    theirs = renderer.draw(texts[:, 0] * (texts[:, 0] != _number("#")))
    assert values["rendered_ssim"] == pytest.approx((1 - ssim(theirs, ours)).mean().item())
    few = characters(subject, pictures=2)
    assert few["accuracy"] == values["accuracy"], "all pictures are counted"
    two = draw_order(count)[:2]  # a draw, not the first
    assert few["rendered_ssim"] == pytest.approx((1 - ssim(theirs[two], ours[two])).mean().item())


@pytest.mark.parametrize("sigma", [0.7, 2.0, 4.0])
def test_a_blur_is_the_convolution_with_a_gaussian_and_paper_lies_around(sigma: float) -> None:
    picture = torch.rand(1, 1, 40, 31, generator=torch.Generator().manual_seed(2))
    reach = round(3 * sigma)
    window = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    window /= window.sum()
    ink = 1 - picture[0, 0].double().numpy()
    for axis in (0, 1):
        ink = np.apply_along_axis(lambda line: np.convolve(line, window, "same"), axis, ink)
    assert np.allclose(blurred(picture, sigma)[0, 0].numpy(), 1 - ink, atol=1e-5)
    assert torch.allclose(blurred(torch.ones(1, 1, 9, 9), sigma), torch.ones(1, 1, 9, 9))


def test_the_baseline_is_blank_paper_and_the_training_text_most_like_each() -> None:
    nearly = ["  /\\  ", " /  \\ ", " |  | "]  # 16 of 18 cells of the house, 6 of its 8 characters
    train = _texts(WAVES, nearly)
    values = characters_baseline(_subject({}, HOUSE, WAVES, train=train))
    assert values["spaces_accuracy"] == pytest.approx(16 / 36)
    assert values["spaces_accuracy_without_spaces"] == 0
    assert values["spaces_contour_agreement"] == 0
    assert values["nearest_accuracy"] == pytest.approx(34 / 36)
    assert values["nearest_accuracy_without_spaces"] == pytest.approx((6 + 12) / 20)
    assert values["nearest_rendered_ssim_blur_2"] > values["spaces_rendered_ssim_blur_2"]


def test_whatever_a_model_gives_is_read_as_a_character() -> None:
    odd = torch.tensor([-1.0, 0.0, 94.4 / 255, 2.0, math.nan]).reshape(1, 1, 1, 5)
    assert clamped_numbers(odd).flatten().tolist() == [0, 0, 94, 94, 0]
    every = torch.arange(95).reshape(1, 5, 19)
    assert torch.equal(clamped_numbers(numbers_to_images(every)).long(), every)


def test_measures_of_pixels_refuse_characters_and_the_other_way_round() -> None:
    text = _subject({}, HOUSE, train=_texts(WAVES))
    for name in ("reproduction", "pca_skill", "samples"):
        assert "characters, not pixels" in lacking(text, METRICS[name]), name
    for name in ("elbo", "iwae"):
        assert METRICS[name].medium == "pixels", name
    picture = Subject(Writes({}), Images(torch.zeros(2, 1, 3, 6, dtype=torch.uint8)))
    assert lacking(picture, METRICS["characters"]) == "the images are pictures, not characters"
    assert lacking(picture, METRICS["reproduction"]) == ""
    with pytest.raises(ConfigError, match="not characters"):
        measure(picture, METRICS["characters"])


def test_separation_of_texts_is_measured_in_the_latent_alone() -> None:
    texts = [HOUSE, WAVES] * 6
    train = _texts(*texts, labels=[0, 1] * 6)
    subject = Subject(Writes({}), _texts(*texts, labels=[0, 1] * 6), train)
    values = measure(subject, METRICS["separation"])
    assert values["knn_latent"] == 1
    assert not [key for key in values if key.endswith("_pixels")]


@pytest.mark.parametrize("method", ["contours", "log"])
def test_the_figure_of_edges_shows_text_and_edges_twice_in_every_row(method: str) -> None:
    subject = _subject({"|": " "}, HOUSE, WAVES)
    content = drawn_figure("edges", subject, {"method": method}).content
    height, width = (3 * font_renderer(9).cell[0], 6 * font_renderer(9).cell[1])
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.width > 4 * 2 * width
        assert picture.height > 2 * 2 * height
        assert {0, 255} <= set(np.unique(np.asarray(picture.convert("L"))))
    assert content == drawn_figure("edges", subject, {"method": method}).content


def test_the_figure_of_edges_names_its_methods_and_refuses_pictures() -> None:
    with pytest.raises(UserError, match="no method 'contour'; did you mean 'contours'"):
        drawn_figure("edges", _subject({}, HOUSE), {"method": "contour"})
    picture = Subject(Writes({}), Images(torch.zeros(2, 1, 3, 6, dtype=torch.uint8)))
    with pytest.raises(UserError, match="the images are pictures, not characters"):
        drawn_figure("edges", picture)
    assert FIGURES["frequency"].medium == "pixels"


@pytest.mark.parametrize("cells", [7, 2040, 2043])
def test_the_training_text_with_most_equal_cells_is_found_at_any_size(cells: int) -> None:
    generator = torch.Generator().manual_seed(3)
    train = torch.randint(2, (40, 1, 1, cells), generator=generator)
    wanted = torch.randint(2, (5, 1, cells), generator=generator)
    known = Images(train.byte(), medium=Characters())
    found = nearest_training_pictures(_subject({}, HOUSE, train=known), wanted)
    most = (train[:, 0, 0] == wanted).sum(-1).amax(1)
    assert torch.equal((found.long() == wanted).sum((1, 2)), most)
