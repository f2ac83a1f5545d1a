"""Sets of pictures in the colours of a palette, and the exchange of colours as augmentation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from aelab.data.base import RandomChange, Source, make_images
from aelab.data.dataset import Dataset, need_dataset
from aelab.errors import ConfigError
from aelab.medium import Medium
from aelab.ops.color import over_checker
from aelab.palette.colours import ORDERS, Palette, bytes_of
from aelab.palette.medium import Colours, bytes_stored
from aelab.types import Images


def need_palette(given: Any, part: str) -> Palette:
    """Returns `given` if it is a palette.

    Raises:
        ConfigError: naming the part that needs it.
    """
    if isinstance(given, Palette):
        return given
    raise ConfigError(
        f"{part} needs a palette, got {type(given).__name__}",
        hint='write palette_of(dataset, 32) or palette("#000000", "#ffffff", ...) into `globals`',
    )


class Indexed(Source):
    """The pictures of another set in the colours of a palette, see `indexed_dataset`."""

    def __init__(self, pictures: Dataset, colours: Palette) -> None:
        super().__init__()
        self.pictures, self.palette = pictures, colours
        self.name = f"{pictures.name}-{colours.count}-colours"

    @property
    def medium(self) -> Medium:
        """The colours of the palette."""
        return Colours(self.palette)

    def item_shape(self) -> tuple[int, ...]:
        """(1, H, W) of the pictures; 4 channels with one palette a picture."""
        return (self.palette.channels, *self.pictures.shape[1:])

    def count(self) -> int | None:
        """As in the set of pictures."""
        return self.pictures.count()

    def reading_seconds(self) -> float | None:
        """The seconds of the pictures, twice: the palette may be found in them."""
        seconds = self.pictures.reading_seconds()
        return None if seconds is None else 2 * seconds + 0.5

    def verify(self) -> None:
        """Raise DataError if files of the set of pictures are missing."""
        self.pictures.verify()

    def sources(self) -> list[tuple[str, str]]:
        """As in the set of pictures."""
        return self.pictures.sources()

    def fingerprint(self) -> str:
        """The fingerprint of the pictures, and the palette."""
        return f"{self.pictures.fingerprint()} in the {self.palette.key}"

    def few(self, count: int) -> Source | None:
        """Few pictures in the same colours."""
        few = self.pictures.few(count, 1.0)
        return None if few is None else Indexed(few, self.palette)

    def read(self) -> Images:
        images = self.pictures.load()
        pixels = bytes_of(images)
        alpha = pixels.shape[1] == 4
        indices = self.palette.stored(pixels, alpha)
        made = Colours(self.palette).drawn(indices)
        error = _lost(pixels, made)
        note = f"in {self.palette.count} colours"
        if error > 0:
            note += f", which changes a colour value by {error:.1f} of 255 on average"
        provenance = [
            entry._replace(note="; ".join(filter(None, (entry.note, note))))
            for entry in images.provenance
        ]
        facts = {**images.facts, "memory_mapped": False, "colour_error": error}
        facts.pop("alpha", None)
        return make_images(
            indices,
            labels=images.labels,
            provenance=provenance,
            facts=facts,
            medium=Colours(self.palette),
            file_names=images.file_names,
        )


def _lost(pixels: Tensor, made: Tensor) -> float:
    """Mean absolute difference of the colour values, transparent pixels left out, 0..255."""
    total, count = 0.0, 0
    for ours, theirs in zip(torch.split(pixels, 1024), torch.split(made, 1024), strict=True):
        if ours.shape[1] == 4 and theirs.shape[1] == 4:
            ours, theirs = over_checker(ours), over_checker(theirs)
        ours = ours[:, :3] if ours.shape[1] >= 3 else ours[:, :1].expand(-1, 3, -1, -1)
        total += float((ours.int() - theirs[:, :3].int()).abs().sum())
        count += ours.numel()
    return total / count


@dataclass(frozen=True)
class SwapColours(RandomChange):
    """Exchanges the colours of each image at random, see `swap_colours`."""

    palette: Palette
    probability: float = 0.5
    moves_only: ClassVar[bool] = True
    any_medium: ClassVar[bool] = True

    def __call__(self, images: Tensor, generator: Generator) -> Tensor:
        """Stored pictures, uint8 or float value / 255 -> the same type."""
        device = generator.device
        swap = torch.randint(1, len(ORDERS), (len(images),), generator=generator, device=device)
        drawn = torch.rand(len(images), generator=generator, device=device)
        chosen = torch.where(drawn < self.probability, swap, 0)
        floats = images.is_floating_point()
        made = self.palette.swapped(bytes_stored(images) if floats else images, chosen)
        return (made.float() / 255).to(images.dtype) if floats else made.to(images.dtype)


def indexed_dataset(dataset: Dataset, palette: Palette) -> Dataset:
    """A set of pictures in the colours of a palette: each pixel is the number of a colour.

    Models of colours (`small_palette_ae`) and the loss `palette_ce` belong to it. Pixels become the
    nearest colour; the set's notes say how much that changes. Pixels of pictures with transparency
    (4 channels) become transparent below half of the opacity.

    Args:
        dataset: pictures of the wanted size; resize them before, with `nearest`.
        palette: of `palette_of` or `palette`.

    Raises:
        ConfigError: `dataset` holds no pictures, or `palette` is none.
    """
    need_dataset(dataset, "indexed_dataset")
    if not dataset.medium.is_brightness:
        raise ConfigError(f"indexed_dataset needs pictures, {dataset.name} holds others")
    return Dataset(Indexed(dataset, need_palette(palette, "indexed_dataset")))


def swap_colours(dataset: Dataset, probability: float = 0.5) -> Dataset:
    """Exchanges the colours of each picture at random, as games do for variants of one drawing.

    Red, green and blue are exchanged with each other. With a shared palette each colour becomes the
    entry nearest to that, so light stays about the same; a picture's own palette is exchanged
    exactly. Shapes and greys stay. Drawn anew for each batch.

    Args:
        dataset: of `indexed_dataset`.
        probability: of each picture, 0..1.

    Raises:
        ConfigError: the set is not in colours of a palette.
    """
    need_dataset(dataset, "swap_colours")
    if not isinstance(dataset.medium, Colours):
        raise ConfigError(
            f"swap_colours needs pictures in colours of a palette, {dataset.name} holds "
            f"{dataset.medium.sets_hold}",
            hint=Colours.from_others,
        )
    if not 0 <= probability <= 1:
        raise ConfigError(f"swap_colours: probability is 0 to 1, got {probability}")
    return dataset.changed(SwapColours(dataset.medium.palette, float(probability)))
