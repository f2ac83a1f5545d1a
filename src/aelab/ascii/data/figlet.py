"""Words in hundreds of FIGlet fonts: any number of ASCII pictures without a download."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aelab.ascii.data.ascii_art import grid_size
from aelab.ascii.data.figlet_fonts import (
    LETTERS,
    FigletFont,
    Numbers,
    extent,
    load_fonts,
    set_words,
    word_numbers,
)
from aelab.ascii.data.figlet_words import default_words
from aelab.ascii.medium import Characters
from aelab.data.base import Source, content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.errors import ConfigError, DataError, MissingExtra, did_you_mean, one_of
from aelab.medium import Medium
from aelab.ops.random import keyed_generator
from aelab.preparation import track
from aelab.types import Images, Provenance

FigletPart = Literal["train", "held-out words", "held-out fonts", "held-out both", "all"]
#: part -> (whether words are held out, whether fonts are); None means both kinds.
PARTS: dict[str, tuple[bool | None, bool | None]] = {
    "train": (False, False),
    "held-out words": (True, False),
    "held-out fonts": (False, True),
    "held-out both": (True, True),
    "all": (None, None),
}


@dataclass(frozen=True)
class FigletRecipe:
    """The words and fonts of a set.

    Attributes:
        words: a number of words of our own list, or the words themselves.
        fonts: None for all that fit, a number of them, or their names.
        shape: (H, W) in characters.
        part: a key of `PARTS`.
        held_out_words: share of the words, 0..1.
        held_out_fonts: share of the fonts, 0..1.
        fitted: letters touch; otherwise each letter keeps its full width.
    """

    words: int | tuple[str, ...]
    fonts: int | tuple[str, ...] | None
    shape: tuple[int, int]
    part: str
    held_out_words: float
    held_out_fonts: float
    fitted: bool


class Figlet(Source):
    """Words in FIGlet fonts, see `figlet_ascii_dataset`."""

    name = "figlet"

    def __init__(self, recipe: FigletRecipe, samples: int, seed: int) -> None:
        super().__init__()
        self.recipe, self.samples, self.seed = recipe, samples, seed

    @property
    def medium(self) -> Medium:
        """The 95 printable characters of ASCII."""
        return Characters()

    def item_shape(self) -> tuple[int, ...]:
        """(1, H, W), H lines of W characters."""
        return 1, *self.recipe.shape

    def verify(self) -> None:
        """Raise MissingExtra without pyfiglet."""
        if importlib.util.find_spec("pyfiglet") is None:
            raise MissingExtra("figlet_ascii_dataset", "pyfiglet", "ascii")

    def few(self, count: int) -> Source | None:
        """The same with fewer words."""
        return Figlet(self.recipe, min(self.samples, count), self.seed)

    def fingerprint(self) -> str:
        """pyfiglet's version and the recipe."""
        try:
            fonts = version("pyfiglet")
        except PackageNotFoundError:
            fonts = "missing"
        return f"figlet 3 {fonts} {self.recipe} {self.samples} {self.seed}"

    def read(self) -> Images:
        fonts = chosen_fonts(load_fonts(), self.recipe)
        words_held, fonts_held = PARTS[self.recipe.part]
        kept = [font for font, held in fonts.items() if fonts_held in (None, held)]
        words = self._words(words_held)
        numbers = word_numbers(words)
        fitting = [_fitting(font, numbers, self.recipe) for font in kept]
        if words_held:
            known = word_numbers(self._words(False))
            fitting = [_unlike(*both, known) for both in zip(kept, fitting, strict=True)]
        if fonts_held:
            others = [set(font.ink()) for font, held in fonts.items() if not held]
            fitting = [_unfamiliar(*both, others) for both in zip(kept, fitting, strict=True)]
        counts = _shares([len(rows) for rows in fitting], self.samples)
        if sum(counts) == 0:
            raise DataError(
                f"figlet_ascii_dataset: no word of part {self.recipe.part!r} fits a grid of "
                f"{self.recipe.shape[0]} lines of {self.recipe.shape[1]} characters: "
                f"{len(words)} words, {len(kept)} fonts",
                hint="give a larger shape, shorter words, or other shares held out",
            )
        grids, owners = self._drawn(kept, fitting, counts)
        return self._images(grids, owners, [font.name for font in fonts], kept)

    def _words(self, side: bool | None) -> list[str]:
        """The words that are held out or not (None for both), in all letter cases used."""
        given = self.recipe.words
        words = default_words(given) if isinstance(given, int) else list(given)
        held = _held_out([w.casefold() for w in words], self.recipe.held_out_words)
        words = [w for w in words if side in (None, w.casefold() in held)]
        if isinstance(given, int):
            words = [form for w in words for form in (w, w.capitalize(), w.upper())]
        return list(dict.fromkeys(words))

    def _drawn(
        self, fonts: Sequence[FigletFont], fitting: Sequence[Numbers], counts: Sequence[int]
    ) -> tuple[Tensor, list[str]]:
        """(N, 1, H, W) pictures in random order, and the font of each."""
        parts, owners = [], []
        work = track(range(len(fonts)), "setting words in FIGlet fonts", len(fonts))
        for number in work:
            font, rows = fonts[number], fitting[number]
            generator = keyed_generator(self.seed, f"figlet {font.name}")
            order = torch.randperm(len(rows), generator=generator)[: counts[number]].numpy()
            drawn, inside = set_words(font, rows[order], self.recipe.shape, self.recipe.fitted)
            parts.append(torch.from_numpy(drawn[inside]))
            owners += [font.name] * int(inside.sum())
        grids = torch.cat(parts)[:, None]
        generator = keyed_generator(self.seed, "figlet order")
        shuffled = torch.randperm(len(grids), generator=generator)[: self.samples]
        return grids[shuffled].contiguous(), [owners[row] for row in shuffled.tolist()]

    def _images(
        self, pixels: Tensor, owners: Sequence[str], names: list[str], kept: Sequence[FigletFont]
    ) -> Images:
        number = {name: i for i, name in enumerate(names)}
        sha256 = content_sha256(pixels)
        note = f"{self.recipe.part}, {len(kept)} of {len(names)} fonts"
        source = Provenance(self.name, "generated", len(pixels), sha256, note)
        return make_images(
            pixels,
            labels=torch.tensor([number[owner] for owner in owners]),
            provenance=[source],
            facts={"label_names": names},
            sha256=sha256,
            medium=Characters(),
        )


