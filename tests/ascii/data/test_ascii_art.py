"""Texts become centred grids; what does not fit is left out and told; copies never straddle."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aelab.ascii.data.ascii_art import ascii_art_dataset
from aelab.ascii.data.ascii_text import content_key, split_collection, squared, trimmed
from aelab.ascii.glyphs import ALPHABET, to_lines
from aelab.ascii.medium import Characters, character_counts
from aelab.errors import ConfigError, DataError

CAT = " /\\_/\\ \n( o.o )\n > ^ < "
OWL = ',___,\n(o,o)\n/)_)\n-"-"-'


def _write(folder: Path, **texts: str) -> Path:
    for name, text in texts.items():
        file = folder / (name.replace("__", "/") + ".txt")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("latin-1"))
    return folder


def _many(folder: Path, count: int) -> Path:
    for number in range(count):
        picture = f"+-----+\n|{number:05d}|\n+-----+"
        _write(folder, **{f"c{number // 10:02d}__p{number:03d}": picture})
    return folder


@pytest.mark.parametrize("width", [7, 8, 9, 10, 11])
@pytest.mark.parametrize("shape", [(5, 12), (6, 13), (8, 11)])
def test_centring_is_that_of_python_strings(width: int, shape: tuple[int, int]) -> None:
    lines = ["x" * width, "ab", "  c"]
    square = [line.ljust(width).center(shape[1]) for line in lines]
    blank = [" " * shape[1]]
    missing = shape[0] - len(lines)
    wanted = blank * (missing // 2) + square + blank * (missing - missing // 2)
    assert to_lines(squared(lines, shape)) == wanted


def test_a_folder_is_read_with_its_folders_as_labels(tmp_path: Path) -> None:
    folder = _write(tmp_path / "art", animals__cat=CAT, birds__owls__owl=OWL, notes=CAT.upper())
    _write(folder, **{".hidden__cat": CAT + "x"})
    images = ascii_art_dataset(str(folder), res=(6, 9)).load()
    assert images.medium == Characters() and images.pixels.dtype == torch.uint8
    assert images.shape == (1, 6, 9) and len(images) == 3
    assert images.labels is not None
    names = [images.facts["label_names"][label] for label in images.labels]
    assert names == ["animals", "birds/owls", "art"]
    assert to_lines(images.pixels[0, 0])[1] == "  /\\_/\\  "


def test_what_does_not_fit_is_left_out_and_counted(tmp_path: Path) -> None:
    wide = "short\n" + "w" * 21 + "\nshort line here"
    folder = _write(
        tmp_path / "art",
        good=CAT,
        copy="\n  " + CAT.replace("\n", "\n  ") + "   \n\n",
        wide=wide,
        high="line\n" * 30,
        accent="caf\xe9\nlait au\nlait encore",
        colour="\x1b[31mred\nred red red\nredder",
        small="a\nb\nc",
        flat="only one line of it",
    )
    images = ascii_art_dataset(str(folder), res=20).load()
    assert len(images) == 1
    assert images.facts["left_out"] == {
        "copies of others": 1,
        "wider than 20": 1,
        "more than 20 lines": 1,
        "not printable ASCII": 2,
        "fewer than 12 characters": 1,
        "fewer than 3 lines": 1,
    }
    assert "1 wider than 20" in images.provenance[0].note
    assert images.provenance[0].count == 1


def test_tabs_are_expanded_or_refused(tmp_path: Path) -> None:
    text = "\t/\\_/\\\n\t( o.o )\n12345\t> ^ < end"
    folder = _write(tmp_path / "art", tab=text)
    grid = ascii_art_dataset(str(folder), res=(3, 17)).load().pixels[0, 0]
    assert to_lines(grid)[2].strip() == "12345   > ^ < end"
    with pytest.raises(DataError, match="1 not printable ASCII"):
        ascii_art_dataset(str(folder), res=20, tabs="refuse").load()


def test_a_collection_is_cut_at_percent_signs(tmp_path: Path) -> None:
    collection = f"{CAT}\n%\n{OWL}\n%\n\n%\n100%\nper cent\nof all the text\n"
    (tmp_path / "fortunes").write_text(collection, encoding="ascii")
    images = ascii_art_dataset(str(tmp_path / "fortunes"), res=16).load()
    assert len(images) == 3 and images.labels is None
    assert split_collection("no sign 50% here\nat all") == ["no sign 50% here\nat all"]


def test_content_splits_without_copies_on_both_sides(tmp_path: Path) -> None:
    folder = _many(tmp_path / "art", 120)
    sides = [
        ascii_art_dataset(str(folder), res=9, validation_prop=0.25, validation=held).load()
        for held in (False, True)
    ]
    whole = ascii_art_dataset(str(folder), res=9).load()
    texts = [{tuple(to_lines(grid)) for grid in images.pixels[:, 0]} for images in sides]
    assert not texts[0] & texts[1] and sum(map(len, sides)) == len(whole) == 120
    assert 15 <= len(sides[1]) <= 45
    labels = sides[1].labels
    assert labels is not None and len(labels.unique()) > 6  # not whole categories


def test_moved_and_mirrored_texts_have_one_key() -> None:
    moved = ["", "   ( o.o )/  ", "   >", ""]
    assert trimmed(moved) == ("( o.o )/", ">")
    mirror = ["\\( o.o )", "       <"]
    assert content_key(moved) == content_key(trimmed(moved)) == content_key(mirror)
    assert content_key(moved) != content_key(["( o.O )/", ">"])


def test_legacy_takes_the_tail_of_the_alphabet_and_one_sample_more(tmp_path: Path) -> None:
    folder = _many(tmp_path / "art", 40)
    _write(folder, c00__p000b="+-----+\n|00000|\n+-----+")  # a copy, kept
    whole = ascii_art_dataset(str(folder), res=9, legacy=True).load()
    assert len(whole) == 41
    assert len(ascii_art_dataset(str(folder), res=9, max_samples=10, legacy=True).load()) == 11
    assert len(ascii_art_dataset(str(folder), res=9, max_samples=10).load()) == 10
    train, tail = (
        ascii_art_dataset(str(folder), 9, None, 0.25, held, legacy=True).load()
        for held in (False, True)
    )
    assert (len(train), len(tail)) == (31, 10)
    assert torch.equal(torch.cat([train.pixels, tail.pixels]), whole.pixels)
    untrimmed = _write(tmp_path / "other", a="   ab\n   cd\n")
    grid = ascii_art_dataset(str(untrimmed), (2, 5), legacy=True).load().pixels[0, 0]
    assert to_lines(grid) == ["   ab", "   cd"]


def test_characters_are_counted(tmp_path: Path) -> None:
    folder = _write(tmp_path / "art", owl=OWL, cat=CAT)
    dataset = ascii_art_dataset(str(folder), res=(4, 7))
    counts = character_counts(dataset)
    text = "".join(line for grid in dataset.load().pixels[:, 0] for line in to_lines(grid))
    assert counts.tolist() == [text.count(character) for character in ALPHABET]


def test_files_may_not_lead_out_of_what_may_be_read(tmp_path: Path, data_folder: Path) -> None:
    from aelab import roots

    secret = _write(tmp_path / "elsewhere", cat=CAT)
    inside = _write(data_folder / "art", owl=OWL)
    (inside / "link.txt").symlink_to(secret / "cat.txt")
    with roots.using([data_folder]):
        with pytest.raises(DataError, match="is outside"):
            ascii_art_dataset(str(secret))
        linked = ascii_art_dataset("art", res=16)
    images = linked.load()
    assert len(images) == 1 and "link.txt" in images.provenance[0].note


def test_mistakes_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="add validation_prop"):
        ascii_art_dataset(str(tmp_path), validation=True)
    with pytest.raises(ConfigError, match="between 0 and 1"):
        ascii_art_dataset(str(tmp_path), validation_prop=5)
    with pytest.raises(ConfigError, match="a grid is"):
        ascii_art_dataset(str(tmp_path), res=0)
    with pytest.raises(ConfigError, match="'content' or 'alphabet'"):
        ascii_art_dataset(str(tmp_path), split="size")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="holds no text"):
        ascii_art_dataset(str(tmp_path)).verify()
    with pytest.raises(DataError, match="no folder or file"):
        ascii_art_dataset(str(tmp_path / "none")).verify()


def test_a_folder_of_texts_has_its_numbers_whatever_side_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "art"
    _write(folder, **{f"zoo__p{n}": CAT.replace("o", chr(97 + n)) for n in range(12)})
    _write(folder, air__p0=CAT.replace("o", "Q"))
    for side in (False, True):
        images = ascii_art_dataset(
            str(folder), res=(6, 9), validation_prop=0.3, validation=side
        ).load()
        assert images.label_names == ("air", "zoo")
        assert images.labels is not None and 1 in images.labels.tolist()
