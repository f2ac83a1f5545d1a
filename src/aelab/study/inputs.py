"""Converts any given images to the size and range of a stored run."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from aelab import catalogue
from aelab.assembly.parts import located
from aelab.config.blocks import Block, evaluate_block
from aelab.data import Dataset
from aelab.data.base import make_images
from aelab.data.overview import PATH_READERS, named
from aelab.data.sources.background import background_of
from aelab.data.sources.decode import EXTENSIONS, decode
from aelab.data.sources.folder import fit_picture
from aelab.data.sources.pictures import image_folder_dataset
from aelab.errors import DataError, ShapeError, UserError, Where, did_you_mean, one_of
from aelab.medium import PIXELS, Medium
from aelab.ops.augmented import chosen_images
from aelab.ops.given import as_images, picture_pixels
from aelab.ops.labels import label_classes, labels_by_name
from aelab.ops.look import refuse_not_finite
from aelab.ops.resize import filter_name
from aelab.ops.value_range import as_given, from_unit, to_unit
from aelab.preparation import track
from aelab.roots import from_home, real
from aelab.types import Images

if TYPE_CHECKING:
    from aelab.config.blocks import Scope
    from aelab.study.opened import OpenedRun

#: Images in one batch through the model.
BATCH = 256
#: Names of the run's own sets.
OWN = ("train", "validation")


class FolderReading(NamedTuple):
    """Options for reading pictures of a folder.

    Attributes:
        skip_corrupt: leave unreadable files out.
        background: colour behind transparent pixels, for models without transparency.
    """

    skip_corrupt: bool = False
    background: str = "black"


def inputs_of(opened: OpenedRun, given: Any, reading: FolderReading) -> Images:
    """Converts `given` to images of the run's size.

    Args:
        opened: the run.
        given: `train` or `validation` for the run's own sets; the path of a folder or a picture;
            a data set by its name (`mnist:validation`), by another path of `aelab data`, or by an
            expression (`mnist_dataset().limit(100)`); a data set of the lab; a Pillow picture;
            a list of pictures or paths; a tensor, an array, or a torch Dataset, whose floats are
            in the run's `value_range`. Folders, pictures and data sets are brought to the run's
            size; pictures of other proportions lose their sides.
        reading: of folders and pictures.

    Raises:
        DataError, UserError: it does not exist, or cannot be read.
        ConfigError: its medium is not that of the run.
        ShapeError: images of another size in an array or a torch Dataset.
    """
    shape = tuple(int(size) for size in opened.run.record["shape"])
    drawn = _drawn_shape(opened.medium, shape)
    pictures = _pictures(given, reading, keep_alpha=drawn[0] == 4)
    if pictures is not None:
        images = _as_stored(_fitted(pictures, drawn, reading), opened.medium)
    elif isinstance(given, str | os.PathLike):
        images = _named(opened, os.fspath(given), shape, reading)
    elif isinstance(given, Dataset):
        images = _at(given, shape).load()
    else:
        images = as_images(given, "images")
        if not isinstance(given, Images):
            images = replace(images, medium=opened.medium,
                             value_range=opened.value_range)  # fmt: skip
    images.medium.refuse_model(opened.medium)
    if images.shape != shape:
        raise ShapeError(
            f"run {opened.run.folder} takes images of {_size(shape)}, these are of "
            f"{_size(images.shape)}",
            hint="bring them to that size first; folders, pictures and data sets of the lab are "
            "resized",
        )
    refuse_not_finite(images, "images")
    return images


def through(
    opened: OpenedRun, images: Images, function: Callable[..., Tensor], what: str
) -> Tensor:
    """Applies a function of the model to all images, batch by batch.

    Args:
        opened: the run.
        images: from `inputs_of`.
        function: function of a model input batch, on the model's device, and of its labels where
            the model asks for them.
        what: text for the progress display, such as `encoding`.

    Returns:
        (N, ...) on the CPU.
    """
    parts, labels = [], labels_of(opened, len(images), images)
    with torch.no_grad():
        batches = torch.split(torch.arange(len(images)), BATCH)
        for rows in track(batches, what, len(images), len):
            unit = to_unit(chosen_images(images, rows), images.value_range)
            batch = as_given(from_unit(unit, opened.value_range), opened.value_range)
            given = (each[rows].to(opened.parts.device) for each in labels)
            parts.append(function(batch.to(opened.parts.device, copy=True), *given).cpu())
    return torch.cat(parts)


def labels_of(
    opened: OpenedRun, count: int, given: Images | Sequence[str | int] | None
) -> tuple[Tensor, ...]:
    """The labels of images in the run's numbering, for a model that asks; () for others.

    Args:
        opened: the run.
        count: number of images.
        given: a set with classes, or for each image the name of its class or its number.

    Raises:
        UserError: the model cannot do without, and there are none, or other classes; or classes
            are named for a model that knows none.
    """
    if label_classes(opened.model) is None:
        if given is not None and not isinstance(given, Images):
            refuse_classes(opened)
        return ()
    names = opened.classes
    numbers: Tensor | None
    if isinstance(given, Images):
        numbers = labels_by_name(given, names)
    elif given is None:
        numbers = None
    else:
        numbers = torch.tensor([class_number(opened, each) for each in given], dtype=torch.int64)
    if numbers is not None and len(numbers) != count:
        raise UserError(f"{len(numbers)} classes for {count} images: give one for each")
    missing = numbers is None or bool((numbers < 0).any())
    if missing and getattr(opened.model, "needs_labels", False):
        raise UserError(
            f"the model of {opened.run.folder} needs the class of each image, and these have none "
            "that it knows",
            hint="name one class for all of them (--class, or classes=), or give a folder with "
            f"one subfolder for each class; known: {one_of(names)}. Or train with "
            "label_dropping=0.1, so that the model also works without classes",
        )
    return () if numbers is None else (numbers,)


def refuse_classes(opened: OpenedRun) -> None:
    """Raises UserError if the model of a run knows no classes."""
    if label_classes(opened.model) is None:
        raise UserError(
            f"the model of {opened.run.folder} knows no classes, so a given class changes nothing",
            hint="leave --class (classes=) out, or train a ConditionalAutoencoder",
        )


def encoded_picture(
    opened: OpenedRun, unit: Tensor, of_class: str | None = None
) -> tuple[Tensor, str]:
    """The code of one picture, and the class it was taken for.

    A model that needs classes, and is given none, encodes the picture as each of them. The class
    with the nearest reproduction is taken, by the medium's own error.

    Args:
        opened: the run.
        unit: (1, C, H, W) in 0..1.
        of_class: the class of the picture, by name, for a model that knows classes.

    Returns:
        The code (1, ...) on the CPU; the name of the class, empty where none was used.

    Raises:
        UserError: there is no such class, or the model knows none.
    """
    given = from_unit(unit, opened.value_range)
    if of_class is not None:
        return opened.encode(given, classes=of_class).cpu(), of_class
    if not getattr(opened.model, "needs_labels", False):
        return opened.encode(given).cpu(), ""
    count = len(opened.classes)
    codes = opened.encode(given.repeat(count, 1, 1, 1), classes=range(count))
    made = to_unit(opened.decode(codes).float().cpu(), opened.value_range).clamp(0, 1)
    _, errors = opened.medium.errors(made, unit.repeat(count, 1, 1, 1))
    best = int(errors.argmin())
    return codes[best : best + 1].cpu(), opened.classes[best]


def class_number(opened: OpenedRun, name: str | int) -> int:
    """The number of a class of the run, by its name or number.

    Raises:
        UserError: there is no such class.
    """
    names = opened.classes
    if isinstance(name, int) and 0 <= name < len(names):
        return name
    if str(name) in names:
        return names.index(str(name))
    raise UserError(
        f"the sets of {opened.run.folder} have no class {name!r}{did_you_mean(str(name), names)}",
        hint=f"possible: {one_of(names) or 'none: the sets have no classes'}",
    )


def unit_images(images: Images) -> Tensor:
    """(N, C, H, W) float32 in 0..1."""
    return to_unit(chosen_images(images, torch.arange(len(images))), images.value_range)


def names_of(images: Images) -> list[str]:
    """The file name of each image; its number if it has none."""
    names = images.file_names or [""] * len(images)
    return [name or str(number) for number, name in enumerate(names)]


def described_set(opened: OpenedRun, text: str, option: str) -> Dataset:
    """Evaluates an expression for a data set, with the names of the run's own blocks.

    Args:
        opened: the run.
        text: the expression.
        option: the option in which it was given, for messages.
    """
    scope = scope_of(opened)
    for key, block in opened.spec.blocks.items():
        if key.startswith("globals."):
            scope.define(key.removeprefix("globals."), evaluate_block(block, scope))
    return set_of_block(scope, Block(text, Where(key=option)))


def set_of_block(scope: Scope, block: Block) -> Dataset:
    """Evaluates a block that describes a data set.

    Raises:
        UserError: it describes something else.
    """
    with torch.device("cpu"):
        dataset = evaluate_block(block, scope)
    if not isinstance(dataset, Dataset):
        raise UserError(f"{block.where}: must be a data set, not {type(dataset).__name__}")
    return dataset


def scope_of(opened: OpenedRun) -> Scope:
    """The names of the run's blocks, with the run's own permissions for reading."""
    names = catalogue.names(reading=opened.reading)
    trust = bool(opened.run.record.get("trust"))
    return opened.spec.scope(names, catalogue.attributes(), trust=trust)


def _named(opened: OpenedRun, text: str, shape: tuple[int, ...], reading: FolderReading) -> Images:
    """Images from the run's own set, a path, a name, or an expression."""
    if text in OWN:
        own = opened.parts.train if text == "train" else opened.parts.validation
        if not own:
            raise DataError(
                f"run {opened.run.folder} has no {text} set",
                hint=f"type the other one, or ./{text} for a folder of that name",
            )
        with located(own[-1].where):
            return own[-1].dataset.load()
    path = from_home(text)
    if not path.exists() and "(" in text:
        return _at(described_set(opened, text, "images"), shape).load()
    readers = PATH_READERS.values() if path.exists() else ()
    if path.is_dir() and not any(reader.reads(path) for reader in readers):
        read: dict[str, Any] = {"skip_corrupt": reading.skip_corrupt}
        channels = opened.medium.picture_channels
        if (channels or shape[0]) != 4:
            read["background"] = reading.background
        place = os.fspath(real(path))
        if opened.medium == PIXELS or channels:
            drawn = _drawn_shape(opened.medium, shape)
            return _as_stored(image_folder_dataset(place, drawn, **read).load(), opened.medium)
        return image_folder_dataset(place, **read).load()
    return _at(named(text), shape).load()


