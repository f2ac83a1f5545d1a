"""Pages of teletext as one-hot images."""

from __future__ import annotations

import gzip
import json
import unicodedata
from pathlib import Path

import pytest
import torch

from aelab.catalogue import attributes, names
from aelab.config import Block, Scope, evaluate_block
from aelab.data import DATASETS
from aelab.errors import DataError
from aelab.founding.teletext import CHARACTERS, PAGES, page_of

TEXTS = ["NEWS 100\n\U0001fb00ü", "\n".join("x" * 50 for _ in range(30)), "\u4e2d{"]


def _write(path: Path, pages: list[str], *, packed: bool = True) -> None:
    lines = "".join(json.dumps({"text": page, "channel": 1}) + "\n" for page in pages).encode()
    path.write_bytes(gzip.compress(lines) if packed else lines)


def test_the_characters_are_256_in_the_order_of_their_code_points() -> None:
    assert len(CHARACTERS) == len(set(CHARACTERS)) == 256
    assert list(CHARACTERS) == sorted(CHARACTERS) and CHARACTERS[0] == " "
    assert not set("{|}") & set(CHARACTERS) and {"~", "€", "\U0001fb34"} < set(CHARACTERS)


@pytest.mark.parametrize("packed", [True, False])
def test_a_page_has_one_channel_for_each_character(data_folder: Path, packed: bool) -> None:
    _write(data_folder / "teletext.ndjson.gz", TEXTS, packed=packed)
    data = DATASETS["TeletextMatrixIterableDataset"](meta=False)
    assert data.shape == (256, 20, 40)
    pixels = data.load().pixels
    assert pixels.dtype == torch.uint8 and pixels.shape == (3, 256, 20, 40)
    shown = [
        "".join(CHARACTERS[pixels[0, :, y, x].argmax()] for x in range(n))
        for y, n in [(0, 8), (1, 2)]
    ]
    assert shown == ["NEWS 100", "\U0001fb00ü"]
    assert int(pixels[0].sum()) == 255 * 10, "nothing after the end of a line"
    assert int(pixels[1, CHARACTERS.index("x")].sum()) == 255 * 20 * 40, "cut to the page"
    assert int(pixels[2, 0, 0, :2].sum()) == 255 * 2, "unknown characters are spaces"


def test_pages_are_drawn_as_squares_and_written_as_text() -> None:
    text = " \U0001fb00\U0001fb02\U0001fb34█▌▐A"
    pages = page_of(text)[None].float() / 255
    drawn = PAGES.picture(pages)
    assert drawn.shape == (1, 1, 6 * 20, 4 * 40) and PAGES.cell == (6, 4)
    squares = drawn[0, 0, ::2, ::2][:3, :16]  # 3 rows of 8 characters with 2 squares each
    assert torch.equal(
        squares.repeat_interleave(2, 0).repeat_interleave(2, 1), drawn[0, 0, :6, :32]
    )
    ink = [
        [int(squares[row, 2 * n + column]) for row in range(3) for column in (0, 1)]
        for n in range(8)
    ]
    assert ink[0] == [0] * 6
    assert ink[1] == [255, 0, 0, 0, 0, 0], "U+1FB00 is block sextant-1"
    assert ink[2] == [255, 255, 0, 0, 0, 0], "U+1FB02 is block sextant-12"
    assert unicodedata.name("\U0001fb34") == "BLOCK SEXTANT-12356"
    assert ink[3] == [255, 255, 255, 0, 255, 255]
    assert ink[4] == [255] * 6 and ink[5] == [255, 0] * 3 and ink[6] == [0, 255] * 3
    assert ink[7] == [96] * 6
    assert PAGES.texts(pages)[0].split("\n")[0] == text.ljust(40)
    assert (
        PAGES.beside(pages, pages)[0].split("\n")[0] == f"{text.ljust(40)}   |   {text.ljust(40)}"
    )
    assert torch.equal(PAGES.drawn(page_of(text)[None]), drawn)


def test_every_block_is_drawn_as_its_name_says() -> None:
    for code in range(0x1FB00, 0x1FB35):
        wanted = unicodedata.name(chr(code)).removeprefix("BLOCK SEXTANT-")
        field = PAGES.picture(page_of(chr(code))[None].float())[0, 0, :6:2, :4:2].flatten()
        assert "".join(str(n + 1) for n in range(6) if field[n]) == wanted


def test_no_more_pages_are_read_than_wanted(data_folder: Path) -> None:
    _write(data_folder / "t.json", TEXTS)
    part = DATASETS["TeletextMatrixIterableDataset"]
    assert len(part("t.json", total=2).load()) == 2
    assert len(part("/home/somebody/t.json", total=9).load()) == 3, "found by its name"


@pytest.mark.parametrize("line", ["[1]", '{"page": 1}', "no json", ""])
def test_a_damaged_file_is_told(data_folder: Path, line: str) -> None:
    (data_folder / "teletext.ndjson.gz").write_text(f'{{"text": "a"}}\n{line}\n{{"text": "b"}}\n')
    with pytest.raises(DataError, match="a line is no page"):
        DATASETS["TeletextMatrixIterableDataset"]().load()


def test_a_missing_file_is_told_with_the_place_for_it(data_folder: Path) -> None:
    data = DATASETS["TeletextMatrixIterableDataset"]()
    with pytest.raises(DataError, match=r"(?s)teletext\.ndjson\.gz.*AELAB_DATA") as caught:
        data.verify()
    assert "--data" not in str(caught.value)
    with pytest.raises(DataError, match="not supported"):
        DATASETS["TeletextMatrixIterableDataset"](meta=True)


def test_the_number_of_channels_is_known_in_a_block_without_a_file() -> None:
    text = "(TeletextMatrixIterableDataset.DIM, 20, 40)"
    assert evaluate_block(Block(text), Scope(names(), attributes(), {})) == (256, 20, 40)


def test_a_page_is_made_of_a_text() -> None:
    page = page_of("a\r\n b")
    places = {(CHARACTERS.index(c), y, x) for c, y, x in [("a", 0, 0), (" ", 1, 0), ("b", 1, 1)]}
    assert {tuple(place) for place in page.nonzero().tolist()} == places
