"""The medium of palettes: every value of an image is the number of a colour."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from aelab.errors import ConfigError
from aelab.medium import Medium, NumberedElements
from aelab.ops.color import over_checker
from aelab.palette.colours import Palette
from aelab.types import Output


class ColourCounts:
    """Sums over the batches of one validation, without waiting for the device."""

    def __init__(self) -> None:
        self._counts: Tensor | None = None

    def add(self, output: Output, target: Tensor) -> None:
        """Counts one batch; `target` (B, 1, H, W) holds the true colours."""
        right = numbers_of(output.reconstruction) == numbers_of(target)
        images = torch.tensor(len(target), device=target.device)
        pixels = images * right[0].numel()
        counts = torch.stack([right.sum(), pixels, right.flatten(1).all(1).sum(), images])
        self._counts = counts if self._counts is None else self._counts + counts

    def facts(self) -> dict[str, Tensor]:
        """`exact_pixels` and `exact_images`, shares of those with exactly the right colours."""
        if self._counts is None:
            return {}
        right, pixels, whole, images = self._counts.unbind()
        return {"exact_pixels": right / pixels, "exact_images": whole / images}

    def looks(self) -> dict[str, Tensor]:
        """Nothing more is needed for warnings."""
        return {}


@dataclass(frozen=True)
class Colours(NumberedElements):
    """Images (B, 1, H, W) whose values are numbers of colours, divided by 255 in a batch.

    Args:
        palette: the colours; equal palettes make equal media.
    """

    palette: Palette

    name: ClassVar[str] = "colours"
    sets_hold: ClassVar[str] = "pictures in colours of a palette"
    images_are: ClassVar[str] = "numbers of colours"
    misread: ClassVar[str] = "it would read the colours' numbers as brightness"
    a_model: ClassVar[str] = "use a model of colours, for instance small_palette_ae(shape, PALETTE)"
    from_others: ClassVar[str] = "convert pictures with indexed_dataset(dataset, PALETTE)"
    a_loss: ClassVar[str] = "use the term palette_ce"
    why_not: ClassVar[str] = "would change the numbers of colours as if they were brightness"

    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """(B, 1, H, W) numbers / 255 -> (B, 3, H, W) uint8; 4 channels without `checker`."""
        drawn = self.drawn(bytes_stored(images))
        return over_checker(drawn) if checker and drawn.shape[1] == 4 else drawn

    def drawn(self, stored: Tensor) -> Tensor:
        """Stored pictures -> (n, 3, H, W) uint8, or (n, 4, H, W) with transparency."""
        return self.palette.drawn(stored)

    @property
    def picture_channels(self) -> int:  # type: ignore[override]
        """Red, green, blue, and alpha if the palette has a transparent entry."""
        return self.palette.seen_channels

    def stored_of(self, pictures: Tensor) -> Tensor:
        """(N, 3 or 4, H, W) uint8 -> the numbers of the nearest colours."""
        return self.palette.stored(pictures, alpha=True)

    def picture_file(self, image: Tensor) -> bytes:
        """One image as an indexed PNG file with its palette, entry by entry."""
        table = self.palette.tables(bytes_stored(image))[0].cpu()
        numbers = numbers_of(image)[0].clamp(max=len(table) - 1).to(torch.uint8).cpu()
        picture = Image.fromarray(numbers.numpy(), "L").convert("P")
        picture.putdata(numbers.flatten().tolist())
        picture.putpalette(table[:, :3].flatten().tolist())
        file = io.BytesIO()
        clear = {"transparency": 0} if self.palette.transparent else {}
        picture.save(file, "PNG", bits=_bits(len(table)), **clear)
        return file.getvalue()

    def record(self) -> dict[str, Any]:
        """The colours, or that each picture has its own."""
        return self.palette.record()

    def allows(self, change: Any) -> bool:
        """Allows changes that only move pixels, or that exchange colours."""
        return bool(getattr(change, "any_medium", False) or getattr(change, "moves_only", False))

    def possible_changes(self, of_input: bool) -> str:
        """The changes that move whole pixels."""
        if of_input:
            return "leave it out and change the set itself: .random_shift, .random_flip, .roll"
        return (
            "possible: .random_shift, .random_flip, .roll, .random_crop_all, .center_crop, .limit, "
            ".skip, .sample, .shuffle, .repeat, .filter, .interleave, and swap_colours(dataset); "
            "another size: change the pictures before indexed_dataset"
        )

    def other_kind(self, model: Medium) -> ConfigError:
        """The error for two different palettes."""
        assert isinstance(model, Colours)
        return ConfigError(
            f"the images use the {self.palette}, but the model the {model.palette}",
            hint="give both the same palette, for instance PALETTE in `globals`",
        )

    def numbers(self, images: Tensor) -> Tensor:
        """See `numbers_of`."""
        return numbers_of(images)

    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """The share of pixels with another colour; or the error of a picture's own colours."""
        found, wanted = bytes_stored(made), bytes_stored(images)
        return self.palette.error_name, self.palette.differences(found, wanted)

    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """The nearest image by the same error."""
        wanted, known = bytes_stored(images), bytes_stored(among)
        rows = [self.palette.differences(one[None], known).argmin() for one in wanted]
        return torch.stack(rows)

    def made(self, output: Any, images: Tensor) -> Any:
        """Certain of each number: logits 0 and -30; and its own colours, where it outputs some."""
        numbers = numbers_of(images).clamp(max=self.palette.count - 1)
        chosen = functional.one_hot(numbers, self.palette.count).movedim(-1, 1).float()
        details = {**output.details, "logits": 30 * (chosen - 1)}
        if "palette" in details:
            details["palette"] = self.palette.tables(bytes_stored(images))[..., :3].float() / 255
        return output._replace(reconstruction=images, details=details)

    def wrong(self, images: Tensor) -> Tensor:
        """The next colour of the palette in each pixel; other channels inverted."""
        following = (numbers_of(images) + 1).remainder(self.palette.count)
        return torch.cat([following[:, None].float() / 255, 1 - images[:, 1:]], dim=1)

    def counts(self, objective: object) -> ColourCounts:
        """The counter of exactly right pixels and pictures."""
        return ColourCounts()

    def statistics(self, pixels: Tensor, sample: Tensor) -> dict[str, Any]:
        """Numbers that show how hard a set is.

        Returns:
            `colours` that occur, of how many in the palette; the share of the most frequent one;
            `entropy_bits` of their distribution; `floor_exact`: share of right pixels of a model
            that always outputs the same picture, at each place the most frequent colour.
        """
        counts = torch.zeros(self.palette.count, dtype=torch.int64)
        for part in torch.split(pixels, 4096):
            counts += torch.bincount(part[:, 0].flatten().int(), minlength=self.palette.count)
        shares = counts[counts > 0].double() / counts.sum()
        known = self.palette.comparable(sample).flatten(1)
        constant = known.mode(0).values
        told = self.palette.record()["palette"]
        return {
            "colours": f"{int((counts > 0).sum())} of {self.palette.count}",
            "most_frequent_share": float(shares.max()),
            "entropy_bits": float(-(shares * shares.log2()).sum()),
            "floor_exact": float((known == constant).float().mean()),
            "palette": told
            if isinstance(told, str)
            else " ".join(told[:16]) + (" ..." if len(told) > 16 else ""),
        }

    def warning(
        self, facts: Mapping[str, float], looks: Mapping[str, float], *, early: bool
    ) -> None:
        """No warning: a picture of one colour scores no better than the floor, which is told."""


def _bits(colours: int) -> int:
    """Bits of one pixel in a PNG file: 1, 2, 4 or 8."""
    return next(bits for bits in (1, 2, 4, 8) if 2**bits >= colours)


def bytes_stored(images: Tensor) -> Tensor:
    """(B, C, H, W) of value / 255 -> uint8, as a set stores them."""
    return (images * 255).round().clamp(0, 255).to(torch.uint8)


def numbers_of(images: Tensor) -> Tensor:
    """(B, C, H, W) number / 255 in channel 0 -> (B, H, W) int64, 0 to 255."""
    return (images[:, 0] * 255).round().long().clamp(0, 255)