def _at(dataset: Dataset, shape: tuple[int, ...]) -> Dataset:
    if dataset.shape == shape or not dataset.medium.allows("resize"):
        return dataset
    return dataset.resize(shape)


def _pictures(
    given: Any, reading: FolderReading, *, keep_alpha: bool
) -> list[tuple[str, Tensor]] | None:
    """Name and pixels (C, H, W) of single pictures; None if something else is given."""
    if isinstance(given, Sequence) and not isinstance(given, str | bytes) and len(given):
        found = [_pictures(each, reading, keep_alpha=keep_alpha) for each in given]
        if all(each is not None for each in found):
            return [picture for each in found if each is not None for picture in each]
        return None
    if isinstance(given, Image.Image):
        return [("", picture_pixels(given))]
    if isinstance(given, str | os.PathLike):
        path = from_home(given)
        if path.is_file() and path.suffix.lower() in EXTENSIONS:
            behind = background_of(reading.background)
            return [(path.name, next(decode(real(path), background=behind, alpha=keep_alpha)))]
    return None


def _drawn_shape(medium: Medium, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W) of pictures that become images of `shape`: each element is drawn as a cell."""
    channels, height, width = shape
    rows, columns = medium.cell if medium.picture_channels else (1, 1)
    return medium.picture_channels or channels, height * rows, width * columns


def _fitted(
    pictures: list[tuple[str, Tensor]], shape: tuple[int, ...], reading: FolderReading
) -> Images:
    """Fits single pictures to one size: scaled, and cropped if their aspect differs."""
    size = (shape[0], shape[1], shape[2])
    behind = background_of(reading.background)
    pixels = [
        fit_picture(picture[None], size, filter_name(True), "crop", behind)
        for _, picture in pictures
    ]
    names = [name for name, _ in pictures]
    return make_images(torch.cat(pixels), file_names=names if any(names) else ())


def _as_stored(images: Images, medium: Medium) -> Images:
    """Pictures in the medium of the run, where it can convert them; else as they are."""
    if not medium.picture_channels:
        return images
    return replace(images, pixels=medium.stored_of(images.pixels), medium=medium)


def _size(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