def chosen_fonts(fonts: Mapping[str, FigletFont], recipe: FigletRecipe) -> dict[FigletFont, bool]:
    """The fonts of a recipe in the order of their names, and whether each is held out.

    Raises:
        ConfigError: a name is unknown or not usable, or no font is low enough for the grid.
    """
    height, width = recipe.shape
    fits = {
        name: font
        for name, font in fonts.items()
        if font.height <= height and 2 * float(np.median(font.widths)) <= width
    }
    if isinstance(recipe.fonts, tuple):
        for name in recipe.fonts:
            if name not in fits:
                raise ConfigError(
                    f"figlet_ascii_dataset: no usable font is called {name!r}"
                    f"{did_you_mean(name, fits)}",
                    hint=f"{len(fits)} fonts fit {height}x{width}, for instance "
                    f"{one_of(list(fits)[:8])}",
                )
        fits = {name: fits[name] for name in sorted(set(recipe.fonts))}
    elif recipe.fonts is not None:
        fits = {name: fits[name] for name in sorted(sorted(fits, key=_rank)[: recipe.fonts])}
    if not fits:
        raise ConfigError(
            f"figlet_ascii_dataset: no font fits a grid of {height} lines of {width} characters",
            hint="for instance shape=(24, 24)",
        )
    held = _held_out(list(fits), recipe.held_out_fonts)
    return {font: name in held for name, font in fits.items()}


