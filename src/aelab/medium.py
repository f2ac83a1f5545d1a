"""The medium of images: `Pixels`, or another one from a wing, such as characters.

Every set of images and every model has a medium. Everything that depends on the meaning of an
image's numbers is a method of the medium; other code never checks which medium it is.
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
    """The interface of a medium's counts in a validation, on the device, batch by batch."""

    def add(self, output: Any, target: Tensor) -> None:
        """Counts one `types.Output`; `target`: (B, C, H, W), the wanted reconstruction."""

    def facts(self) -> dict[str, Tensor]:
        """Numbers for tables and curves, each a tensor of one value."""

    def looks(self) -> dict[str, Tensor]:
        """Numbers that only `Medium.warning` reads."""


class Medium(ABC):
    """The meaning of the numbers of an image. Sets of equal media can be combined.

    Images are (B, C, H, W) in 0..1, as batches hold them.

    Attributes:
        name: of the elements that a model outputs, for instance `pixels`; metrics and figures
            refer to the medium by this name.
        sets_hold: content of a set, in words, for instance `pictures`.
        images_are: content of one batch, in words; usually the same.
        is_brightness: whether close numbers look similar, so that images can be compared by
            differences, averaged and resized.
        cell: height and width in pixels of one element in a drawn image.
        gap: colour between the images of a sheet.
        sheet: columns and rows of a contact sheet.
        misread: what a model of another medium would do with it, in words; empty: it needs its own
            images.
        a_model: which model to use for such images, in words.
        from_others: how to convert images of other media, in words; empty if that is impossible.
        a_loss: terms for a model whose `reconstruction` has no gradient, in words; empty if it has
            one.
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
        """Height and width in pixels of one element in a drawn image."""
        return 1, 1

    # Pictures and texts.

    @abstractmethod
    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """Draws images for display.

        Args:
            images: (B, C, H, W).
            checker: whether images with alpha (4 channels) are drawn on a checkerboard; else they
                keep 4 channels.

        Returns:
            (B, 1 or 3, h, w) uint8, with h and w being H and W times `cell`; 4 channels possible
            without `checker`.
        """

    def drawn(self, stored: Tensor) -> Tensor:
        """Stored values of a set (N, C, H, W) as visible images; brightness is unchanged."""
        return stored

    def picture_file(self, image: Tensor) -> bytes | None:
        """One image (1, C, H, W) as a PNG file of the medium's own kind, for single pictures.

        None: the drawn picture is stored.
        """
        return None

    def texts(self, images: Tensor) -> list[str]:
        """Each image as text, for text files beside pictures; empty if the medium has no text."""
        return []

    def beside(self, originals: Tensor, made: Tensor) -> list[str]:
        """Each original as text beside its reconstruction, one text per image; or empty."""
        return []

    def examples(self, stored: Tensor) -> list[str]:
        """Stored values of a set (n, C, H, W) as example texts; or empty."""
        return []

    def record(self) -> Mapping[str, Any]:
        """Entries about the medium for the record of a run, which is read without torch.

        An entry `cell` means that stored pictures are drawn, with this size per element.
        """
        return {}

    #: Channels of pictures that `stored_of` converts; 0: it converts none.
    picture_channels: int = 0

    def stored_of(self, pictures: Tensor) -> Tensor:
        """Pictures as stored values of this medium, for a user's own files.

        Args:
            pictures: (N, `picture_channels`, H h, W w) uint8, with (h, w) = `cell`.

        Returns:
            (N, C, H, W).
        """
        return pictures

    # Latents of another run as images.

    #: The run, and its state, whose latents the images are; empty for ordinary images.
    first_stage: str = ""

    def to_latents(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) of a second stage -> latents of its first stage, (B, ...).

        Raises:
            ConfigError: the images are no latents of another run.
        """
        raise ConfigError(f"{self.images_are} are no latents of another run")

    def refuse_stored(self, record: Mapping[str, Any], folder: str) -> None:
        """Raises if a stored run was trained on images that this medium no longer stands for.

        Args:
            record: of the run.
            folder: its name.

        Raises:
            StoreError: its first stage has changed since.
        """
        return

    # Allowed changes of images.

    def allows(self, change: Any) -> bool:
        """Whether a change of images gives valid images of this medium.

        Args:
            change: a function of images, or the name of a change.
        """
        return True

    def refuse(self, owner: str, *changes: Any, of_input: bool = False) -> None:
        """Raises for the first change that this medium does not allow.

        Args:
            owner: name of the images, for the message.
            changes: as for `allows`.
            of_input: whether only the input is changed, not the target.

        Raises:
            ConfigError: names the change, and what is possible.
        """
        for change in changes:
            if not self.allows(change):
                title = change if isinstance(change, str) else _title(change)
                raise ConfigError(
                    f"{owner}: {title} {self.why_not}", hint=self.possible_changes(of_input)
                )

    #: What a forbidden change would do, in words.
    why_not: ClassVar[str] = ""

    def possible_changes(self, of_input: bool) -> str:
        """Alternatives to a forbidden change, in words."""
        return ""

    def random_mirror(
        self, owner: str, probability: float
    ) -> Callable[[Tensor, Generator], Tensor]:
        """A random left-right mirror, for media whose elements change when mirrored.

        Raises:
            ConfigError: mirrored elements are the same, as for pixels.
        """
        raise ConfigError(
            f"{owner} holds {self.sets_hold}, whose elements have no mirror image of their own",
            hint=f"{self.sets_hold} are mirrored by .random_flip(0.5, 0)",
        )

    # Compatibility.

    def refuse_model(self, model: Medium) -> None:
        """Raises if images of this medium do not fit a model.

        Args:
            model: medium of the model's output.

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
        """The error for images that differ from those of a model of the same medium."""
        return ConfigError(f"the {self.name} of the images are not those of the model")

    # Numbers.

    @abstractmethod
    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """Name and values (B,) of the error by which reproductions are ordered; lower is better."""

    @abstractmethod
    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """Index of the most similar row of `among` (N, C, H, W) for each image, (B,) int64."""

    def statistics(self, pixels: Tensor, sample: Tensor) -> dict[str, Any] | None:
        """Statistics about the difficulty of a set; None: use those of brightness.

        Args:
            pixels: (N, C, H, W), the values of the whole set.
            sample: subset of them for expensive statistics.
        """
        return None

    def counts(self, objective: object) -> Counts | None:
        """The counts of a validation besides its losses; None if there are none.

        Args:
            objective: of the training; some terms may ignore part of the output.
        """
        return None

    # What a model could give at best and at worst, for the floor and the ceiling of a loss.

    def made(self, output: Any, images: Tensor) -> Any:
        """A `types.Output` like `output` of a model that gives exactly these images.

        Args:
            output: of a model of this medium; latent and posterior stay.
            images: (B, C, H, W).

        Returns:
            None where the medium cannot say.
        """
        return None

    def wrong(self, images: Tensor) -> Tensor:
        """(B, C, H, W) images that are as wrong as can be in every element."""
        return images

    def warning(
        self, facts: Mapping[str, float], looks: Mapping[str, float], *, early: bool
    ) -> Finding | None:
        """A warning from the numbers of a validation, or None.

        Args:
            facts: terms and facts by name.
            looks: values for warnings only: `Counts.looks`, `spread`, `target_spread`.
            early: whether the run has only just started.
        """
        return None


class Pixels(Medium):
    """Ordinary images: every number is the brightness of one channel of one pixel."""

    name = "pixels"
    sets_hold = images_are = "pictures"
    is_brightness = True
    a_model = "use a pixel model, for instance small_image_ae((1, 28, 28))"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def made(self, output: Any, images: Tensor) -> Any:
        """The images as the reconstruction; None for a model whose losses see something else."""
        return None if output.details else output._replace(reconstruction=images)

    def wrong(self, images: Tensor) -> Tensor:
        """White where they are dark, black where they are bright."""
        return (images < 0.5).float()

    def __repr__(self) -> str:
        return "Pixels()"

    def picture(self, images: Tensor, *, checker: bool = True) -> Tensor:
        """Images (B, C, H, W) as uint8 with one or three channels, see `Medium.picture`."""
        pixels = (images.clamp(0, 1) * 255).round().to(torch.uint8)
        channels = pixels.shape[1]
        if channels == 4:
            return over_checker(pixels) if checker else pixels
        if channels not in (1, 3):  # image files have one or three: show the first, or first three
            pixels = pixels[:, : 3 if channels > 3 else 1]
        return pixels

    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """The mean squared error over an image's pixels."""
        return "L2", (made - images).square().flatten(1).mean(1)

    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """See `Medium.nearest`; by Euclidean distance of pixels, with images clamped to 0..1."""
        return nearest_rows(images.clamp(0, 1).flatten(1), among.flatten(1)).rows[:, 0]


