"""Reproductions while a run trains: always the same sixteen images of each set, of all classes."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import torch
from einops import rearrange
from torch import Tensor, nn

from aelab.lab.build import Sets
from aelab.ops.augmented import chosen_images
from aelab.ops.color import over_checker
from aelab.ops.subset import show_order
from aelab.ops.value_range import UNIT, from_unit, to_unit
from aelab.report.pictures import PAPER_GAP, Line
from aelab.report.texts import trimmed
from aelab.runs.record import Run
from aelab.types import Images, Model, ValueRange

if TYPE_CHECKING:
    from PIL import Image

#: How many images of each set are shown.
COUNT = 16
#: Pictures are kept at images seen that grow by this factor: some thirty of a run, however long.
SPACING = 1.5
#: Size in pixels of the font that stored pictures of characters are drawn with.
FONT_RES = 8
#: Cells of characters that are drawn at once: some 100 MB.
CELLS = 1 << 18


class Reproductions:
    """Writes `images/<set>-originals.png` once, `images/<set>-<images>.png` ever more rarely.

    Of ASCII art also `text/<set>-originals.txt`, and `text/<set>-<images>.txt`: originals and
    reproductions side by side.

    Args:
        run: where to write.
        sets: the images by name, `train` and `heldout`; sixteen of each are shown, without
            augmentation, one of each class in turn: the same ones for all runs on a set, so that
            runs and times can be compared picture by picture. A run that was begun with others
            keeps them.

    Attributes:
        shown: which rows of each set.
        example: the first held-out (else training) text beside its latest reproduction; empty
            where images are pictures, or nothing was written yet.
    """

    def __init__(self, run: Run, sets: dict[str, Images]) -> None:
        self._run = run
        rows = {name: shown_rows(run, name, images) for name, images in sets.items()}
        self.shown = {name: chosen.tolist() for name, chosen in rows.items()}
        self._samples = {name: chosen_images(sets[name], rows[name]) for name in sets}
        self._alphabets = {name: images.alphabet for name, images in sets.items()}
        self._ranges = {name: images.value_range for name, images in sets.items()}
        self._next_images = 0
        self.example = ""

    def originals(self) -> None:
        """Writes the originals, and into the record which images they are."""
        self._run.update_record(shown=self.shown)
        for name, sample in self._samples.items():
            alphabet = self._alphabets[name]
            self._run.write_bytes(
                f"images/{name}-originals.png", png(row(self._unit(name), alphabet))
            )
            if alphabet:
                blocks = ["\n".join(lines) for lines in texts(sample)]
                self._run.write_bytes(f"text/{name}-originals.txt", _file_of(blocks))

    def _unit(self, name: str) -> Tensor:
        """(n, C, H, W) in 0..1, the shown images of a set."""
        return to_unit(self._samples[name], self._ranges[name])

    def due(self, images: int) -> bool:
        """Whether pictures are wanted at this many images seen."""
        return images >= self._next_images

    def write(self, model: nn.Module, images: int) -> None:
        """Writes what the model makes of each set now, in evaluation mode, without noise."""
        for name in self._samples:
            sample, alphabet = self._unit(name), self._alphabets[name]
            shown = reproduce(model, sample, self._ranges[name])
            self._run.write_bytes(f"images/{name}-{images:09d}.png", png(row(shown, alphabet)))
            if alphabet:
                blocks = beside(sample, shown)
                self._run.write_bytes(f"text/{name}-{images:09d}.txt", _file_of(blocks))
                if name == "heldout" or "heldout" not in self._samples:
                    self.example = trimmed(blocks[0])
        self._next_images = max(1, int(images * SPACING))

    def skip_to(self, images: int) -> None:
        """After a run is continued: the next picture comes when it would have without the stop."""
        names = (path.stem.rpartition("-")[2] for path in self._run.path.glob("images/*-*.png"))
        drawn = [int(number) for number in names if number.isdecimal() and int(number) <= images]
        self._next_images = max(1, int(max(drawn) * SPACING)) if drawn else 0


def shown_rows(run: Run, name: str, images: Images) -> Tensor:
    """(n,) int64: which images of a set a run shows.

    Those it began with, where it stored some: they are noted in its record. Runs of earlier
    versions have no such note; theirs are the first images.
    """
    count = min(COUNT, len(images))
    if (run.path / "images" / f"{name}-originals.png").exists():
        noted = (run.record.get("shown") or {}).get(name, list(range(count)))
        if noted and all(type(row) is int and 0 <= row < len(images) for row in noted):
            return torch.tensor(noted)
    return show_order(len(images), images.labels)[:count]


@torch.no_grad()
def reproduce(model: nn.Module, sample: Tensor, value_range: ValueRange = UNIT) -> Tensor:
    """(B, C, H, W) 0..1 through the model in evaluation mode; clamped to 0..1, on the CPU.

    `value_range`: what the model learned as black and white.
    """
    training = model.training
    model.eval()
    try:
        parameter = next(model.parameters(), None)
        device = parameter.device if parameter is not None else sample.device
        assert isinstance(model, Model)
        # A copy: a first layer that works in place would change what is shown as the original.
        given = from_unit(sample, value_range).to(device, copy=True)
        shown: Tensor = model(given).reconstruction
        return to_unit(shown.float(), value_range).clamp(0, 1).cpu()
    finally:
        model.train(training)


def row(sample: Tensor, alphabet: str = "") -> Tensor:
    """(B, C, H, W) 0..1 side by side: (H, B W, 1, 3 or 4) uint8; characters are drawn in a font.

    Four channels stay: what is stored has its transparency.
    """
    return rearrange(seen(sample, alphabet, checker=False), "b c h w -> h (b w) c")


def seen(images: Tensor, alphabet: str = "", *, checker: bool = True) -> Tensor:
    """What people see of images: the one place where numbers of characters become pictures.

    Args:
        images: (B, C, H, W) in 0..1, as batches hold them.
        alphabet: of the set or the model; empty for pictures.
        checker: four channels, the last being alpha, are shown on a checkerboard; else they stay.

    Returns:
        (B, 1 or 3, H, W) uint8; of characters (B, 1, H h, W w), each cell h x w pixels of
        `FontRenderer(FONT_RES)`.
    """
    if alphabet:
        return _drawn(numbers_of(images))
    pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    channels = pixels.shape[1]
    if channels == 4:
        return over_checker(pixels) if checker else pixels
    if channels not in (1, 3):  # a picture has one or three: show the first, or the first three
        pixels = pixels[:, : 3 if channels > 3 else 1]
    return pixels


def _drawn(numbers: Tensor) -> Tensor:
    from aelab.glyphs import font_renderer

    renderer = font_renderer(FONT_RES)
    parts = torch.split(numbers, max(1, CELLS // numbers[0].numel()))
    return torch.cat([(renderer.draw(part) * 255).round().to(torch.uint8) for part in parts])


def cell() -> tuple[int, int]:
    """Height and width in pixels of one character in stored pictures."""
    from aelab.glyphs import font_renderer

    height, width = font_renderer(FONT_RES).cell
    return int(height), int(width)


def numbers_of(images: Tensor) -> Tensor:
    """(B, 1, H, W) as a model gives it -> numbers of characters (B, H, W) int64, on the CPU."""
    from aelab.glyphs import ALPHABET, character_numbers

    return character_numbers(images.cpu()).clamp(0, len(ALPHABET) - 1)


def texts(images: Tensor) -> list[list[str]]:
    """(B, 1, H, W) of characters as B times H lines of W characters."""
    from aelab.glyphs import to_lines

    return [to_lines(grid) for grid in numbers_of(images)]


def beside(originals: Tensor, reproductions: Tensor) -> list[str]:
    """(B, 1, H, W) each: `original   |   reconstruction`, H lines an example."""
    from aelab.glyphs import side_by_side

    pairs = zip(texts(originals), texts(reproductions), strict=True)
    return ["\n".join(side_by_side(left, right)) for left, right in pairs]


def _file_of(blocks: list[str]) -> bytes:
    """Examples, an empty line between them."""
    return ("\n\n".join(blocks) + "\n").encode()


def png(picture: Tensor) -> bytes:
    """(H, W, 1, 3 or 4) uint8 as the bytes of a PNG file."""
    buffer = io.BytesIO()
    as_image(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def as_image(picture: Tensor) -> Image.Image:
    """(H, W, 1, 3 or 4) uint8 as a Pillow image."""
    from PIL import Image

    array = picture.contiguous().numpy()
    return Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)


def picture_line(label: str, images: Tensor, alphabet: str = "", *, original: bool = False) -> Line:
    """(B, C, H, W) 0..1 as one named row of a sheet."""
    gap = PAPER_GAP if alphabet else "white"
    return Line(label, as_pictures(images, alphabet), original, gap)


def as_pictures(images: Tensor, alphabet: str = "") -> list[Image.Image]:
    """(B, C, H, W) 0..1 as Pillow images."""
    return [as_image(rearrange(image, "c h w -> h w c")) for image in seen(images, alphabet)]


def shown_sets(train: Sets, validation: Sets) -> dict[str, Images]:
    """What is shown by name: the first set of each kind."""
    named = {"train": train, "heldout": validation}
    return {name: sets[0][1] for name, sets in named.items() if sets}
