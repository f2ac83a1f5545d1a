"""The medium of ASCII art: every value of an image is the number of a character."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from aelab.ascii.counts import CharacterCounts, warning_of
from aelab.ascii.glyphs.alphabet import ALPHABET, SPACE, character_numbers, to_lines
from aelab.ascii.glyphs.match import match_glyphs
from aelab.ascii.glyphs.renderer import font_renderer
from aelab.ascii.glyphs.text import side_by_side
from aelab.ascii.mirror import RandomMirror
from aelab.errors import ConfigError
from aelab.findings import Finding
from aelab.medium import Medium, NumberedElements
from aelab.types import Images

#: Size in pixels of the font for stored pictures of characters.
FONT_RES = 8
#: Cells of characters that are drawn at once: about 100 MB.
CELLS = 1 << 18


class HasImages(Protocol):
    """A data set that can be loaded."""

    def load(self) -> Images:
        """Its images."""


@dataclass(frozen=True)
class Characters(NumberedElements):
    """Images (B, 1, H, W) whose values are character numbers, divided by 255 in a batch.

    Args:
        alphabet: the characters; the first, number 0, is a space.
    """

    alphabet: str = ALPHABET

    name: ClassVar[str] = "characters"
    sets_hold: ClassVar[str] = "ASCII pictures"
    images_are: ClassVar[str] = "grids of characters"
    #: Colour between pictures, whose white backgrounds would otherwise merge.
    gap: ClassVar[str] = "#c8ccd2"
    sheet: ClassVar[tuple[int, int]] = (4, 4)
    misread: ClassVar[str] = "it would read the characters' numbers as brightness"
    a_model: ClassVar[str] = "use a character model, for instance small_ascii_ae((24, 24))"
    from_others: ClassVar[str] = "convert pictures with image_to_ascii_dataset(dataset)"
    a_loss: ClassVar[str] = "use character terms: character_ce, rendered_l2, rendered_ssim"
    why_not: ClassVar[str] = "would change the numbers of characters as if they were brightness"

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width in pixels of one character in stored pictures."""
        height, width = font_renderer(FONT_RES).cell
        return int(height), int(width)

    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """Draws (B, 1, H, W) numbers / 255 in a font: (B, 1, H h, W w) uint8."""
        return draw_cells(numbers_of(images))

    def drawn(self, stored: Tensor) -> Tensor:
        """(n, 1, H, W) uint8 numbers of characters -> (n, 1, H h, W w) uint8."""
        return draw_cells(stored[:, 0].clamp(max=len(ALPHABET) - 1))

    #: Grey.
    picture_channels = 1

    def stored_of(self, pictures: Tensor) -> Tensor:
        """(N, 1, H h, W w) uint8 pictures -> (N, 1, H, W) uint8, the best glyph of each cell."""
        renderer, (height, width) = font_renderer(FONT_RES), self.cell
        size = pictures.shape[2] // height, pictures.shape[3] // width
        return match_glyphs(pictures.float() / 255, size, renderer, strokes=True)[:, None]

    def texts(self, images: Tensor) -> list[str]:
        """Converts (B, 1, H, W) to B texts of H lines with W characters."""
        return ["\n".join(lines) for lines in lines_of(images)]

    def beside(self, originals: Tensor, made: Tensor) -> list[str]:
        """Texts `original   |   reconstruction` with H lines each, from (B, 1, H, W) each."""
        pairs = zip(lines_of(originals), lines_of(made), strict=True)
        return ["\n".join(side_by_side(left, right)) for left, right in pairs]

    def examples(self, stored: Tensor) -> list[str]:
        """Texts of (n, 1, H, W) uint8, without blank lines around and spaces at the right."""
        found = []
        for grid in stored[:, 0]:
            lines = [line.rstrip() for line in to_lines(grid)]
            inked = [number for number, line in enumerate(lines) if line]
            found.append("\n".join(lines[inked[0] : inked[-1] + 1] if inked else []))
        return found

    def record(self) -> dict[str, Any]:
        """The alphabet, and the size of a character in the run's pictures."""
        return {"alphabet": self.alphabet, "cell": list(self.cell)}

    def allows(self, change: Any) -> bool:
        """Allows only changes that move whole elements without mirroring (`any_medium = True`)."""
        return bool(getattr(change, "any_medium", False))

    def possible_changes(self, of_input: bool) -> str:
        """The changes that move whole characters."""
        if of_input:
            return (
                "leave it out and change the set itself, both input and target: .roll, .mirror, "
                ".random_shift"
            )
        return (
            "possible: .roll, .mirror, .random_shift, .random_crop_all, .center_crop, .limit, "
            ".skip, .sample, .shuffle, .repeat, .filter, .interleave; another size: give it to the "
            "set itself"
        )

    def random_mirror(self, owner: str, probability: float) -> RandomMirror:
        """A mirror that also replaces characters by their mirror images: `/` becomes `\\`."""
        return RandomMirror(probability)

    def other_kind(self, model: Medium) -> ConfigError:
        """The error for two different alphabets."""
        assert isinstance(model, Characters)
        return ConfigError(
            f"the images number {len(self.alphabet)} characters, {self.alphabet!r}, but the model "
            f"outputs {len(model.alphabet)} others, {model.alphabet!r}",
            hint="both must have the same alphabet, in the same order",
        )

    def numbers(self, images: Tensor) -> Tensor:
        """See `numbers_of`."""
        return numbers_of(images)

    def made(self, output: Any, images: Tensor) -> Any:
        """Certain of each character: logits 0 and -30, and one-hots for the relaxed ones."""
        numbers = numbers_of(images)
        chosen = functional.one_hot(numbers, len(self.alphabet)).movedim(-1, 1).float()
        known = {"logits": 30 * (chosen - 1), "relaxed": chosen}
        details = {name: known.get(name, value) for name, value in output.details.items()}
        return output._replace(reconstruction=images, details=details)

    def wrong(self, images: Tensor) -> Tensor:
        """The next character of the alphabet in each cell."""
        following = (numbers_of(images) + 1).remainder(len(self.alphabet))
        return following[:, None].float() / 255

    def counts(self, objective: object) -> CharacterCounts:
        """The counter of right characters and spaces."""
        return CharacterCounts(objective)

    def warning(
        self, facts: Mapping[str, float], looks: Mapping[str, float], *, early: bool
    ) -> Finding | None:
        """Warnings about blank texts and equal texts."""
        return warning_of(facts, looks, early=early)

    def statistics(self, pixels: Tensor, sample: Tensor) -> dict[str, Any]:
        """Numbers that show how hard a set of ASCII pictures is.

        Returns:
            `blank_share` of the cells, the `characters` that occur, `entropy_bits` of their
            distribution, and the floors: the accuracy of a model that always writes the same text
            (at each place the most frequent character), with and without places where the original
            is blank.
        """
        counts = count_characters(pixels).double()
        shares = counts[counts > 0] / counts.sum()
        constant = sample.flatten(1).mode(0).values
        right, inked = sample.flatten(1) == constant, sample.flatten(1) != SPACE
        return {
            "blank_share": float(counts[SPACE] / counts.sum()),
            "characters": int((counts > 0).sum()),
            "entropy_bits": float(-(shares * shares.log2()).sum()),
            "floor_accuracy": float(right.float().mean()),
            "floor_accuracy_without_spaces": (
                float(right[inked].float().mean()) if inked.any() else 0.0
            ),
        }


