"""Checks of image sets before use: finite, in range, not constant, of the right shape and type.

Statistics cover whole tensors, in pieces of some megabytes, and are cached per set and process.
Nothing here changes a pixel.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from aelab.errors import DataError
from aelab.findings import Finding
from aelab.ops.augmented import changed_batch, floats
from aelab.ops.random import keyed_generator
from aelab.ops.value_range import UNIT, limits, range_words
from aelab.types import Augment, Images

#: Bytes that are checked in one piece.
PIECE = 16 << 20
#: Images that random changes are tried on.
TRIED = 32
#: Values outside of their range by less than this share of it are accepted: rounding, or the
#: overshoot of a filter (bicubic, Lanczos).
TOLERANCE = 0.02
#: Undeclared values beyond 0..1 by more than this have another unit: an error, not a note.
FAR = 8.0
#: Share of the training classes that a validation set may lack without a note.
FEW_CLASSES = 0.05
#: Likely divisors of unscaled images (8 and 16 bit); the smallest that fits is suggested.
_UNITS = (255, 65_535)
#: Cached results at most; each is a few numbers, or the hashes of a set.
_MOST_KNOWN = 256
_KNOWN: OrderedDict[Hashable, Any] = OrderedDict()


@dataclass(frozen=True)
class Values:
    """The range of values of some images, as model input.

    Attributes:
        low, high: of the finite values; NaN if there are none.
        bad_images: number of images with a value that is not finite.
        first_bad: index of the first of them, or None.
        bad_value: `NaN` or `infinity`, of the first of them.
    """

    low: float
    high: float
    bad_images: int = 0
    first_bad: int | None = None
    bad_value: str = ""


def remembered(key: Hashable, make: Callable[[], Any]) -> Any:
    """The cached result of `make()` for this key; calls it if there is none."""
    if key not in _KNOWN:
        _KNOWN[key] = make()
        if len(_KNOWN) > _MOST_KNOWN:
            _KNOWN.popitem(last=False)
    _KNOWN.move_to_end(key)
    return _KNOWN[key]


def row_pieces(pixels: Tensor, num_bytes: int = PIECE) -> Iterator[tuple[int, Tensor]]:
    """Splits pixels into (first row, rows) of at most `num_bytes` each, or one row."""
    row = max(1, pixels[:1].numel() * pixels.element_size())
    size = max(1, num_bytes // row)
    for start in range(0, len(pixels), size):
        yield start, pixels[start : start + size]


def values_of(pixels: Tensor) -> Values:
    """The range of values of (N, ...) images; uint8 counts as 0..1."""
    low, high, bad, first, value = math.inf, -math.inf, 0, None, ""
    for start, part in row_pieces(pixels):
        if part.is_complex() or part.numel() == 0:
            continue
        if part.dtype in (torch.uint16, torch.uint32, torch.uint64):
            part = part.to(torch.int64)  # torch has no aminmax for these types
        least, most = (float(v) for v in torch.aminmax(part))  # NaN if any value is NaN
        if not (math.isfinite(least) and math.isfinite(most)):
            good = torch.isfinite(part)
            rows = (~good).flatten(1).any(1).nonzero()[:, 0]
            if first is None:
                first = start + int(rows[0])
                value = "NaN" if bool(part[rows[0]].isnan().any()) else "infinity"
            bad += len(rows)
            left = part[good]
            if not left.numel():
                continue
            least, most = (float(v) for v in torch.aminmax(left))
        low, high = min(low, least), max(high, most)
    scale = 1 / 255 if pixels.dtype == torch.uint8 else 1.0
    if low > high:
        return Values(math.nan, math.nan, bad, first, value)
    return Values(low * scale, high * scale, bad, first, value)


def values_of_set(images: Images) -> Values:
    """`values_of` the pixels of a set; cached if the set has a content hash."""
    if not images.content_sha256:
        return values_of(images.pixels)
    found: Values = remembered(("values", images.content_sha256), lambda: values_of(images.pixels))
    return found


def tried(images: Images, further: Sequence[Augment] = ()) -> Tensor:
    """Some images, evenly spaced, after the set's random changes and `further` changes.

    Returns:
        (at most 32, C, H, W) float32.
    """
    count = min(TRIED, len(images))
    rows = torch.linspace(0, len(images) - 1, count, dtype=torch.float64).round().long()
    changes = (*images.augment, *further)
    return changed_batch(images.pixels, rows, changes, keyed_generator(0, "look"))


def made_images(shape: Sequence[int]) -> Images:
    """Two sample images (C, H, W) for checks without data: noise that includes 0 and 1."""
    pixels = torch.rand(2, *shape, generator=keyed_generator(0, "made"))
    pixels.view(2, -1)[:, 0], pixels.view(2, -1)[:, -1] = 0.0, 1.0
    return Images(pixels)


def input_findings(images: Images, name: str, changes: Sequence[Augment]) -> list[Finding]:
    """Problems of input transforms, tried on some images of a set.

    Raises:
        AelabError: raised by a transform of the lab on these images.
    """
    if not changes:
        return []
    before = tried(images)
    after = before.clone()
    generator = keyed_generator(0, "look-input")
    for change in changes:
        after = change(after, generator)
    if not isinstance(after, Tensor) or len(after) != len(before) or after.ndim != 4:
        shape = tuple(after.shape[1:]) if isinstance(after, Tensor) else type(after).__name__
        text, way = f"images of {tuple(before.shape[1:])} become {shape}", "return one image each"
    elif not bool(torch.isfinite(after).all()):
        text, way = "they turn an image into NaN or infinity", "check divisions and logarithms"
    elif float(after.abs().max()) > FAR * max(map(abs, (*limits(images.value_range), 1.0))):
        text = f"they give values up to {float(after.abs().max()):.4g} for images in "
        text, way = (
            text + range_words(images.value_range),
            "images are given as 0..1, not as 0..255",
        )
    else:
        return []
    return [Finding("problem", "input-transforms", f"{name}: {text}", way)]


def findings_in_images(images: Images, name: str) -> list[Finding]:
    """Problems and notes about one set.

    Args:
        name: used in messages, for instance `train_set`.
    """
    pixels = images.pixels
    shape_problem = _shape_problem(pixels, name)
    if shape_problem:
        return [shape_problem]
    values = values_of_set(images)
    found = _not_finite(values, images, name)
    if images.medium.is_brightness:
        declared_later = any(getattr(change, "sets_range", False) for change in images.augment)
        if not declared_later:
            found += _out_of_range(values, images, name)
        if not found and images.augment:
            found += _after_changes(images, name)
    return [*found, *_constant(images, values, name), *_labels(images, name)]


def loss_findings(
    images: Images, name: str, ranges: Mapping[str, tuple[float, float]], level: str = "problem"
) -> list[Finding]:
    """Terms of the objective that do not accept the values of a set.

    Args:
        ranges: term -> (least, greatest) target value that it accepts.
        level: of the findings, `problem` or `note`.
    """
    if not ranges:
        return []
    values = seen_values(images)
    found = []
    for term, (low, high) in ranges.items():
        slack = TOLERANCE * (high - low) if math.isfinite(high - low) else TOLERANCE
        if values.low < low - slack or values.high > high + slack:
            found.append(
                Finding(
                    "problem" if level == "problem" else "note",
                    "data-loss-range",
                    f"{name}: {term} compares with images in {_interval(low, high)}, these have "
                    f"values from {values.low:.4g} to {values.high:.4g}",
                    _way_to_unit(images, values) + ", or use another loss: l1, l2",
                )
            )
    return found


def noisy_target_findings(
    name: str, ranges: Mapping[str, tuple[float, float]], noise: float
) -> list[Finding]:
    """Terms that do not accept targets with noise; the old trainer adds noise to targets too."""
    return [
        Finding(
            "problem",
            "data-loss-range",
            f"{name}: {term} compares with images in {_interval(low, high)}, and training_noise: "
            f"{noise:g} is in the target too and leaves it",
            "use another loss: l1, l2, or leave the legacy objective or the noise out",
        )
        for term, (low, high) in ranges.items()
        if noise
    ]


def seen_values(images: Images) -> Values:
    """The range of values of the model's input, including random changes if there are any."""
    before = values_of_set(images)
    if not images.augment:
        return before
    after = values_of(tried(images))
    ranged = any(getattr(change, "sets_range", False) for change in images.augment)
    if ranged:
        return after
    return Values(min(before.low, after.low), max(before.high, after.high))


