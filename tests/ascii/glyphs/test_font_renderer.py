"""Soft and hard rendering are what Pillow draws, and fonts that do not suit are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from aelab import roots
from aelab.ascii.glyphs import ALPHABET, FontRenderer, find_font, font_renderer, to_lines
from aelab.errors import ConfigError, DataError, ShapeError

SIZES = (6, 7, 8, 9, 11, 12, 16, 21)
#: Where all ink of DejaVu Sans Mono stays inside its cells.
WHOLE_LINES = (6, 8, 11, 16)


def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(find_font()), size, layout_engine=ImageFont.Layout.BASIC)


def _numbers(*shape: int) -> Tensor:
    return torch.randint(len(ALPHABET), shape, generator=torch.Generator().manual_seed(3))


def _one_hots(numbers: Tensor) -> Tensor:
    return torch.nn.functional.one_hot(numbers, len(ALPHABET)).permute(0, 3, 1, 2).float()


def _as_array(picture: Tensor) -> np.ndarray:
    return (picture * 255).round().to(torch.uint8).numpy()


@pytest.mark.parametrize("size", SIZES)
def test_hard_rendering_is_every_character_drawn_by_pillow_at_its_cell(size: int) -> None:
    font, renderer = _font(size), FontRenderer(size)
    width, height = round(font.getlength("M")), sum(font.getmetrics())
    numbers = torch.arange(96).clamp_max(94).view(1, 8, 12)
    page = Image.new("L", (12 * width, 8 * height), 255)
    for row, line in enumerate(to_lines(numbers[0])):
        for column, character in enumerate(line):
            cell = Image.new("L", (width, height), 255)
            ImageDraw.Draw(cell).text((0, 0), character, fill=0, font=font)
            page.paste(cell, (column * width, row * height))
    assert renderer.cell == (height, width)
    assert np.array_equal(_as_array(renderer.draw(numbers)[0, 0]), np.asarray(page))


@pytest.mark.parametrize("size", WHOLE_LINES)
def test_hard_rendering_is_whole_lines_drawn_by_pillow_where_no_ink_leaves_a_cell(
    size: int,
) -> None:
    font, renderer = _font(size), FontRenderer(size)
    numbers = _numbers(1, 6, 40)
    height, width = renderer.cell
    page = Image.new("L", (40 * width, 6 * height), 255)
    for row, line in enumerate(to_lines(numbers[0])):
        ImageDraw.Draw(page).text((0, row * height), line, fill=0, font=font)
    assert np.array_equal(_as_array(renderer.draw(numbers)[0, 0]), np.asarray(page))


def test_at_9_pixels_a_wide_letter_leans_into_the_next_cell_when_pillow_draws_a_line() -> None:
    font, renderer = _font(9), FontRenderer(9)
    page = Image.new("L", (2 * renderer.cell[1], renderer.cell[0]), 255)
    ImageDraw.Draw(page).text((0, 0), "W ", fill=0, font=font)
    line = np.asarray(page)
    cut = _as_array(renderer.draw(torch.tensor([[[ALPHABET.index("W"), 0]]]))[0, 0])
    edge = renderer.cell[1]
    assert np.array_equal(line[:, :edge], cut[:, :edge])
    assert line[:, edge].min() < 255 and cut[:, edge].min() == 255


@pytest.mark.parametrize("size", [7, 9, 12, 16])
def test_all_95_characters_look_different(size: int) -> None:
    atlas = FontRenderer(size).atlas
    assert len({bytes(_as_array(glyph)) for glyph in atlas}) == 95


@pytest.mark.parametrize("zoom", [None, 21])
def test_soft_rendering_of_one_hots_is_hard_rendering(zoom: int | None) -> None:
    renderer, numbers = FontRenderer(9, zoom), _numbers(3, 5, 4)
    soft, hard = renderer(_one_hots(numbers)), renderer.draw(numbers)
    assert soft.shape == hard.shape == (3, 1, 5 * renderer.cell[0], 4 * renderer.cell[1])
    assert torch.allclose(soft, hard, atol=1e-6)


def test_a_cell_is_the_weighted_sum_of_its_characters() -> None:
    renderer = FontRenderer(8)
    weights = torch.zeros(1, 95, 2, 3)
    weights[0, ALPHABET.index("A"), 1, 2] = 0.25
    weights[0, ALPHABET.index("-"), 1, 2] = 2.0
    picture = renderer(weights)[0, 0]
    height, width = renderer.cell
    expected = 0.25 * renderer.atlas[ALPHABET.index("A")] + 2 * renderer.atlas[ALPHABET.index("-")]
    assert torch.allclose(picture[height:, 2 * width :], expected)
    assert float(picture[:height].abs().sum()) == 0


def test_the_gradient_of_soft_rendering_is_right() -> None:
    renderer = FontRenderer(5)
    weights = torch.rand(2, 95, 1, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(renderer, (weights,), fast_mode=True)


def test_rendering_may_be_mapped_over_stacked_runs() -> None:
    renderer = FontRenderer(6)
    weights = torch.rand(2, 3, 95, 2, 2)
    mapped = torch.func.vmap(renderer)(weights)
    assert torch.allclose(mapped[1], renderer(weights[1]), atol=1e-6)


def test_an_atlas_follows_the_type_and_device_of_the_weights() -> None:
    renderer = FontRenderer(6)
    assert renderer(torch.rand(1, 95, 2, 2).bfloat16()).dtype == torch.bfloat16
    assert renderer(torch.empty(1, 95, 2, 2, device="meta")).device.type == "meta"


def test_a_renderer_is_no_part_of_what_is_stored_and_has_nothing_to_train() -> None:
    renderer = FontRenderer(6)
    assert not renderer.state_dict() and not list(renderer.parameters())


def test_paper_is_white_and_ink_is_black() -> None:
    large = FontRenderer(24).atlas
    assert float(large[0].min()) == 1
    assert float(large[ALPHABET.index("H")].max()) == 1
    assert float(large[ALPHABET.index("H")].min()) == 0


def test_a_renderer_made_in_inference_mode_can_be_learned_through() -> None:
    with torch.inference_mode():
        renderer = FontRenderer(6)
    weights = torch.rand(1, 95, 1, 1, requires_grad=True)
    renderer(weights).sum().backward()
    assert weights.grad is not None


def test_the_documents_cell_has_its_ink_where_the_author_found_it() -> None:
    uncropped = FontRenderer(64, 0).atlas.amin(0) < 1
    rows, columns = uncropped.any(1).nonzero().flatten(), uncropped.any(0).nonzero().flatten()
    assert (int(rows[0]), int(rows[-1])) == (14, 55)
    assert (int(columns[0]), int(columns[-1])) == (19, 43)


def test_the_documents_zoom_crops_from_above_and_from_the_left() -> None:
    whole, cropped = FontRenderer(64, 0).atlas, FontRenderer(43, 21).atlas
    assert FontRenderer(7, 21).cell == (7, 7)
    assert torch.equal(cropped, whole[:, 21:, 21:])


def test_a_shared_renderer_is_made_once() -> None:
    assert font_renderer(9) is font_renderer(9, None, "DejaVuSansMono")
    assert font_renderer(9) is not font_renderer(9, 21)


def test_the_default_font_is_found_without_importing_matplotlib() -> None:
    code = (
        "import sys; from aelab.ascii.glyphs import FontRenderer; FontRenderer(9); "
        "assert 'matplotlib' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_any_monospaced_font_will_do() -> None:
    bold = FontRenderer(9, font="DejaVuSansMono-Bold")
    by_path = FontRenderer(9, font=find_font("DejaVuSansMono-Bold"))
    assert torch.equal(bold.atlas, by_path.atlas)
    assert float(bold.atlas.mean()) < float(FontRenderer(9).atlas.mean())


def test_a_missing_font_is_told_with_the_fonts_at_hand() -> None:
    with pytest.raises(DataError) as raised:
        FontRenderer(9, font="DejaVuSansMono-Bald")
    assert "DejaVuSansMono-Bald" in str(raised.value)
    assert "did you mean 'DejaVuSansMono-Bold'" in str(raised.value)
    assert "leave `font` out" in str(raised.value)


def test_a_file_that_is_no_font_is_told(tmp_path: Path) -> None:
    (tmp_path / "letters.ttf").write_bytes(b"no font at all")
    with pytest.raises(DataError, match=r"letters\.ttf is not a readable font"):
        FontRenderer(9, font=tmp_path / "letters.ttf")


def test_a_proportional_font_is_told_with_the_characters_that_differ() -> None:
    proportional = find_font().with_name("DejaVuSans.ttf")
    with pytest.raises(DataError) as raised:
        FontRenderer(9, font=proportional)
    assert "DejaVuSans.ttf is not monospaced" in str(raised.value)
    assert "' ' '!' '\"'" in str(raised.value) and "more" in str(raised.value)
    assert "monospaced .ttf" in str(raised.value)


def test_a_font_outside_what_an_experiment_may_read_is_refused(tmp_path: Path) -> None:
    font = tmp_path / "mine.ttf"
    font.write_bytes(find_font().read_bytes())
    (tmp_path / "experiment").mkdir()
    with (
        roots.using([tmp_path / "experiment"]),
        pytest.raises(DataError, match="outside the folders that this experiment may read"),
    ):
        FontRenderer(9, font=font)
    assert FontRenderer(9, font=font).cell == (12, 5)


@pytest.mark.parametrize(
    ("font_res", "font_zoom", "message"),
    [
        (2, None, "font_res: 2 is too small"),
        (0, 21, "font_res: 0 is too small"),
        (9, 64, "font_zoom: 64 is not possible: 0 to 63"),
        (9, -1, "font_zoom: -1 is not possible"),
        (9, 63, "font_zoom: 63 crops all ink away"),
    ],
)
def test_impossible_sizes_are_told(font_res: int, font_zoom: int | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FontRenderer(font_res, font_zoom)


def test_wrong_shapes_are_told() -> None:
    renderer = FontRenderer(6)
    with pytest.raises(ShapeError, match=r"\(B, 95, H, W\), and not \(1, 94, 2, 2\)"):
        renderer(torch.rand(1, 94, 2, 2))
    with pytest.raises(ShapeError, match=r"\(B, H, W\), and not \(2, 2\)"):
        renderer.draw(torch.zeros(2, 2, dtype=torch.int64))
