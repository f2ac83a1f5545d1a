"""The list of known sets with their places, and the statistics and pictures of one set."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from aelab.data import DATASETS
from aelab.data.dataset import Dataset
from aelab.data.image_filter import png_ratio
from aelab.data.listed import ListedAs
from aelab.data.prepare import prepare
from aelab.data.sources.arrays import array_dataset
from aelab.data.sources.atlas import atlas_dataset
from aelab.data.sources.csv_pixels import csv_dataset
from aelab.data.sources.decode import file_shape, is_animated
from aelab.data.sources.file_types import file_type_of
from aelab.data.sources.mnist import idx_dataset
from aelab.data.sources.other_arrays import other_arrays
from aelab.data.sources.pictures import image_folder_dataset, reader_of
from aelab.data.split import first_of_each
from aelab.errors import AelabError, DataError, did_you_mean, one_of
from aelab.files import NoPicture, irregular
from aelab.ops.classes import common_classes
from aelab.ops.color import convert_channels, over_checker
from aelab.ops.look import findings_in_images
from aelab.ops.resize import resize as resize_pixels
from aelab.ops.subset import show_order
from aelab.parts import Table
from aelab.roots import from_home, real
from aelab.types import Images

#: Images used for costly statistics, evenly spaced over the set.
SAMPLE_IMAGES = 10_000
_PNG_IMAGES = 500
_FILTERS = ("nearest", "bilinear")
#: Number of images shown as texts, for media whose images are texts.
_EXAMPLES = 3


def listings() -> dict[str, str]:
    """Short name of each set that `aelab data NAME` knows -> its name in `DATASETS`.

    Sets of installed packages are among them, if they are `listed`. Any path of a folder, sheet or
    IDX file works, too.
    """
    found = {name: getattr(part, "listing", None) for name, part in DATASETS.items()}
    return {listing.name: name for name, listing in found.items() if isinstance(listing, ListedAs)}


def _half(name: str, validation: bool) -> Dataset:
    """The training or validation half of a listed set, by its name in `DATASETS`."""
    listing: ListedAs = DATASETS[name].listing  # type: ignore[attr-defined]
    return listing.make(DATASETS[name], validation)


@dataclass(frozen=True)
class PathReader:
    """A further kind of files, read by an optional part or a package, for `aelab data PATH` only.

    Attributes:
        reads: whether an existing path is of this kind.
        make: makes the set of a path.
        what: the kind in words, for messages.
    """

    reads: Callable[[Path], bool]
    make: Callable[[str], Dataset]
    what: str


#: Kinds of files besides pictures, sheets, IDX and NumPy files.
PATH_READERS: Table[PathReader] = Table("path reader", "aelab.path_readers", {})


@dataclass(frozen=True)
class Overview:
    """A summary of one set.

    Attributes:
        statistics: plain values by name.
        sheet: (3, H, W) uint8, a contact sheet of images evenly spaced over the set.
        comparison: native, nearest and bilinear side by side, (3, H, W) uint8, if asked for.
        examples: a few images as texts, for media whose images are texts.
    """

    statistics: dict[str, Any]
    sheet: Tensor
    comparison: Tensor | None
    examples: tuple[str, ...] = ()


def list_datasets() -> list[dict[str, str]]:
    """`{name, status, description}` of each known set; reads no pixels."""
    entries = []
    for short, name in listings().items():
        try:
            status = _half(name, False).sources()[0][1]
        except AelabError as error:
            status = error.message.splitlines()[0]
        entries.append({"name": short, "status": status, "description": DATASETS.summary(name)})
    return entries


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading a path; None leaves the default of the data set.

    Attributes:
        skip_corrupt: for a folder: leave unreadable files out.
        background: the colour behind transparent pixels.
        tile, stride, offset: for a sheet: a number or (height, width).
    """

    skip_corrupt: bool = False
    background: str | None = None
    tile: int | tuple[int, int] | None = None
    stride: int | tuple[int, int] | None = None
    offset: int | tuple[int, int] | None = None

    def of_folder(self) -> dict[str, Any]:
        """Arguments of `image_folder_dataset`.

        Raises:
            DataError: an option for sheets was given.
        """
        self._refuse("a sheet", tile=self.tile, stride=self.stride, offset=self.offset)
        given = {"skip_corrupt": self.skip_corrupt or None, "background": self.background}
        return {name: value for name, value in given.items() if value is not None}

    def of_sheet(self) -> dict[str, Any]:
        """Arguments of `atlas_dataset`.

        Raises:
            DataError: an option for folders was given.
        """
        self._refuse("a folder of pictures", skip_corrupt=self.skip_corrupt or None)
        given = {"tile": self.tile, "stride": self.stride, "offset": self.offset}
        given |= {"background": self.background}  # type: ignore[dict-item]
        return {name: value for name, value in given.items() if value is not None}

    def refuse_all(self) -> None:
        """Raise if any option was given, for sets that are neither folders nor sheets.

        Raises:
            DataError: an option was given.
        """
        self.of_folder()
        self.of_sheet()
        self._refuse("a folder of pictures or a sheet", background=self.background)

    def _refuse(self, what: str, **given: Any) -> None:
        for name, value in given.items():
            if value is not None:
                option = name.replace("_", "-")
                raise DataError(f"--{option} is for {what}", hint="leave it out")