def overlap_findings(train: Images, validation: Images, names: tuple[str, str]) -> list[Finding]:
    """A note about validation images that are also training images, value for value."""
    ours, theirs = names
    if train.content_sha256 and train.content_sha256 == validation.content_sha256:
        return [same_set(names)]
    shared, first = shared_images(train, validation)
    if not shared:
        return []
    return [
        Finding(
            "note",
            "data-overlap",
            f"{theirs}: {shared:,} of {len(validation):,} images ({shared / len(validation):.1%}) "
            f"are in {ours} too, image {first} for instance",
            "split before images are repeated, resized or drawn; another seed for generated sets",
        )
    ]


def same_set(names: tuple[str, str]) -> Finding:
    """The note for a validation set that equals the training set."""
    return Finding(
        "note",
        "data-overlap",
        f"{names[1]}: the same images as {names[0]}, so the validation loss says nothing about "
        "new images",
        "take other images: validation=True, train=False, another seed, or .skip(n)",
    )


def shared_images(train: Images, validation: Images) -> tuple[int, int]:
    """Number of validation images that are also training images, and the index of the first."""

    def count() -> tuple[int, int]:
        """The same, without the cache."""
        if train.pixels.shape[1:] != validation.pixels.shape[1:]:
            return 0, -1
        same_type = train.pixels.dtype == validation.pixels.dtype
        ours, theirs = _hashes(train, same_type), _hashes(validation, same_type)
        # Sort and binary search: N log N, where comparing all pairs would be N * M.
        ordered, places = ours.sort()
        at = torch.searchsorted(ordered, theirs).clamp(max=len(ordered) - 1)
        rows = (ordered[at] == theirs).nonzero()[:, 0]
        if not len(rows):
            return 0, -1
        # Different images may share a hash by chance, so matches are compared value by value.
        kept = []
        for part in torch.split(rows, 4096):
            left = floats(train.pixels[places[at[part]]]).flatten(1)
            kept.append(part[(left == floats(validation.pixels[part]).flatten(1)).all(1)])
        same = torch.cat(kept)
        return len(same), int(same[0]) if len(same) else -1

    if not (train.content_sha256 and validation.content_sha256):
        return count()
    key = ("shared", train.content_sha256, validation.content_sha256)
    found: tuple[int, int] = remembered(key, count)
    return found


