"""What images are made of: `Pixels`, or whatever a wing brings, such as characters.

A medium is carried by every set of images and by every model. The rest asks it whatever depends on
what the numbers of an image mean, and never which medium it is.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Generator, Tensor

from aelab.errors import ConfigError
from aelab.findings import Finding
from aelab.ops.color import over_checker
from aelab.ops.nearest import nearest_rows


class Counts(Protocol):
    """What a medium counts in a validation, on the device, batch by batch."""

    def add(self, output: Any, target: Tensor) -> None:
        """Counts one `types.Output`; `target` (B, C, H, W) is what its images should be."""

    def facts(self) -> dict[str, Tensor]:
        """Numbers for tables and curves, each a tensor of one value."""

    def looks(self) -> dict[str, Tensor]:
        """Numbers that only `Medium.warning` reads."""


class Medium(ABC):
    """What an image is made of. Equal objects mean images that can stand in one set.

    Images are (B, C, H, W) in 0..1, as batches hold them.

    Attributes:
        name: what a model of it outputs, for instance `pixels`; metrics and figures that need it
            say so by this name.
        sets_hold: what a set of it holds, for instance `pictures`.
        images_are: what one batch of it is; mostly the same.
        is_brightness: whether numbers that are near look alike, so that images can be compared by
            differences, averaged and resized.
        cell: height and width in pixels of one element in a drawn picture.
        gap: colour between the pictures of a sheet.
        sheet: columns and rows of a contact sheet.
        misread: what a model of another medium would do with it; empty for: it needs its own.
        a_model: what to use for such images.
        from_others: how images of other media become such; empty where they cannot.
        a_loss: what terms to use for a model whose `reconstruction` has no gradient; empty where
            it has one.
    """

    name: ClassVar[str]
    sets_hold: ClassVar[str]
    images_are: ClassVar[str]
    is_brightness: ClassVar[bool]
    gap: ClassVar[str] = "white"
    sheet: ClassVar[tuple[int, int]] = (16, 8)
    misread: ClassVar[str] = ""
    a_model: ClassVar[str]
    from_others: ClassVar[str] = ""
    a_loss: ClassVar[str] = ""

    @property
    def cell(self) -> tuple[int, int]:
        """Height and width in pixels of one element in a drawn picture."""
        return 1, 1

    # Pictures and texts.

    @abstractmethod
    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """What people see of images.

        Args:
            images: (B, C, H, W).
            checker: four channels, the last being alpha, are shown on a checkerboard; else they
                stay.

        Returns:
            (B, 1 or 3, h, w) uint8, h and w being H and W times `cell`; 4 channels without
            `checker`.
        """

    def drawn(self, stored: Tensor) -> Tensor:
        """Values of a set (N, C, H, W) as something that can be seen; brightness stays."""
        return stored

    def texts(self, images: Tensor) -> list[str]:
        """Each image as a text, for files beside pictures; none where there is no text."""
        return []

    def beside(self, originals: Tensor, made: Tensor) -> list[str]:
        """Each original as text beside its reconstruction, one text an image; or none."""
        return []

    def examples(self, stored: Tensor) -> list[str]:
        """Values of a set (n, C, H, W) as texts that show what is in it; or none."""
        return []

    def record(self) -> Mapping[str, Any]:
        """What the record of a run must know of it, to be read without torch.

        `cell` among it says that stored pictures are drawn, that many pixels an element.
        """
        return {}

    # What may be done with images.

    def allows(self, change: Any) -> bool:
        """Whether a change of images leaves images of this medium.

        Args:
            change: a function of images, or a change by its name.
        """
        return True

    def refuse(self, owner: str, *changes: Any, of_input: bool = False) -> None:
        """Raise for the first change that this medium does not allow.

        Args:
            owner: whose images they are, for the message.
            changes: as for `allows`.
            of_input: only the input is to be changed, and not the target.

        Raises:
            ConfigError: naming the change, and what is possible.
        """
        for change in changes:
            if not self.allows(change):
                title = change if isinstance(change, str) else _title(change)
                raise ConfigError(
                    f"{owner}: {title} {self.why_not}", hint=self.possible_changes(of_input)
                )

    #: What a change that is not allowed would do.
    why_not: ClassVar[str] = ""

    def possible_changes(self, of_input: bool) -> str:
        """What can be done instead of a change that is not allowed."""
        return ""

    def random_mirror(
        self, owner: str, probability: float
    ) -> Callable[[Tensor, Generator], Tensor]:
        """Mirrors images left to right where mirrored elements are other elements.

        Raises:
            ConfigError: mirrored elements are the same, as those of pixels.
        """
        raise ConfigError(
            f"{owner} holds {self.sets_hold}, whose elements have no mirror image of their own",
            hint=f"{self.sets_hold} are mirrored by .random_flip(0.5, 0)",
        )

    # Which go together.

    def refuse_model(self, model: Medium) -> None:
        """Raise if images of this medium are no images for a model.

        Args:
            model: what the model outputs.

        Raises:
            ConfigError: the two do not fit.
        """
        if self == model:
            return
        if self.name == model.name:
            raise self.other_kind(model)
        ways = [way for way in (model.from_others, self.a_model) if way]
        raise ConfigError(
            f"the images are {self.images_are}, but the model outputs {model.name}: "
            f"{self.misread or f'it needs {model.images_are}'}",
            hint=", or ".join(ways),
        )

    def other_kind(self, model: Medium) -> ConfigError:
        """How images of this medium differ from those of a model of the same medium."""
        return ConfigError(f"the {self.name} of the images are not those of the model")

    # Numbers.

    @abstractmethod
    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """What reproductions are ordered by, in a word, and (B,) of it: less is better."""

    @abstractmethod
    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """(B,) int64: the row of `among` (N, C, H, W) that is most similar to each image."""

    def statistics(self, pixels: Tensor, sample: Tensor) -> dict[str, Any] | None:
        """Plain numbers that tell how hard a set is; None: those of brightness.

        Args:
            pixels: (N, C, H, W), the values of the whole set.
            sample: those of them that costly numbers are taken over.
        """
        return None

    def counts(self, objective: object) -> Counts | None:
        """What a validation counts beside its losses; None for nothing.

        Args:
            objective: what is minimised, whose terms may see less than there is.
        """
        return None

    def warning(
        self, facts: Mapping[str, float], looks: Mapping[str, float], *, early: bool
    ) -> Finding | None:
        """What the numbers of a validation give reason to warn of.

        Args:
            facts: terms and facts by name.
            looks: what only warnings read: `Counts.looks`, `spread`, `target_spread`.
            early: the run has hardly begun.
        """
        return None


class Pixels(Medium):
    """Pictures: every number is the brightness of one channel of one pixel."""

    name = "pixels"
    sets_hold = images_are = "pictures"
    is_brightness = True
    a_model = "use a pixel model, for instance small_image_ae((1, 28, 28))"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return "Pixels()"

    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """(B, C, H, W) as bytes of one or three channels, see `Medium.picture`."""
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        channels = pixels.shape[1]
        if channels == 4:
            return over_checker(pixels) if checker else pixels
        if channels not in (1, 3):  # a picture has one or three: show the first, or the first three
            pixels = pixels[:, : 3 if channels > 3 else 1]
        return pixels

    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """The mean squared error over an image's pixels."""
        return "L2", (made - images).square().flatten(1).mean(1)

    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """By Euclidean distance of the pixels; images are clamped to 0..1."""
        return nearest_rows(images.clamp(0, 1).flatten(1), among.flatten(1)).rows[:, 0]