def overview(
    name: str, *, resize: int | None = None, reading: ReadOptions | None = None
) -> Overview:
    """Statistics and pictures of one set.

    Args:
        name: a name of `listings()`, with `:validation` for the other half; or a path.
        resize: side in pixels at which the resize filters are compared.
        reading: options for reading a path.
    """
    images = named(name, reading or ReadOptions()).load()
    medium = images.medium
    compared = None
    if resize is not None:
        medium.refuse(name, "--resize")
        compared = comparison(images, _side(resize))
    columns, rows = medium.sheet
    chosen = medium.drawn(evenly_spaced(images.pixels, columns * rows, images.labels))
    examples = medium.examples(evenly_spaced(images.pixels, _EXAMPLES, images.labels))
    sheet = contact_sheet(chosen, columns, rows)
    return Overview(statistics(images), sheet, compared, tuple(examples))


def named(name: str, reading: ReadOptions = ReadOptions()) -> Dataset:  # frozen
    """The set for a name or a path.

    Raises:
        DataError: there is no such name or path; lists the possible ones.
    """
    short, _, half = name.partition(":")
    short = short.removesuffix("_dataset").removesuffix("_tile_dataset_3x32x32")
    known = listings()
    if short in known and half in ("", "train", "validation"):
        reading.refuse_all()
        return _half(known[short], half == "validation")
    path = from_home(name)
    if path.exists() and not path.is_dir() and irregular(path):
        raise DataError(f"{name} is {irregular(path)}, not a file", hint=f"possible: {_possible()}")
    if path.exists() and not path.name.endswith("ubyte"):
        for reader in PATH_READERS.values():
            if reader.reads(path):
                reading.refuse_all()
                return reader.make(os.fspath(real(path)))
    if path.is_dir():
        return image_folder_dataset(os.fspath(real(path)), **reading.of_folder())
    if path.is_file():
        if path.name.removesuffix(".gz").endswith("ubyte"):
            reading.refuse_all()
            return idx_dataset(os.fspath(real(path)))
        if path.suffix.lower() in (".npy", ".npz") or other_arrays(path) is not None:
            reading.refuse_all()
            return array_dataset(os.fspath(real(path)))
        if path.name.lower().removesuffix(".gz").endswith(".csv"):
            reading.refuse_all()
            return csv_dataset(os.fspath(real(path)))
        if reader_of(path) is not None or is_animated(path):
            return image_folder_dataset(os.fspath(real(path)), **reading.of_folder())
        _check_picture(path)
        return atlas_dataset(os.fspath(real(path)), **reading.of_sheet())
    if path.name != name:
        raise DataError(f"there is no such path: {name}", hint=f"possible: {_possible()}")
    raise DataError(
        f"no data set is called {name!r}{did_you_mean(short, known)}",
        hint=f"possible: {_possible()}",
    )