def numbers_of(images: Tensor) -> Tensor:
    """Model outputs (B, 1, H, W) -> character numbers (B, H, W) int64, on the CPU."""
    return character_numbers(images.cpu()).clamp(0, len(ALPHABET) - 1)


def lines_of(images: Tensor) -> list[list[str]]:
    """Converts (B, 1, H, W) to B lists of H lines with W characters."""
    return [to_lines(grid) for grid in numbers_of(images)]


def draw_cells(numbers: Tensor) -> Tensor:
    """(B, H, W) numbers of characters -> (B, 1, H h, W w) uint8, with `FontRenderer(FONT_RES)`."""
    renderer = font_renderer(FONT_RES)
    parts = torch.split(numbers, max(1, CELLS // numbers[0].numel()))
    return torch.cat([(renderer.draw(part) * 255).round().to(torch.uint8) for part in parts])


def character_counts(images: Images | HasImages) -> Tensor:
    """Counts each character in a set of ASCII pictures, including the spaces around them.

    Returns:
        (95,) int64, in the order of the alphabet: the space first.

    Raises:
        ConfigError: the set holds pictures.
    """
    loaded = images if isinstance(images, Images) else images.load()
    if not isinstance(loaded.medium, Characters):
        raise ConfigError(
            f"character_counts needs ASCII pictures, got {loaded.medium.sets_hold}",
            hint="for instance figlet_ascii_dataset(shape=(24, 24))",
        )
    return count_characters(loaded.pixels)


def count_characters(pixels: Tensor) -> Tensor:
    """(95,) int64: the count of each character in (N, 1, H, W) uint8."""
    counts = torch.zeros(len(ALPHABET), dtype=torch.int64)
    for part in torch.split(pixels, 4096):
        counts += torch.bincount(part.flatten(), minlength=len(ALPHABET))
    return counts