def _hashes(images: Images, as_stored: bool) -> Tensor:
    """Hashes of the images, (N,) int64; equal images have equal hashes."""

    def make() -> Tensor:
        """The same, without the cache."""
        # Into one tensor: small results kept between large temporary ones would stop the allocator
        # from using their memory again, so that the whole set would be in memory once more.
        hashes = torch.empty(len(images), dtype=torch.int64)
        for start, part in row_pieces(images.pixels):
            rows = part if as_stored else floats(part)
            hashes[start : start + len(part)] = row_hashes(rows)
        return hashes

    if not images.content_sha256:
        return make()
    found: Tensor = remembered(("hashes", images.content_sha256, as_stored), make)
    return found


def row_hashes(rows: Tensor) -> Tensor:
    """Hashes of rows, (N, ...) -> (N,) int64: 8-byte words times odd random numbers, mod 2^64."""
    flat = rows.contiguous().view(len(rows), -1)
    flat = flat.view(torch.uint8) if flat.dtype != torch.bool else flat.to(torch.uint8)
    missing = -flat.shape[1] % 8
    if missing:
        flat = torch.nn.functional.pad(flat, (0, missing))
    numbers = flat.contiguous().view(torch.int64)
    generator = torch.Generator().manual_seed(2026)
    # Odd factors are invertible mod 2^64: the product loses no bits of a word.
    factors = torch.randint(-(1 << 62), 1 << 62, (numbers.shape[1],), generator=generator) * 2 + 1
    # A product mod 2^64 passes bits only upwards, so the shift first brings high bits down. Its
    # copies of the sign are cut off: with them a word and its complement would be the same.
    mixed = numbers ^ ((numbers >> 31) & ((1 << 33) - 1))
    return (mixed * factors).sum(1)