def _possible() -> str:
    return (
        f"{one_of(listings())}, each also with :validation; or the path of "
        + ", ".join(reader.what for reader in PATH_READERS.values())
        + (", " if PATH_READERS else "")
        + "a folder, ZIP or tar archive or Parquet table of pictures, a film, an animation, "
        "a sheet of 32x32 tiles, a file of arrays (NumPy, .pt, HDF5, MATLAB), IDX or CSV"
    )


def _check_picture(path: Path) -> None:
    """Raise if a file is no picture, for instance the experiment file itself.

    Raises:
        DataError: it is an experiment file, or of another kind that is no picture.
    """
    ending = path.suffix.lower()
    if ending in (".yml", ".yaml"):
        raise DataError(
            f"{path} is an experiment file, not a data set",
            hint=f"check its data sets with: aelab check {path}; aelab data takes one of "
            f"{one_of(listings())}, or the path of a folder of pictures",
        )
    try:
        file_shape(path)
    except NoPicture as error:
        kind = file_type_of(path)
        ending = f"a {ending} file" if ending else "a file"
        raise DataError(
            f"{path} is {ending}, not a picture{f': it is {kind.name}' if kind else ''}",
            hint=f"{error.hint}\n  possible: {_possible()}",
        ) from None


def statistics(images: Images) -> dict[str, Any]:
    """Numbers that show how hard a set is to reconstruct.

    Returns:
        count, shape, source and hash; `mean` and `std` of all values in 0..1; `entropy_bits` of the
        distribution of values; `png_bits_per_pixel`; `duplicates`; and the floors: the errors of a
        model that always outputs the same image (the median image for l1, the mean image for l2).
        For another medium its own `statistics` replace those of brightness.
    """
    pixels = evenly_spaced(images.pixels, SAMPLE_IMAGES)
    own = images.medium.statistics(images.pixels, pixels)
    found = {
        "name": "+".join(entry.name for entry in images.provenance),
        "source": ", ".join(entry.source for entry in images.provenance),
        "count": len(images),
        "shape": list(images.shape),
        **(_of_brightness(images, pixels) if own is None else own),
        "duplicates": len(images) - len(first_of_each(_as_bytes(images.pixels))),
        "looked_at": len(pixels),
        "sha256": images.content_sha256,
    }
    if images.labels is not None and (counts := _label_counts(images)):
        found["labels"] = counts
    share = images.facts.get("transparent_share")
    if share:
        found["transparent"] = f"{share:.1%} of the pixels"
    if images.facts.get("left_out"):
        found["left_out"] = dict(images.facts["left_out"])
    looked = [finding.message for finding in findings_in_images(images, str(found["name"]))]
    notes = [*(entry.note for entry in images.provenance if entry.note), *looked]
    note = "; ".join(dict.fromkeys(notes))
    return {**found, "note": note} if note else found


def _of_brightness(images: Images, pixels: Tensor) -> dict[str, Any]:
    bytes_ = _as_bytes(pixels)
    values = bytes_.flatten(1).float() / 255.0
    # Entropy of the histogram of values: -sum p log2 p over the values that occur, at most 8 bits.
    counts = torch.bincount(bytes_.flatten().int(), minlength=256).double()
    shares = counts[counts > 0] / counts.sum()
    sample = evenly_spaced(bytes_, _PNG_IMAGES).float() / 255.0
    return {
        "mean": float(values.mean()),
        "std": float(values.std()),
        "channel_means": [float(v) for v in bytes_.float().mean((0, 2, 3)) / 255.0],
        "entropy_bits": float(-(shares * shares.log2()).sum()),
        "png_bits_per_pixel": float(png_ratio(sample).mean()) * 8 * images.shape[0],
        # The median minimises the absolute error, the mean the squared one.
        "floor_l1": float((values - values.median(0).values).abs().mean()),
        "floor_l2": float((values - values.mean(0)).square().mean()),
    }


