"""An opened run whose latent space is explored with a pointer: each answer in milliseconds.

A point of the latent space is said in plain values, so that a web page can ask for it:

    {"place": [x, y]}                     a place on the map
    {"image": 12}                         the code of an image of the map
    {"kept": 3}                           the code of a picture that was dropped before
    {"from": POINT, "to": POINT, "t": 0.3, "spherical": true}     on the way between two points

To each of them may be added `"directions": {"0": 1.5}`, steps along the principal directions, and
`"dimensions": {"7": -2}`, along single dimensions, both in standard deviations of the codes; and
`"classes": {"plus": 3, "minus": 5, "amount": 1}`, the mean code of a class minus that of another.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor

from aelab.assembly.parts import functions_of
from aelab.errors import ConfigError, UserError
from aelab.metrics import Subject, flat
from aelab.metrics.paths import linear_path, spherical_path
from aelab.metrics.samplers import SAMPLERS
from aelab.ops.labels import label_classes
from aelab.ops.nearest import nearest_rows
from aelab.ops.sampling import Region, same_borders
from aelab.ops.value_range import to_unit
from aelab.report.pictures import data_url, png_of
from aelab.study.evaluation import subject_of
from aelab.study.explorer import Thumbnails, thumbnails_of
from aelab.study.inputs import encoded_picture, unit_images
from aelab.study.latent_map import LatentMap, map_of
from aelab.study.rendering import Renderer, Request, region_of, renderer
from aelab.study.sampling import sampled_images
from aelab.tensor_pictures import png

if TYPE_CHECKING:
    from aelab.study.opened import OpenedRun

#: Images on the map, at most, and the greatest side of their thumbnails in pixels.
SHOWN, THUMBNAIL = 2_000, 32
#: Neighbours of a dropped picture, dropped pictures whose codes are kept, dimensions with sliders.
NEIGHBOURS, KEPT, DIMENSIONS = 8, 64, 16
#: Limits of one question: steps of a path, samples, pixels of a side, points in points.
MOST_STEPS, MOST_SAMPLES, MOST_PIXELS, DEEPEST = 24, 48, 512, 4
#: Training images among which the nearest of a sample is searched.
AMONG = 20_000

Point = Mapping[str, Any]


class Explored:
    """Answers about the latent space of one run.

    Args:
        opened: the run.
        limit: at most this many images on the map, drawn at random: held-out ones, or training
            images where there is no validation set.

    Raises:
        UserError: all images have the same code.
        DataError: the run has no images.
    """

    def __init__(self, opened: OpenedRun, limit: int = SHOWN) -> None:
        self.opened = opened
        with functions_of(opened.spec):
            self._subject = subject_of(
                opened, limit=limit, train_limit=0, every_class=True, or_train=True
            )
            self._shape = tuple(self._subject.latents.shape[1:])
            self.map: LatentMap = map_of(flat(self._subject.latents))
        self.medium = opened.medium
        self._kept: dict[int, Tensor] = {}
        self._next = 0

    # --- what is there

    @cached_property
    def atlas(self) -> Thumbnails:
        """Thumbnails of all images of the map, in its order."""
        return thumbnails_of(self._subject.images, self.medium, THUMBNAIL)

    @cached_property
    def atlas_png(self) -> bytes:
        """The same as a PNG file."""
        return png_of(self.atlas.picture)

    @cached_property
    def names(self) -> list[str]:
        """The file of each image, else its number in the set."""
        subject = self._subject
        return list(subject.file_names) or [f"no. {row}" for row in subject.rows]

    def facts(self) -> dict[str, Any]:
        """What a page needs to draw the map and its controls, as plain values."""
        subject, made = self._subject, self.map
        labels = subject.labels
        renders, model = self._renderer, self.opened.model
        return {
            "run": self.opened.run.folder,
            "state": self.opened.state,
            "images_seen": self.opened.images,
            "shape": list(subject.images.shape[1:]),
            "latent_shape": list(self._shape),
            "count": len(made.codes),
            "total": subject.heldout_total,
            "held_out": bool(self.opened.parts.validation),
            "map": _rounded(made.places),
            "spacing": made.spacing,
            "labels": None if labels is None else labels.tolist(),
            "classes": [] if labels is None else list(subject.classes),
            "given_classes": [] if label_classes(model) is None else list(self.opened.classes),
            "needs_class": bool(getattr(model, "needs_labels", False)),
            "names": self.names,
            "columns": self.atlas.columns,
            "tile": list(self.atlas.tile),
            "directions": _rounded(made.std),
            "dimensions": [[int(d), float(self._spread[d])] for d in self._strongest],
            "writes": bool(self.medium.texts(subject.images[:1])),
            "renders": None if renders is None else list(renders.default_shape),
            "samplers": ["auto", *SAMPLERS],
            "has_train": bool(self.opened.parts.train),
        }

    # --- questions

    def decode(self, point: Any, window: Any = None) -> dict[str, Any]:
        """The image at a point.

        Args:
            point: see the module.
            window: None; or for decoders of any size `{"width": pixels, "region": [x0, y0, x1,
                y1]}`, with the region as for `aelab render --zoom`; without a region the whole.

        Returns:
            `picture`, `text` (None for pictures), `place` on the map, `nearest` image of the map
            by its code and the `distance`, and `milliseconds`.

        Raises:
            UserError: it is no point, or the decoder has one size.
        """
        began = time.perf_counter()
        latent = self.latent_of(point)
        if window is None:
            unit = self._decoded(latent[None])
        else:
            unit = self._rendered(latent[None], window)
        far = (self.map.codes - latent).square().sum(1)
        row = int(far.argmin())
        return {
            **self._shown(unit),
            "place": _rounded(self.map.place_of(latent[None]))[0],
            "nearest": row,
            "distance": float(far[row].sqrt()),
            "milliseconds": _since(began),
        }

    def path(self, start: Any, end: Any, steps: int, spherical: bool) -> dict[str, Any]:
        """Images on the way from one point to another, both included.

        Returns:
            `pictures`, `texts`, and the `places` on the map.

        Raises:
            UserError: no points, or too many steps.
        """
        steps = _whole(steps, 2, MOST_STEPS, "steps")
        ends = self.latent_of(start), self.latent_of(end)
        way = (spherical_path if spherical else linear_path)(*ends, steps)
        made = self._decoded(way)
        return {
            "pictures": [self._picture(image[None]) for image in made],
            "texts": self.medium.texts(made),
            "places": _rounded(self.map.place_of(way)),
        }

    def look(self, picture: Path, of_class: str | None = None) -> dict[str, Any]:
        """A picture through the model, and the images of the map with the nearest codes.

        Args:
            picture: its file.
            of_class: the class it is given to the model with; None: see `encoded_picture`.

        Returns:
            `given` and `reconstruction` as pictures, `class` for which it was taken (empty for
            none), `texts` of both, `kept`: its number as a point, `place` on the
            map, `error` with its `unit`, `nearest`: rows and distances, and `milliseconds` of
            encoding and decoding.

        Raises:
            DataError: it is no picture.
            UserError: there is no such class, or the model knows none.
        """
        unit = unit_images(self.opened.inputs(picture))
        began = time.perf_counter()
        latent, taken_for = encoded_picture(self.opened, unit, of_class)
        code = flat(latent)[0]
        made = self._decoded(code[None])
        spent = _since(began)
        name, error = self.medium.errors(made.clamp(0, 1), unit)
        found = nearest_rows(code[None], self.map.codes, min(NEIGHBOURS, len(self.map.codes)))
        return {
            "given": self._picture(unit),
            "reconstruction": self._picture(made),
            "class": taken_for,
            "texts": self.medium.texts(torch.cat([unit, made])),
            "kept": self.keep(code),
            "place": _rounded(self.map.place_of(code[None]))[0],
            "unit": name,
            "error": float(error[0]),
            "nearest": [
                [row, float(apart)]
                for row, apart in zip(
                    found.rows[0].tolist(), found.distances[0].tolist(), strict=True
                )
            ],
            "milliseconds": spent,
        }

    def samples(self, count: int, sampler: str, seed: int) -> dict[str, Any]:
        """Sampled images, each with the training image that looks most similar.

        Returns:
            `samples`: each with `picture`, `text`, `kept`: its own code as a point, and `nearest`
            (None without training images): `picture`, `name`, `class`, `error`; and the `unit`.

        Raises:
            UserError: an unknown sampler, or too many.
        """
        count, seed = _whole(count, 1, MOST_SAMPLES, "samples"), _whole(seed, 0, 2**31, "seed")
        with functions_of(self.opened.spec):
            made = sampled_images(self.opened, sampler, count, seed).clamp(0, 1)
            codes = flat(self._subject.encode(made))
        texts: Sequence[str | None] = self.medium.texts(made) or [None] * count
        found: list[dict[str, Any]] = [
            {"picture": self._picture(made[n : n + 1]), "text": texts[n],
             "kept": self.keep(codes[n]), "nearest": None}
            for n in range(count)
        ]  # fmt: skip
        subject = self._with_train
        if subject is None:
            return {"samples": found, "unit": ""}
        rows = self.medium.nearest(made, subject.train_images)
        unit, errors = self.medium.errors(made, subject.train_images[rows])
        labels = subject.train_labels
        for n, row in enumerate(rows.tolist()):
            found[n]["nearest"] = {
                "picture": self._picture(subject.train_images[row : row + 1]),
                "class": "" if labels is None else subject.classes[int(labels[row])],
                "error": float(errors[n]),
            }
        return {"samples": found, "unit": unit}

    @cached_property
    def _with_train(self) -> Subject | None:
        """The training images, which are read at the first samples only."""
        if not self.opened.parts.train:
            return None
        return subject_of(self.opened, limit=1, train_limit=AMONG, or_train=True)

    # --- points

    def keep(self, code: Tensor) -> int:
        """Keeps a code (D,) as a point; the oldest of many are forgotten."""
        self._next += 1
        self._kept[self._next] = code
        while len(self._kept) > KEPT:
            self._kept.pop(next(iter(self._kept)))
        return self._next

    def latent_of(self, point: Any, depth: int = 0) -> Tensor:
        """The latent (D,) of a point.

        Raises:
            UserError: it is none.
        """
        if not isinstance(point, Mapping) or depth > DEEPEST:
            raise UserError('a point is an object, as in {"place": [0.5, -1]}')
        latent = self._base(point, depth)
        latent = latent + self._steps(point, "directions", self.map.std, self.map.axes.__getitem__)
        latent = latent + self._steps(point, "dimensions", self._spread, self._unit)
        classes = point.get("classes")
        if classes is not None:
            if not isinstance(classes, Mapping):
                raise UserError("`classes` is {plus, minus, amount}")
            amount = _number(classes.get("amount", 1), "amount")
            plus, minus = (self._class_mean(classes.get(name)) for name in ("plus", "minus"))
            latent = latent + amount * (plus - minus)
        if not torch.isfinite(latent).all():
            raise UserError("this point is too far away")
        return latent

    def _base(self, point: Point, depth: int) -> Tensor:
        if "place" in point:
            given = point["place"]
            if not isinstance(given, Sequence) or len(given) != 2:
                raise UserError("a place has two numbers")
            place = torch.tensor([[_number(value, "place") for value in given]])
            return self.map.latent_at(place)[0]
        if "image" in point:
            return self.map.codes[_whole(point["image"], 0, len(self.map.codes) - 1, "image")]
        if "kept" in point:
            kept = self._kept.get(_whole(point["kept"], 0, 2**53, "kept"))
            if kept is None:
                raise UserError("this picture is forgotten: drop it again")
            return kept
        if "from" in point and "to" in point:
            start, end = (self.latent_of(point[name], depth + 1) for name in ("from", "to"))
            t = min(max(_number(point.get("t", 0.5), "t"), 0.0), 1.0)
            # A path of 1001 steps has one at every thousandth of the way.
            path = spherical_path if point.get("spherical") else linear_path
            return path(start, end, 1001)[round(1000 * t)]
        raise UserError("a point has `place`, `image`, `kept`, or `from` and `to`")

    def _steps(
        self, point: Point, key: str, spread: Tensor, direction: Callable[[int], Tensor]
    ) -> Tensor | float:
        given = point.get(key)
        if given is None:
            return 0.0
        if not isinstance(given, Mapping):
            raise UserError(f"`{key}` is an object: number of it to standard deviations")
        moved = torch.zeros_like(self.map.mean)
        for name, value in given.items():
            number = _whole(int(name) if str(name).isdecimal() else -1, 0, len(spread) - 1, key)
            moved = moved + _number(value, key) * spread[number] * direction(number)
        return moved

    @cached_property
    def _spread(self) -> Tensor:
        """(D,) standard deviation of each dimension of the codes."""
        return self.map.codes.std(0)

    @cached_property
    def _strongest(self) -> list[int]:
        """The dimensions in which the codes differ most, the strongest first."""
        order = self._spread.argsort(descending=True, stable=True)[:DIMENSIONS]
        return [int(d) for d in order if self._spread[d] > 1e-6]

    def _unit(self, dimension: int) -> Tensor:
        return torch.nn.functional.one_hot(
            torch.tensor(dimension), len(self.map.mean)
        ).to(self.map.mean)  # fmt: skip

    def _class_mean(self, number: Any) -> Tensor:
        """The mean code (D,) of a class; the mean of all codes for None."""
        if number is None:
            return self.map.mean
        labels = self._subject.labels
        chosen = None
        if labels is not None:
            chosen = labels == _whole(number, 0, len(self._subject.classes) - 1, "class")
        if chosen is None or not chosen.any():
            raise UserError("there is no image of this class on the map")
        return self.map.codes[chosen].mean(0)

    # --- pictures

    def _decoded(self, codes: Tensor) -> Tensor:
        """Images (M, C, H, W) in 0..1 of codes (M, D), not clamped."""
        latents = codes.reshape(len(codes), *self._shape)
        made = self.opened.decode(latents.to(self._subject.latents.dtype)).float().cpu()
        return to_unit(made, self.opened.value_range)

    @cached_property
    def _renderer(self) -> Renderer | None:
        try:
            return renderer(self.opened, Request())
        except ConfigError:
            return None

    def _rendered(self, codes: Tensor, window: Any) -> Tensor:
        decoder = self._renderer
        if decoder is None:
            raise UserError(f"the decoder of {self.opened.run.folder} makes pictures of one size")
        if not isinstance(window, Mapping):
            raise UserError("a window is {width, region}")
        width = _whole(window.get("width"), 1, MOST_PIXELS, "width")
        height, own = decoder.default_shape
        size = max(1, min(MOST_PIXELS, round(width * height / own))), width
        region: Region = same_borders(decoder.default_shape, size)
        if window.get("region") is not None:
            region = region_of(window["region"])
        latents = codes.reshape(len(codes), *self._shape).to(self.opened.parts.device)
        with torch.no_grad():
            made = decoder.render(latents, size, region).float().cpu()
        return to_unit(made, decoder.value_range)

    def _shown(self, unit: Tensor) -> dict[str, Any]:
        texts = self.medium.texts(unit)
        return {"picture": self._picture(unit), "text": texts[0] if texts else None}

    def _picture(self, unit: Tensor) -> str:
        """An image (1, C, H, W) in 0..1 as an address that holds its PNG file."""
        drawn = self.medium.picture(unit.clamp(0, 1), checker=False)
        return data_url(png(rearrange(drawn, "1 c h w -> h w c")))


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"`{name}` must be a finite number")
    return float(value)


def _whole(value: Any, least: int, most: int, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise UserError(f"`{name}` must be a whole number from {least} to {most:,}")
    return value


def _rounded(values: Tensor) -> Any:
    rounded = values.double().mul(1e5).round().div(1e5)
    return rounded.tolist()


def _since(began: float) -> float:
    return round(1000 * (time.perf_counter() - began), 2)