class NumberedElements(Medium):
    """Images (B, 1, H, W) whose values are numbers of elements, such as colours, divided by 255."""

    is_brightness = False

    @abstractmethod
    def numbers(self, images: Tensor) -> Tensor:
        """(B, 1, H, W) number / 255 -> (B, H, W) int64."""

    def errors(self, made: Tensor, images: Tensor) -> tuple[str, Tensor]:
        """The name `wrong`, and the share of an image's elements that are others."""
        return "wrong", (self.numbers(made) != self.numbers(images)).float().mean((1, 2))

    def nearest(self, images: Tensor, among: Tensor) -> Tensor:
        """The nearest image by the number of equal elements."""
        numbers, known = (self.numbers(each).to(torch.uint8) for each in (images, among))
        return torch.stack([(known != one).sum((1, 2)).argmin() for one in numbers])


def likeliest_numbers(logits: Tensor) -> Tensor:
    """(B, K, H, W) -> number of the largest / 255, (B, 1, H, W) float32, without gradient."""
    return logits.detach().argmax(1, keepdim=True).to(torch.float32).div_(255)


#: The default medium.
PIXELS = Pixels()


def medium_of(model: object) -> Medium:
    """The medium of a model's output: its attribute `medium`, by default pixels."""
    medium = getattr(model, "medium", PIXELS)
    return medium if isinstance(medium, Medium) else PIXELS


def common_medium(sets: Iterable[tuple[str, Medium]]) -> Medium:
    """The common medium of several (name, medium) pairs.

    Raises:
        ConfigError: there are several; the message names the sets of each.
    """
    names: dict[Medium, list[str]] = {}
    for name, medium in sets:
        names.setdefault(medium, []).append(name)
    if len(names) == 1:
        return next(iter(names))
    # Pixels last: the hint is how to convert them to the other medium.
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
