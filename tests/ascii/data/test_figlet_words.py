"""Words in FIGlet fonts: drawn as pyfiglet draws them, and held out so that nothing leaks."""

from __future__ import annotations

import builtins
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyfiglet
import pytest
import torch

from aelab.ascii.data.ascii_text import squared, trimmed
from aelab.ascii.data.figlet import figlet_ascii_dataset
from aelab.ascii.data.figlet_fonts import LETTERS, load_fonts, set_words, word_numbers
from aelab.ascii.data.figlet_words import COMMON, default_words
from aelab.ascii.glyphs import to_lines
from aelab.data import MEMORY
from aelab.errors import ConfigError, DataError, MissingExtra
from aelab.types import Images

FONTS = ["small", "standard", "banner", "thin", "doom", "big", "chunky", "ogre", "soft", "puffy"]


@pytest.fixture(autouse=True)
def shared_fonts(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fonts are read once for all tests of this file."""
    cache = tmp_path_factory.getbasetemp() / "figlet-cache"
    monkeypatch.setenv("AELAB_CACHE", str(cache))


def _texts(images: Images) -> set[tuple[str, ...]]:
    return {tuple(to_lines(grid)) for grid in images.pixels[:, 0]}


def _pyfiglet(word: str, font: str, layout: int) -> Sequence[str]:
    """pyfiglet's own setting; its layout -1 is full width, 0 is kerning."""
    figlet = pyfiglet.Figlet(font=font, width=200)
    figlet.Font.smushMode = layout if layout <= 0 else figlet.Font.smushMode
    if layout == 0:
        figlet.Font.smushMode = 64  # SM_KERN
    if layout < 0:
        figlet.Font.smushMode = 0
    return trimmed(str(figlet.renderText(word)).split("\n"))


@pytest.mark.parametrize("font", ["standard", "small", "banner", "big", "doom"])
@pytest.mark.parametrize("fitted", [False, True])
def test_words_are_set_as_pyfiglet_sets_them(font: str, fitted: bool) -> None:
    words = ["ab", "Hi", "cow", "Kiwi", "42", "mLQ"]
    grids, inside = set_words(load_fonts()[font], word_numbers(words), (16, 60), fitted)
    assert inside.all()
    for word, grid in zip(words, grids, strict=True):
        wanted = squared(_pyfiglet(word, font, 0 if fitted else -1), (16, 60))
        assert to_lines(torch.from_numpy(grid)) == to_lines(wanted), word


def test_usable_fonts_are_printable_legible_and_different() -> None:
    fonts = load_fonts()
    assert len(fonts) > 200
    for font in fonts.values():
        inked = (font.glyphs > 0) & (font.glyphs < 255)
        assert inked.any((1, 2)).all() and font.height >= 3
        assert font.glyphs[inked].max() <= 94
        assert len(set(font.first_alike()[52:].tolist())) == 10


def test_words_and_fonts_held_out_are_never_seen() -> None:
    parts = {
        part: figlet_ascii_dataset(24, part, samples=3000, fonts=60).load()
        for part in ("train", "held-out words", "held-out fonts", "held-out both")
    }
    fonts = {part: set(images.labels.tolist()) for part, images in parts.items()}  # type: ignore[union-attr]
    assert fonts["train"] == fonts["held-out words"]
    assert len(fonts["train"]) == 54
    assert fonts["held-out fonts"] == fonts["held-out both"] and len(fonts["held-out fonts"]) == 6
    assert not fonts["train"] & fonts["held-out fonts"]
    seen = _texts(parts["train"])
    for part in ("held-out words", "held-out fonts", "held-out both"):
        assert not seen & _texts(parts[part]), part
    names = {tuple(images.facts["label_names"]) for images in parts.values()}
    assert len(names) == 1 and len(names.pop()) == 60


def test_a_held_out_word_is_held_out_in_every_case() -> None:
    words = [form for w in ("cat", "dog", "sun", "ice", "oak") for form in (w, w.upper())]
    held = figlet_ascii_dataset(
        (16, 40), "held-out words", words=words, fonts=FONTS, held_out_words=0.2
    ).load()
    known = figlet_ascii_dataset((16, 40), words=words, fonts=FONTS, held_out_words=0.2).load()
    fonts = len(FONTS) - 1
    assert (len(held), len(known)) == (2 * fonts, 8 * fonts)


def test_pictures_follow_the_seed_and_are_balanced_over_fonts() -> None:
    def make(seed: int) -> Images:
        """200 pictures of that seed."""
        MEMORY.clear()
        return figlet_ascii_dataset(24, samples=200, fonts=FONTS, seed=seed).load()

    first, again, other = make(0), make(0), make(1)
    assert len(first) == 200 and first.content_sha256 == again.content_sha256
    assert other.content_sha256 != first.content_sha256
    assert first.labels is not None
    counts = torch.bincount(first.labels)
    assert counts.max() - counts[counts > 0].min() <= 3


def test_words_that_look_like_known_ones_do_not_count_as_held_out() -> None:
    font = load_fonts()["standard"]
    ink = font.ink()
    assert ink[LETTERS.index("O")] == ink[LETTERS.index("0")]  # as standard has them
    alike = figlet_ascii_dataset(
        (8, 40), "held-out words", words=["O0", "00"], fonts=["standard"], held_out_fonts=0
    )
    with pytest.raises(DataError, match="no word of part 'held-out words'"):
        alike.load()


@pytest.mark.slow
def test_twenty_thousand_pictures_take_seconds() -> None:
    load_fonts()
    start = time.process_time()
    images = figlet_ascii_dataset().load()
    assert len(images) == 20_000 and images.pixels.numel() == 20_000 * 576
    assert time.process_time() - start < 30


def test_the_fonts_are_kept_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fonts = load_fonts()
    monkeypatch.setattr("aelab.ascii.data.figlet_fonts._read_font", None)
    again = load_fonts()
    assert list(again) == list(fonts)
    assert (again["standard"].glyphs == fonts["standard"].glyphs).all()


def test_the_words_are_ours_and_always_the_same() -> None:
    words = default_words(2000)
    assert words[:300] == default_words(300) and len(set(words)) == 2000
    assert set("".join(words)) <= set(LETTERS) and all(2 <= len(word) <= 6 for word in words)
    assert len(set(words) & set(COMMON)) > 500
    assert sum(word.isdigit() for word in words) > 50


def test_mistakes_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="did you mean 'held-out words'"):
        figlet_ascii_dataset(part="heldout words")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="letters and digits, got '!'"):
        figlet_ascii_dataset(words=["hey!"])
    with pytest.raises(ConfigError, match="a number or a list"):
        figlet_ascii_dataset(words="cat")
    with pytest.raises(ConfigError, match="held_out_fonts is a share"):
        figlet_ascii_dataset(held_out_fonts=1)
    with pytest.raises(ConfigError, match="did you mean 'standard'"):
        figlet_ascii_dataset(fonts=["standart"]).load()
    with pytest.raises(ConfigError, match="no font fits"):
        figlet_ascii_dataset((2, 2)).load()
    with pytest.raises(DataError, match="no word of part"):
        figlet_ascii_dataset(words=["m" * 30], part="all").load()

    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        """As if pyfiglet were not installed."""
        if name == "pyfiglet":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=r"aelab\[ascii\]"):
        load_fonts()