def contact_sheet(pixels: Tensor, columns: int = 16, rows: int = 8) -> Tensor:
    """(3, H, W) uint8: a grid of images evenly spaced over a set, small ones enlarged.

    Args:
        pixels: (N, C, H, W).
        columns: most images in a row.
        rows: most rows of images.
    """
    chosen = _as_bytes(evenly_spaced(pixels, columns * rows))
    # A whole factor that brings the longer side to about 64 pixels; pixels stay square and sharp.
    zoom = max(1, 64 // max(chosen.shape[-2:]))
    chosen = _rgb(chosen).repeat_interleave(zoom, 2).repeat_interleave(zoom, 3)
    columns = min(columns, len(chosen))
    missing = -len(chosen) % columns
    chosen = torch.cat([chosen, chosen.new_zeros(missing, *chosen.shape[1:])])
    count, _, height, width = chosen.shape
    # (rows, columns, 3, h, w) -> (3, rows, h, columns, w), then rows and h, columns and w join.
    grid = chosen.view(count // columns, columns, 3, height, width).permute(2, 0, 3, 1, 4)
    return grid.reshape(3, count // columns * height, columns * width)


def comparison(images: Images, side: int, columns: int = 10) -> Tensor:
    """(3, H, W) uint8: a row of original images, and a row resized to `side` by each filter."""
    chosen = _as_bytes(evenly_spaced(images.pixels, columns, images.labels))
    wanted = (images.shape[0], side, side)
    versions = {f"native {images.shape[1]}x{images.shape[2]}": chosen}
    for name in _FILTERS:
        versions[f"{name} {side}x{side}"] = prepare(chosen, wanted, name)
    height = max(96, side, images.shape[1])
    width = height * images.shape[2] // images.shape[1] or 1
    strips = []
    for title, version in versions.items():
        strips.append(_title(title, width * len(chosen)))
        shown = resize_pixels(_rgb(version), (height, width), "nearest-exact")
        # (n, 3, h, w) -> (3, h, n * w): the images side by side.
        strips.append(shown.permute(1, 2, 0, 3).flatten(2))
    return torch.cat(strips, dim=1)


def contact_sheet_png(picture: Tensor) -> bytes:
    """A (3, H, W) uint8 picture as the bytes of a PNG file."""
    file = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy()).save(file, "PNG")
    return file.getvalue()


def evenly_spaced(pixels: Tensor, count: int, labels: Tensor | None = None) -> Tensor:
    """At most `count` images, evenly spaced; with labels, classes are balanced where possible."""
    if len(pixels) <= count:
        return pixels
    if labels is not None:
        return pixels[show_order(len(pixels), labels)[:count].sort().values]
    # Evenly spaced, not the first ones: sets are often sorted by class.
    return pixels[torch.linspace(0, len(pixels) - 1, count).round().long()]


def _as_bytes(pixels: Tensor) -> Tensor:
    if pixels.dtype == torch.uint8:
        return pixels
    return (pixels.clamp(0, 1) * 255.0).round().to(torch.uint8)


def _rgb(pixels: Tensor) -> Tensor:
    if pixels.shape[1] in (1, 3):
        return convert_channels(pixels, 3)
    if pixels.shape[1] == 4:
        return over_checker(pixels)
    return convert_channels(pixels[:, :1], 3)


def _title(text: str, width: int) -> Tensor:
    strip = Image.new("RGB", (width, 18), "white")
    ImageDraw.Draw(strip).text((4, 3), text, fill="black")
    values = torch.frombuffer(bytearray(strip.tobytes()), dtype=torch.uint8)
    return values.view(18, width, 3).permute(2, 0, 1)


def _label_counts(images: Images) -> dict[str, int]:
    assert images.labels is not None
    (labels,), names = common_classes([images])
    if labels is None:  # several numbers an image, or fractions: no classes
        return {}
    counts = torch.bincount(labels, minlength=len(names)).tolist()
    return dict(zip(names, counts, strict=True))


def _side(value: int) -> int:
    if not 1 <= int(value) <= 4096:
        raise DataError(f"--resize takes a side of 1 to 4096 pixels, got {value}")
    return int(value)