def label_findings(train: Images, validation: Images, names: tuple[str, str]) -> list[Finding]:
    """Notes about classes that only one of the two sets has."""
    if train.labels is None or validation.labels is None:
        return []
    named = bool(train.label_names and validation.label_names)
    ours, theirs = _classes(train, named), _classes(validation, named)
    found = []
    missing = ours - theirs
    if len(missing) < FEW_CLASSES * len(ours):  # a small set need not have all of many classes
        missing = set()
    for only, name, other in ((theirs - ours, *names[::-1]), (missing, *names)):
        if only:
            more = f" and {len(only) - 5} more" if len(only) > 5 else ""
            found.append(
                Finding(
                    "note",
                    "data-labels-differ",
                    f"{name}: has images of class {', '.join(sorted(only)[:5])}{more}, {other} has "
                    "none",
                    "measures of classes use the classes of both sets; split each class",
                )
            )
    return found


def pair_findings(train: Images, validation: Images, names: tuple[str, str]) -> list[Finding]:
    """Problems and notes about a training set together with a validation set."""
    ours, theirs = names
    found = []
    if train.shape != validation.shape:
        found.append(shapes_differ(train.shape, validation.shape, names))
    if train.value_range != validation.value_range:
        found.append(
            Finding(
                "problem",
                "data-ranges-differ",
                f"{theirs}: images in {range_words(validation.value_range)}, those of {ours} are "
                f"in "
                f"{range_words(train.value_range)}",
                "change both sets in the same way, or declare black and white: "
                ".values_between(-1, 1)",
            )
        )
    if found:
        return found
    return [*overlap_findings(train, validation, names), *label_findings(train, validation, names)]


def shapes_differ(ours: Sequence[int], theirs: Sequence[int], names: tuple[str, str]) -> Finding:
    """The problem for two sets whose images have different shapes."""
    first, second = ("x".join(map(str, shape)) for shape in (ours, theirs))
    return Finding(
        "problem",
        "data-shapes-differ",
        f"{names[1]}: the image sets have different shapes: {second} here, {first} in {names[0]}",
        "give each the same shape=",
    )


def _shape_problem(pixels: Tensor, name: str) -> Finding | None:
    shape = tuple(pixels.shape)
    if pixels.ndim == 4 and min(shape) > 0 and not pixels.is_complex():
        height, width = shape[1:3]
        # (N, H, W, C): the last axis is 3 or 4 while the "height and width" axes are larger.
        last_is_channels = min(height, width) > 4 and (
            shape[3] in (3, 4) or (shape[3] == 1 and height == width)
        )
        if not last_is_channels:
            return None
        return Finding(
            "problem",
            "data-channels-last",
            f"{name}: images of shape {shape[1:]} are channels last; an image is (channels, "
            "height, width)",
            "channels first: images.permute(0, 3, 1, 2)",
        )
    if shape[:1] == (0,):
        return Finding(
            "problem", "data-no-images", f"{name}: the image set is empty", "give some images"
        )
    if pixels.ndim == 3 and min(shape) > 0:
        way = "add the channel: images[:, None] makes (N, 1, height, width) of it"
    else:
        way = "images are (N, channels, height, width), uint8 or float"
    return Finding(
        "problem",
        "data-no-images",
        f"{name}: a tensor of shape {shape} is not a set of images",
        way,
    )


def _not_finite(values: Values, images: Images, name: str) -> list[Finding]:
    if values.first_bad is None:
        return []
    count, first = values.bad_images, values.first_bad
    others = f", and {count - 1:,} more of {len(images):,}" if count > 1 else ""
    return [
        Finding(
            "problem",
            "data-not-finite",
            f"{name}: image {first}{image_name(images, first)} has a pixel that is "
            f"{values.bad_value}{others}",
            "repair or leave out such images: .filter(lambda x: x.isfinite().all())",
        )
    ]


def refuse_not_finite(images: Images, name: str) -> None:
    """Checks that every pixel of a set is finite.

    Raises:
        DataError: names the first image that is not.
    """
    for found in _not_finite(values_of_set(images), images, name):
        raise DataError(found.message, hint=found.way_out)


