"""Generated sets with known factors: white shapes on black, and coloured shapes in a scene.

Each image is one combination of the values of all factors. They are drawn by asking at several
points of each pixel whether a shape covers it, many images at once.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from aelab.data.base import Source, content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.pixel_room import PixelRoom
from aelab.data.prepare import checked_shape
from aelab.errors import DataError
from aelab.ops.random import keyed_generator
from aelab.types import Images, Provenance

#: Points in each direction at which a pixel is asked.
_POINTS = 4
#: Images drawn at once: about 60 MB of points for 32x32.
_AT_ONCE = 400
#: Share of all combinations that is kept for validation.
_HELD_OUT = 0.1

SQUARE, ELLIPSE, HEART, TRIANGLE = range(4)


class Factors(Source):
    """Images of combinations of factors; a subclass draws them.

    Args:
        shape: (C, H, W).
        size: number of images.
        part: `train` or `validation`, which have no combination in common.
        seed: another seed chooses other combinations.
    """

    #: Name of a factor -> number of its values.
    sizes: ClassVar[Mapping[str, int]]
    #: Names of the values of the factor `shape`, the class of an image.
    shape_names: ClassVar[tuple[str, ...]]
    channels: ClassVar[int]

    def __init__(self, shape: tuple[int, ...], size: int, part: str, seed: int) -> None:
        super().__init__()
        self.wanted = checked_shape(shape)
        self.size, self.part, self.seed = int(size), part, int(seed)
        if self.wanted[0] != self.channels:
            raise DataError(
                f"{self.name} has images of {self.channels} channels, not {self.wanted[0]}",
                hint=f"write shape={(self.channels, *self.wanted[1:])} and change the channels "
                f"afterwards: .resize({self.wanted})",
            )
        total = math.prod(self.sizes.values())
        held_out = round(_HELD_OUT * total)
        most = held_out if part == "validation" else total - held_out
        if not 1 <= self.size <= most:
            raise DataError(
                f"{self.name}: size is {size:,}; the {part} part has 1 to {most:,} combinations"
            )

    def item_shape(self) -> tuple[int, ...]:
        """The shape that was asked for."""
        return self.wanted

    def count(self) -> int | None:
        """The number of images asked for."""
        return self.size

    def few(self, count: int) -> Source | None:
        """The same with fewer images."""
        return type(self)(self.wanted, min(self.size, count), self.part, self.seed)

    def reading_seconds(self) -> float | None:
        """About ten nanoseconds for each point that is asked."""
        return 1e-8 * self.size * math.prod(self.wanted) * _POINTS**2

    def is_bytes(self) -> bool:
        """They are stored as uint8."""
        return True

    def fingerprint(self) -> str:
        """All arguments, which alone decide the pixels."""
        return f"{self.name} 1 {(self.wanted, self.size, self.part, self.seed)}"

    def read(self) -> Images:
        """Draws the images."""
        factors = self.chosen()
        room = PixelRoom(self.size, f"{self.name} of {self.size:,} images")
        room.promise(self.wanted, torch.uint8)
        for some in torch.split(factors, _AT_ONCE):
            room.add(self._drawn(some))
        mapped, pixels = room.mapped, room.done()
        sha256 = content_sha256(pixels)
        facts = {
            "memory_mapped": mapped,
            "factor_names": list(self.sizes),
            "factor_sizes": list(self.sizes.values()),
            "label_names": list(self.shape_names),
        }
        return make_images(
            pixels,
            labels=factors[:, list(self.sizes).index("shape")].clone(),
            provenance=[Provenance(self.name, "generated", self.size, sha256)],
            facts=facts,
            sha256=sha256,
            factors=factors,
        )

    def chosen(self) -> Tensor:
        """The combinations of the images, (N, F) int64; none twice."""
        sizes = list(self.sizes.values())
        total = math.prod(sizes)
        order = torch.randperm(total, generator=keyed_generator(self.seed, self.name))
        # The two parts are taken from the two ends of one order.
        rows = order[-self.size :] if self.part == "validation" else order[: self.size]
        columns = []
        for size in reversed(sizes):
            columns.append(rows % size)
            rows = rows // size
        return torch.stack(columns[::-1], 1)

    def _drawn(self, factors: Tensor) -> Tensor:
        """(n, F) -> (n, C, H, W) uint8."""
        _, height, width = self.wanted
        down, right = (
            (torch.arange(count * _POINTS) + 0.5) / (count * _POINTS) * 2 - 1
            for count in (height, width)
        )
        x, y = right[None, None, :], down[None, :, None]  # -1..1 from border to border
        values = {name: factors[:, i] for i, name in enumerate(self.sizes)}
        picture = self.painted(values, x, y)  # (n, C, H p, W p)
        small = torch.nn.functional.avg_pool2d(picture, _POINTS)
        return (small * 255).round().to(torch.uint8)

    @abstractmethod
    def painted(self, values: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        """Colours at points.

        Args:
            values: name of a factor -> (n,) values.
            x: (1, 1, W'), -1 left to 1 right.
            y: (1, H', 1), -1 at the top to 1.

        Returns:
            (n, C, H', W') in 0..1.
        """


class Shapes(Factors):
    """White shapes on black, see `shapes_dataset`."""

    name = "shapes"
    sizes: ClassVar[Mapping[str, int]] = {
        "shape": 3, "scale": 6, "orientation": 20, "position_x": 16, "position_y": 16,
    }  # fmt: skip
    shape_names = ("square", "ellipse", "heart")
    channels = 1

    def painted(self, values: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        """White inside of the shape."""
        radius = 0.2 + 0.2 * values["scale"] / 5
        # A square looks the same after a quarter turn: its orientations lie within that, so that
        # no two combinations give the same image.
        turn = 2 * math.pi / torch.tensor([4.0, 2.0, 1.0])[values["shape"]]
        angle = turn * values["orientation"] / 20
        # Every shape stays inside of the picture: the farthest corner is sqrt(2) radii away.
        middle_x, middle_y = (
            (2 * values[f"position_{axis}"] / 15 - 1) * (1 - 0.4 * math.sqrt(2)) for axis in "xy"
        )
        inside = covered(values["shape"], x, y, middle_x, middle_y, radius, angle)
        return inside[:, None].float()


class ColoredShapes(Factors):
    """Coloured shapes in a scene, see `colored_shapes_dataset`."""

    name = "colored_shapes"
    sizes: ClassVar[Mapping[str, int]] = {
        "floor_hue": 8, "wall_hue": 8, "object_hue": 8, "scale": 6, "shape": 4, "position_x": 10,
    }  # fmt: skip
    shape_names = ("square", "ellipse", "heart", "triangle")
    channels = 3

    def painted(self, values: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        """A wall, a floor, and an object that stands before both."""
        radius = 0.25 + 0.25 * values["scale"] / 5
        middle_x = (2 * values["position_x"] / 9 - 1) * (1 - 0.5 * math.sqrt(2))
        still = torch.zeros_like(radius)
        inside = covered(values["shape"], x, y, middle_x, 0.1 + still, radius, still)
        floor, wall, body = (
            rainbow(values[f"{part}_hue"] / 8, brightness)[..., None, None]
            for part, brightness in (("floor", 0.6), ("wall", 1.0), ("object", 0.85))
        )
        behind = torch.where(y[:, None] > 0.3, floor, wall)  # (n, 3, H', 1)
        return torch.where(inside[:, None], body, behind)


def covered(
    shape: Tensor, x: Tensor, y: Tensor, middle_x: Tensor, middle_y: Tensor, radius: Tensor,
    angle: Tensor,
) -> Tensor:  # fmt: skip
    """Whether points lie inside of turned shapes: (n,) each -> (n, H', W') bool."""
    across, down = x - middle_x[:, None, None], y - middle_y[:, None, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    size = radius[:, None, None]
    # Turned back and scaled, so that each shape is one formula.
    u, v = (cos * across + sin * down) / size, (cos * down - sin * across) / size
    inside = torch.zeros(u.shape, dtype=torch.bool)
    for kind, test in (
        (SQUARE, lambda u, v: torch.maximum(u.abs(), v.abs()) < 0.9),
        (ELLIPSE, lambda u, v: u.square() + (v / 0.55).square() < 1),
        (HEART, _in_heart),
        (TRIANGLE, lambda u, v: (v < 0.8) & (v > 1.9 * u.abs() - 0.95)),
    ):
        here = shape == kind
        inside[here] = test(u[here], v[here])
    return inside


def _in_heart(u: Tensor, v: Tensor) -> Tensor:
    """(a^2 + b^2 - 1)^3 < a^2 b^3, upright and about as large as the other shapes."""
    a, b = 1.2 * u, 0.15 - 1.2 * v
    return (a.square() + b.square() - 1) ** 3 < a.square() * b**3


def rainbow(hue: Tensor, brightness: float) -> Tensor:
    """Colours of hues 0..1 around the circle: (n,) -> (n, 3) in 0..1, saturated by 0.75."""
    places = (hue[:, None] * 6 + torch.tensor([0.0, 4.0, 2.0])) % 6
    pure = ((places - 3).abs() - 1).clamp(0, 1)
    return brightness * (0.25 + 0.75 * pure)


@listed("shapes", {"size": 20_000}, {"size": 2_000, "part": "validation"})
def shapes_dataset(
    size: int = 20_000,
    shape: tuple[int, int, int] = (1, 32, 32),
    part: Literal["train", "validation"] = "train",
    seed: int = 0,
) -> Dataset:
    """White shapes on black with five known factors, like dSprites.

    The factors are `shape` (square, ellipse, heart), `scale` (6 values), `orientation` (20),
    `position_x` and `position_y` (16 each): 92,160 combinations, of which `size` are drawn, none
    twice. The shape is the class. Orientations lie within the symmetry of the shape (a quarter
    turn of a square), so that no two combinations look the same, as they do in dSprites.

    Args:
        size: number of images.
        shape: (1, H, W).
        part: the last tenth of all combinations is for validation.
        seed: another seed chooses other combinations.

    Source: after dSprites, Matthey et al. 2017, github.com/google-deepmind/dsprites-dataset; drawn
        anew, so that no file is needed.
    """
    return Dataset(Shapes(shape, size, _part(part, "shapes_dataset"), seed))


@listed("colored_shapes", {"size": 20_000}, {"size": 2_000, "part": "validation"})
def colored_shapes_dataset(
    size: int = 20_000,
    shape: tuple[int, int, int] = (3, 32, 32),
    part: Literal["train", "validation"] = "train",
    seed: int = 0,
) -> Dataset:
    """A coloured shape before a wall and a floor, with six known factors, like 3D Shapes.

    The factors are `floor_hue`, `wall_hue`, `object_hue` (8 values each), `scale` (6), `shape`
    (square, ellipse, heart, triangle) and `position_x` (10): 122,880 combinations, of which `size`
    are drawn, none twice. The shape is the class.

    Args:
        size: number of images.
        shape: (3, H, W).
        part: the last tenth of all combinations is for validation.
        seed: another seed chooses other combinations.

    Source: after 3D Shapes, Burgess & Kim 2018, github.com/google-deepmind/3d-shapes; a flat scene,
        drawn anew.
    """
    return Dataset(ColoredShapes(shape, size, _part(part, "colored_shapes_dataset"), seed))


def _part(part: str, owner: str) -> str:
    if part not in ("train", "validation"):
        raise DataError(f"{owner}: part is {part!r}; possible: train, validation")
    return part