def _rank(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def _held_out(names: Sequence[str], share: float) -> set[str]:
    """A share of the names, chosen by their hashes, at least one; empty for 0."""
    different = sorted(set(names), key=_rank)
    return set(different[: max(1, round(len(different) * share))]) if share else set()


def _fitting(font: FigletFont, numbers: Numbers, recipe: FigletRecipe) -> Numbers:
    """The words (n, L) of (N, L) that fit the grid in a font, without words drawn alike."""
    if not len(numbers):
        return numbers
    alike = np.where(numbers >= 0, font.first_alike()[numbers], -1)
    _, first = np.unique(alike, axis=0, return_index=True)
    rows = numbers[np.sort(first)]
    return rows[extent(font, rows, recipe.fitted) <= recipe.shape[1]]


def _unlike(font: FigletFont, rows: Numbers, known: Numbers) -> Numbers:
    """Removes words (n, L) that the font draws like a known word, such as `Il` and `ll`."""
    ink = font.ink()
    first = np.array([ink.index(letter) for letter in ink], np.int8)
    longest = max(rows.shape[1], known.shape[1])
    seen = set(_keys(first, known, longest))
    kept = np.array([key not in seen for key in _keys(first, rows, longest)], bool)
    chosen: Numbers = rows[kept]
    return chosen


def _keys(first: npt.NDArray[np.int8], words: Numbers, longest: int) -> list[bytes]:
    """One key for each word (n, L), with each letter replaced by the first that looks like it."""
    padded = np.full((len(words), longest), -1, np.int8)
    padded[:, : words.shape[1]] = np.where(words >= 0, first[words], -1)
    content = padded.tobytes()
    return [content[start : start + longest] for start in range(0, len(content), longest)]


def _unfamiliar(font: FigletFont, rows: Numbers, others: Sequence[set[bytes]]) -> Numbers:
    """Removes words (n, L) whose letters all look the same in another font, given by its ink."""
    seen = np.zeros(len(rows), bool)
    ink = font.ink()
    for other in others:
        same = np.array([letter in other for letter in ink])
        if same.any():
            seen |= (same[rows] | (rows < 0)).all(1)
    chosen: Numbers = rows[~seen]
    return chosen


def _shares(available: Sequence[int], wanted: int) -> list[int]:
    """The number of words for each font: as equal as possible, in total at least `wanted`."""
    low, high = 0, max(available, default=0)
    while low < high:
        middle = (low + high) // 2
        if sum(min(count, middle) for count in available) >= wanted:
            high = middle
        else:
            low = middle + 1
    return [min(count, high) for count in available]


@listed("figlet", {"samples": 2_000}, {"samples": 2_000, "part": "held-out words"})
def figlet_ascii_dataset(
    shape: int | tuple[int, int] = (24, 24),
    part: FigletPart = "train",
    samples: int = 20_000,
    *,
    words: int | Sequence[str] = 2_000,
    fonts: int | Sequence[str] | None = None,
    held_out_words: float = 0.1,
    held_out_fonts: float = 0.1,
    layout: Literal["fitted", "full"] = "fitted",
    seed: int = 0,
) -> Dataset:
    """Words in FIGlet fonts, centred; labels are the fonts. Needs the extra `ascii`.

    The held-out words and fonts are chosen by their names and are the same for every seed. A word
    is held out in all letter cases. Each font gives the same number of pictures, if words fit.

    Args:
        shape: (H, W) in characters, or one number.
        part: `train` (known words in known fonts), `held-out words` (never seen, in known fonts),
            `held-out fonts` (known words in fonts never seen), `held-out both`, or `all`.
        samples: greatest number of pictures; each is another word or another font.
        words: a number of words of our own list, each in lower case, capitalised and in capitals;
            or the words themselves, of letters and digits, used as written.
        fonts: None for all that fit, a number of them, or their names.
        held_out_words: share of the words that training does not see.
        held_out_fonts: share of the fonts that training does not see.
        layout: `fitted`, letters touch (FIGlet's kerning), or `full`, each keeps its width.
        seed: chooses the pictures among the possible ones.

    Raises:
        ConfigError: an argument out of its range.
    """
    where = "figlet_ascii_dataset"
    if part not in PARTS:
        hint = f"possible: {one_of(PARTS)}"
        raise ConfigError(f"{where}: unknown part {part!r}{did_you_mean(part, PARTS)}", hint=hint)
    if layout not in ("fitted", "full"):
        raise ConfigError(f"{where}: layout is 'fitted' or 'full', got {layout!r}")
    for share, name in ((held_out_words, "held_out_words"), (held_out_fonts, "held_out_fonts")):
        if not 0 <= share < 1:
            raise ConfigError(f"{where}: {name} is a share from 0 to below 1, got {share!r}")
    recipe = FigletRecipe(
        _checked(words, "words") if words is not None else 2_000,
        None if fonts is None else _checked(fonts, "fonts"),
        grid_size(shape, where),
        part,
        float(held_out_words),
        float(held_out_fonts),
        layout == "fitted",
    )
    return Dataset(Figlet(recipe, _at_least_one(samples, "samples"), int(seed)))


def _checked(given: int | Sequence[str], name: str) -> int | tuple[str, ...]:
    """Checks a number or texts; words may only have letters and digits.

    Raises:
        ConfigError: otherwise.
    """
    if isinstance(given, int):
        return _at_least_one(given, name)
    texts = tuple(given)
    if isinstance(given, str) or not texts or not all(isinstance(t, str) and t for t in texts):
        raise ConfigError(
            f"figlet_ascii_dataset: {name} is a number or a list of texts, got {given!r}"
        )
    strange = sorted(set("".join(texts)) - set(LETTERS)) if name == "words" else []
    if strange:
        raise ConfigError(
            f"figlet_ascii_dataset: words are letters and digits, got {strange[0]!r}",
            hint="leave spaces, accents and signs out",
        )
    return texts


def _at_least_one(value: int, name: str) -> int:
    if isinstance(value, bool) or int(value) != value or value < 1:
        raise ConfigError(
            f"figlet_ascii_dataset: {name} is a whole number from 1 up, got {value!r}"
        )
    return int(value)