#: The medium of all images that do not say otherwise.
PIXELS = Pixels()


def medium_of(model: object) -> Medium:
    """What a model outputs: its attribute `medium`, pixels where it has none."""
    medium = getattr(model, "medium", PIXELS)
    return medium if isinstance(medium, Medium) else PIXELS


def common_medium(sets: Iterable[tuple[str, Medium]]) -> Medium:
    """The medium of several sets, each with its name.

    Raises:
        ConfigError: there are several; the sets of each are named.
    """
    names: dict[Medium, list[str]] = {}
    for name, medium in sets:
        names.setdefault(medium, []).append(name)
    if len(names) == 1:
        return next(iter(names))
    # Pixels last: what they could become is said of the others.
    kinds = sorted(names, key=lambda medium: medium == PIXELS)
    raise ConfigError(
        "cannot combine "
        + " with ".join(f"{_kind(medium, kinds)} ({', '.join(names[medium])})" for medium in kinds),
        hint=next((medium.from_others for medium in kinds if medium.from_others), None),
    )


def _kind(medium: Medium, all_kinds: Sequence[Medium]) -> str:
    same = [other for other in all_kinds if other.sets_hold == medium.sets_hold]
    return medium.sets_hold if len(same) == 1 else repr(medium)


def _title(change: Any) -> str:
    return getattr(change, "__name__", None) or type(change).__name__