def image_name(images: Images, row: int) -> str:
    """` (cat.png)` if the set has file names, else an empty text."""
    files = images.facts.get("files") or ()
    return f" ({files[row]})" if row < len(files) else ""


def _out_of_range(values: Values, images: Images, name: str, after: str = "") -> list[Finding]:
    low, high = limits(images.value_range)
    slack = TOLERANCE * (high - low)
    if not (values.low < low - slack or values.high > high + slack):
        return []
    found = f"{name}: values from {values.low:.4g} to {values.high:.4g}{after}"
    if images.value_range != UNIT:
        return [
            Finding(
                "note",
                "data-out-of-range",
                f"{found}, declared as {range_words(images.value_range)}; values beyond are "
                f"clipped in "
                "pictures and measures",
                "declare black and white: .values_between(low, high)",
            )
        ]
    if values.low >= -FAR and values.high <= 1 + FAR:
        return [
            Finding(
                "note",
                "data-out-of-range",
                f"{found}; pictures and measures use 0 as black and 1 as white, and clip "
                "values beyond",
                f"declare black and white: .values_between({values.low:.3g}, "
                f"{values.high:.3g}), or scale to 0..1",
            )
        ]
    return [
        Finding(
            "problem",
            "data-out-of-range",
            f"{found}; images are in 0..1, or uint8",
            _way_to_unit(images, values)
            + "; or declare black and white: .values_between(low, high)",
        )
    ]


def _way_to_unit(images: Images, values: Values) -> str:
    unit = next((unit for unit in _UNITS if values.high <= unit * 1.01), None)
    if values.low >= -0.01 and values.high > 1 + FAR and unit:
        return f"divide by {unit}: images / {unit}, or give uint8"
    if images.value_range == (-1.0, 1.0):
        return "scale them to 0..1: leave normalize_between out, or (images + 1) / 2"
    return "scale them to 0..1: (images - low) / (high - low)"


def _after_changes(images: Images, name: str) -> list[Finding]:
    values = values_of(tried(images))
    if values.first_bad is not None:
        return [
            Finding(
                "problem",
                "data-not-finite",
                f"{name}: its random changes give {values.bad_value} for "
                f"{values.bad_images} of {min(TRIED, len(images))} images",
                "a division by an image's spread or maximum fails on an even image",
            )
        ]
    return _out_of_range(values, images, name, " after its random changes")


def _constant(images: Images, values: Values, name: str) -> list[Finding]:
    if values.first_bad is not None:
        return []
    text = ""
    if values.low == values.high:
        text = f"every pixel of every image is {values.low:.4g}"
    elif len(images) == 1:
        text = "one image only"
    elif all_equal(images.pixels):
        text = f"all {len(images):,} images are the same"
    if not text:
        return []
    return [
        Finding(
            "note", "data-constant", f"{name}: {text}", "look at it with: aelab data NAME or PATH"
        )
    ]


def all_equal(pixels: Tensor) -> bool:
    """Whether all images are the same. Compares the first two first, which usually differ."""
    if len(pixels) > 1 and not torch.equal(pixels[0], pixels[1]):
        return False
    return all(bool((part == pixels[:1]).all()) for _, part in row_pieces(pixels))


def _labels(images: Images, name: str) -> list[Finding]:
    labels = images.labels
    if labels is None:
        return []
    if labels.shape != (len(images),) or labels.is_floating_point() or labels.is_complex():
        return [
            Finding(
                "problem",
                "data-labels",
                f"{name}: labels of shape {tuple(labels.shape)}, {labels.dtype}, for "
                f"{len(images):,} images",
                "labels are one whole number per image: (N,) int64",
            )
        ]
    return []


def _classes(images: Images, named: bool) -> set[str]:
    """The classes that occur in a set, by name if both sets have names."""
    names = images.label_names
    numbers: list[int] = [] if images.labels is None else torch.unique(images.labels).tolist()
    return {repr(names[n]) if named and 0 <= n < len(names) else str(n) for n in numbers}


def _interval(low: float, high: float) -> str:
    if math.isfinite(low) and math.isfinite(high):
        return f"{low:g}..{high:g}"
    return f"{low:g} or more" if math.isfinite(low) else f"{high:g} or less"
