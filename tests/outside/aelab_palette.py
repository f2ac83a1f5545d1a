"""A stranger's medium: images of a few colours, known to aelab by entry points alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aelab.data import Dataset, Source
from aelab.data.base import make_images
from aelab.medium import Medium
from aelab.types import Images, Output, Provenance, TermSpec

#: Red, green, blue and white; a pixel is the number of one of them.
COLOURS = torch.tensor([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]], dtype=torch.uint8)


def numbers_of(images: Tensor) -> Tensor:
    """(B, 1, H, W) number / 255 -> (B, H, W) int64, the number of a colour."""
    return (images[:, 0].cpu() * 255).round().long().clamp(0, len(COLOURS) - 1)


class Palette(Medium):
    """Images (B, 1, H, W) whose numbers are those of colours, divided by 255."""

    name = "palette"
    sets_hold = images_are = "palette pictures"
    is_brightness = False
    misread = "it would read the numbers of colours as brightness"
    a_model = "use a palette model"
    a_loss = "use flag_ce"
    why_not = "would make other colours of colours"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Palette)

    def __hash__(self) -> int:
        return hash(Palette)

    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """(B, 3, H, W) uint8."""
        return COLOURS[numbers_of(images)].permute(0, 3, 1, 2)

    def drawn(self, stored: Tensor) -> Tensor:
        """(N, 1, H, W) uint8 numbers -> (N, 3, H, W) uint8."""
        return COLOURS[stored[:, 0].long()].permute(0, 3, 1, 2)

    def allows(self, change: Any) -> bool:
        """Only what moves whole pixels."""
        return bool(getattr(change, "any_medium", False))

    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """The share of wrong pixels."""
        return "wrong", (numbers_of(made) != numbers_of(images)).float().mean((1, 2))

    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """By the number of equal pixels."""
        known = numbers_of(among)
        return torch.stack([(known != one).sum((1, 2)).argmin() for one in numbers_of(images)])

    def statistics(self, pixels: Tensor, sample: Tensor) -> dict[str, Any]:
        """How many colours occur."""
        return {"colours": len(pixels.unique())}

    def counts(self, objective: object) -> RightPixels:
        """The share of right pixels."""
        return RightPixels()


class RightPixels:
    """What a validation counts."""

    def __init__(self) -> None:
        self._right: list[Tensor] = []

    def add(self, output: Output, target: Tensor) -> None:
        """Counts one batch."""
        right = numbers_of(output.reconstruction) == numbers_of(target)
        self._right.append(right.float().mean())

    def facts(self) -> dict[str, Tensor]:
        """`right_pixels`, 0..1."""
        return {"right_pixels": torch.stack(self._right).mean()}

    def looks(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}


class Flags(Source):
    """Flags of two colours, upper and lower half."""

    name = "flags"
    medium = Palette()

    def item_shape(self) -> tuple[int, ...]:
        """(1, 8, 8)."""
        return 1, 8, 8

    def fingerprint(self) -> str:
        """Always the same."""
        return "flags"

    def read(self) -> Images:
        """Each pair of colours, five times."""
        pairs = torch.cartesian_prod(torch.arange(4), torch.arange(4)).repeat(5, 1)  # (80, 2)
        pixels = pairs.repeat_interleave(4, 1)[:, None, :, None].expand(-1, 1, 8, 8)
        origin = Provenance("flags", "generated", len(pixels), "")
        return make_images(pixels.to(torch.uint8), provenance=[origin], medium=self.medium)


def flags_dataset() -> Dataset:
    """Flags of two colours."""
    return Dataset(Flags())


class PaletteModel(nn.Module):
    """Colours through a narrow layer."""

    medium = Palette()
    noise_shape = None
    terms = (TermSpec("flag_ce", "flag_ce"),)

    def __init__(self, code_size: int = 8) -> None:
        super().__init__()
        self.encoder = nn.Linear(64 * 4, code_size)
        self.decoder = nn.Linear(code_size, 64 * 4)

    def encode(self, images: Tensor) -> Tensor:
        """(B, 1, 8, 8) -> (B, code_size)."""
        code: Tensor = self.encoder(F.one_hot(numbers_of(images), 4).float().flatten(1))
        return code

    def logits(self, latent: Tensor) -> Tensor:
        """(B, code_size) -> (B, 4, 8, 8)."""
        made: Tensor = self.decoder(latent)
        return made.view(-1, 4, 8, 8)

    def decode(self, latent: Tensor) -> Tensor:
        """(B, code_size) -> (B, 1, 8, 8) number / 255."""
        return self.logits(latent).argmax(1, keepdim=True).float() / 255

    def forward(self, images: Tensor, noise: Tensor | None = None) -> Output:
        latent = self.encode(images)
        return Output(self.decode(latent), latent, details={"logits": self.logits(latent)})


class PaletteCrossEntropy(nn.Module):
    """Cross-entropy of each pixel's colour."""

    def forward(self, output: Output, target: Tensor) -> Tensor:
        """(B,) nats a pixel."""
        loss = F.cross_entropy(output.details["logits"], numbers_of(target), reduction="none")
        return loss.mean((1, 2))
