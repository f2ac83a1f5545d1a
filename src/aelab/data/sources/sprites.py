"""Generated sprites: small drawings in few colours, with an outline, light and animation."""

from __future__ import annotations

import colorsys
import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch

from aelab.data.base import Source, content_sha256, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.pixel_room import PixelRoom
from aelab.data.prepare import checked_shape
from aelab.errors import DataError, ShapeError, did_you_mean, one_of
from aelab.preparation import track
from aelab.types import Images, Provenance

Array = np.ndarray[Any, Any]
SpriteKind = Literal["creature", "potion", "sword", "gem", "heart", "shield", "mushroom", "slime"]

#: Codes of a drawing before it gets colours: nothing, three shades of two ramps, white, outline.
NOTHING, A, B, WHITE, LINE = 0, 1, 4, 7, 8
#: Hues of the ramps in degrees; each has a dark, a middle and a light shade, shifted in hue as
#: pixel artists do: shadows towards blue, light towards yellow.
_HUES = (4, 32, 52, 110, 170, 210, 265, 320)
_SHADES = ((-14, 0.75, 0.45), (0, 0.65, 0.74), (12, 0.45, 0.97))
_LINE, _WHITE = (26, 20, 34), (250, 246, 236)
#: Drawings for each wanted sprite, after which there are no more different ones.
_TRIES = 60


def _ramp(hue: float) -> list[tuple[int, int, int]]:
    shades = []
    for turn, saturation, value in _SHADES:
        red, green, blue = colorsys.hsv_to_rgb((hue + turn) % 360 / 360, saturation, value)
        shades.append((round(255 * red), round(255 * green), round(255 * blue)))
    return shades


#: The ramps, (8, 3, 3) uint8; with outline and white 26 colours in all.
RAMPS = np.array([_ramp(hue) for hue in _HUES], np.uint8)


class _Canvas:
    """One drawing: codes (S, S) and the coordinates of its pixels' centres, -1..1."""

    def __init__(self, side: int, rng: np.random.Generator, turn: float) -> None:
        ticks = (np.arange(side) + 0.5) / side * 2 - 1
        self.x, self.y = ticks[None, :] + 0 * ticks[:, None], ticks[:, None] + 0 * ticks[None, :]
        self.codes = np.zeros((side, side), np.int64)
        self.rng, self.turn, self.pixel = rng, turn, 2 / side

    def fill(self, mask: Array, ramp: int, light: Array | float | None = None) -> None:
        """Fills a mask with a ramp; `light` -1..1 chooses the shade, by default from above left."""
        if light is None:
            light = -(0.7 * self.y + 0.5 * self.x)
        shade = np.digitize(np.broadcast_to(light, mask.shape), (-0.25, 0.3))
        self.codes[mask] = (ramp + shade)[mask]

    def dot(self, x: float, y: float, code: int, size: float = 1.0) -> None:
        """A square dot of about `size` pixels."""
        half = self.pixel * size / 2
        near = (np.abs(self.x - x) <= half) & (np.abs(self.y - y) <= half)
        self.codes[near] = code

    def outline(self) -> Array:
        """The codes with a line around everything that is drawn."""
        solid = np.pad(self.codes > 0, 1)
        around = solid[:-2, 1:-1] | solid[2:, 1:-1] | solid[1:-1, :-2] | solid[1:-1, 2:]
        return np.where((self.codes == 0) & around, LINE, self.codes)

    def wave(self) -> float:
        """-1..1 over one turn of the animation."""
        return math.sin(2 * math.pi * self.turn)


def _eyes(canvas: _Canvas, y: float, apart: float) -> None:
    shut = canvas.turn == 0.5  # they blink
    for x in (-apart, apart):
        canvas.dot(x, y, LINE if shut else WHITE, 2)
        if not shut:
            canvas.dot(x, y + canvas.pixel / 2, LINE, 1)


def _creature(canvas: _Canvas) -> None:
    # Half of a 6 x 7 grid at random, mirrored, as the invaders of old games.
    half = canvas.rng.random((7, 3)) < 0.6
    half[2:5, 2] = True
    grid = np.concatenate([half, half[:, ::-1]], axis=1)
    rows = ((canvas.y + 0.8 - 0.06 * canvas.wave()) / 1.6 * 7).astype(int)
    columns = ((canvas.x + 0.75) / 1.5 * 6).astype(int)
    inside = (np.abs(canvas.x) < 0.75) & (canvas.y > -0.8) & (canvas.y < 0.8)
    mask = inside & grid[rows.clip(0, 6), columns.clip(0, 5)]
    canvas.fill(mask, A)
    canvas.fill(mask & (rows >= 5), B)
    _eyes(canvas, -0.15, 0.2)


def _potion(canvas: _Canvas) -> None:
    wide, level = canvas.rng.uniform(0.5, 0.75), canvas.rng.uniform(-0.1, 0.35)
    belly = (canvas.x / wide) ** 2 + ((canvas.y - 0.3) / 0.58) ** 2 < 1
    neck = (np.abs(canvas.x) < 0.22) & (canvas.y > -0.7) & (canvas.y < 0)
    canvas.fill(belly | neck, B, 0.9)
    canvas.fill(belly & (canvas.y > level + 0.05 * canvas.wave()), A)
    canvas.fill((np.abs(canvas.x) < 0.3) & (np.abs(canvas.y + 0.75) < 0.12), B, -0.9)
    rise = (canvas.turn + canvas.rng.random()) % 1
    canvas.dot(canvas.rng.uniform(-0.25, 0.25), 0.7 - 0.5 * rise, A + 2, 1.5)
    canvas.dot(-wide / 2, 0.1, WHITE, 1.5)


def _sword(canvas: _Canvas) -> None:
    # Along the diagonal: `along` from the handle to the point, `across` it.
    along, across = (canvas.x - canvas.y) / 2, (canvas.x + canvas.y) / 2
    wide, guard = canvas.rng.uniform(0.1, 0.2), canvas.rng.uniform(-0.35, -0.2)
    point = np.clip((0.85 - along) / 0.25, 0, 1)
    blade = (along > guard) & (along < 0.85) & (np.abs(across) < wide * point)
    canvas.fill(blade, A, np.where(across < 0, 0.8, 0.0))
    canvas.fill((along > -0.85) & (along <= guard) & (np.abs(across) < 0.08), B, -0.5)
    canvas.fill((np.abs(along - guard) < 0.08) & (np.abs(across) < 0.36), B, 0.1)
    shine = (guard + 0.1 + 0.7 * canvas.turn) if canvas.turn else 9.0
    canvas.codes[blade & (np.abs(along - shine) < 0.1)] = WHITE


def _gem(canvas: _Canvas) -> None:
    wide, top = canvas.rng.uniform(0.55, 0.85), canvas.rng.uniform(-0.6, -0.35)
    down = np.where(canvas.y < -0.1, (canvas.y - top) / (-0.1 - top), (0.8 - canvas.y) / 0.9)
    edge = np.where(canvas.y < -0.1, 0.6 + 0.4 * down, down) * wide
    mask = (canvas.y > top) & (canvas.y < 0.8) & (np.abs(canvas.x) < edge)
    facet = np.sign(canvas.x) * -0.5 + np.where(canvas.y < -0.1, 0.5, -0.1)
    canvas.fill(mask, A, facet)
    canvas.fill(mask & (np.abs(canvas.x) < edge / 3), A, 0.1 if canvas.turn < 0.5 else 0.9)
    canvas.dot(-wide / 2 + canvas.turn * wide, top + 0.15, WHITE, 1.5)


def _heart(canvas: _Canvas) -> None:
    size = canvas.rng.uniform(0.62, 0.75) * (1 + 0.12 * canvas.wave())
    x, y = canvas.x / size, -(canvas.y - 0.08) / size
    mask = (x**2 + y**2 - 0.9) ** 3 - x**2 * y**3 * 1.4 < 0
    canvas.fill(mask, A)
    if canvas.rng.random() < 0.4:  # half of it is empty
        canvas.fill(mask & (canvas.x > 0), B, -0.9)
    canvas.dot(-0.35, -0.25, WHITE, 2)


def _shield(canvas: _Canvas) -> None:
    wide = canvas.rng.uniform(0.6, 0.8)
    edge = np.where(canvas.y < 0, 1.0, np.sqrt(np.clip(1 - (canvas.y / 0.88) ** 2, 0, 1))) * wide
    mask = (canvas.y > -0.75) & (canvas.y < 0.88) & (np.abs(canvas.x) < edge)
    canvas.fill(mask, A)
    form = canvas.rng.integers(4)
    marks = (
        (np.abs(canvas.x) < 0.14) | (np.abs(canvas.y + 0.05) < 0.14),
        canvas.x * canvas.y < 0,
        np.abs(canvas.x) + np.abs(canvas.y) < 0.42,
        (canvas.y * 2.5).astype(int) % 2 == 0,
    )
    canvas.fill(mask & marks[form], B)
    if canvas.turn:
        canvas.codes[mask & (np.abs(canvas.x + canvas.y + 1.2 - 2.4 * canvas.turn) < 0.12)] = WHITE


def _mushroom(canvas: _Canvas) -> None:
    wide = canvas.rng.uniform(0.6, 0.85)
    low = canvas.rng.uniform(0.0, 0.25) + 0.08 * canvas.wave()
    stem = (np.abs(canvas.x) < canvas.rng.uniform(0.22, 0.35)) & (canvas.y > low - 0.1)
    canvas.fill(stem & (canvas.y < 0.8), B, 0.9 - 1.2 * (canvas.x > 0.1))
    cap = (canvas.x / wide) ** 2 + ((canvas.y - low) / 0.8) ** 2 < 1
    canvas.fill(cap & (canvas.y < low), A)
    for x, y in canvas.rng.uniform(-0.5, 0.5, (3, 2)):
        if (x / wide) ** 2 + ((y - 0.2) / 0.8) ** 2 < 0.7 and y - 0.2 < 0:
            canvas.dot(x, low + y - 0.2, WHITE, 2)
    if canvas.rng.random() < 0.5:
        _eyes(canvas, low + 0.25, 0.13)


def _slime(canvas: _Canvas) -> None:
    squash = 0.1 * canvas.wave()
    wide = canvas.rng.uniform(0.6, 0.78) + squash
    high = canvas.rng.uniform(0.8, 1.2) - 2 * squash
    mask = (canvas.x / wide) ** 2 + ((canvas.y - 0.7) / high) ** 2 < 1
    canvas.fill(mask & (canvas.y < 0.72), A)
    _eyes(canvas, 0.7 - high / 2, canvas.rng.uniform(0.15, 0.3))
    if canvas.rng.random() < 0.5:  # a cap
        canvas.fill(mask & (canvas.y < 0.75 - 0.8 * high), B)


_DRAW: dict[str, Callable[[_Canvas], None]] = {
    "creature": _creature,
    "potion": _potion,
    "sword": _sword,
    "gem": _gem,
    "heart": _heart,
    "shield": _shield,
    "mushroom": _mushroom,
    "slime": _slime,
}


class Sprites(Source):
    """Generated sprites, see `sprite_dataset`."""

    name = "sprites"

    def __init__(
        self,
        shape: tuple[int, int, int],
        size: int,
        seed: int,
        frames: int,
        kinds: Sequence[str],
        validation: bool | None = None,
    ) -> None:
        super().__init__()
        self.shape_ = checked_shape(shape)
        if self.shape_[0] not in (3, 4) or self.shape_[1] != self.shape_[2] or self.shape_[1] < 8:
            raise ShapeError(
                "sprites are (3, S, S), or (4, S, S) with transparency, S from 8 up; "
                f"got {shape!r}",
                hint="for instance shape=(3, 16, 16); .resize changes any set",
            )
        for name, value in (("size", size), ("frames", frames)):
            if int(value) != value or value < 1:
                raise DataError(f"{name} is a whole number from 1 up, got {value!r}")
        wrong = [kind for kind in kinds if kind not in _DRAW]
        if wrong or not kinds:
            given = wrong[0] if wrong else ""
            raise DataError(
                f"there are no sprites {given!r}{did_you_mean(given, _DRAW)}",
                hint=f"possible: {one_of(_DRAW)}",
            )
        self.size, self.seed, self.frames = int(size), int(seed), int(frames)
        self.kinds = tuple(kinds)
        self.validation = None if validation is None else bool(validation)

    def item_shape(self) -> tuple[int, ...]:
        """(3, S, S), or with transparency (4, S, S)."""
        return self.shape_

    def count(self) -> int | None:
        """`size`, frames included."""
        return self.size

    def reading_seconds(self) -> float | None:
        """A millisecond for each sprite drawn; of the validation side one in eight is kept."""
        drawn = self.size * (8 if self.validation else 1)
        return 1e-3 * drawn * max(1.0, (self.shape_[1] / 16) ** 2 / 2)

    def is_bytes(self) -> bool:
        """True."""
        return True

    def fingerprint(self) -> str:
        """All arguments."""
        values = self.shape_, self.size, self.seed, self.frames, self.kinds, self.validation
        return f"sprites {values}"

    def few(self, count: int) -> Source | None:
        """The first ones."""
        size = min(count, self.size)
        return Sprites(self.shape_, size, self.seed, self.frames, self.kinds, self.validation)

    def read(self) -> Images:
        room = PixelRoom(self.size, self.name)
        labels: list[int] = []
        names: list[str] = []
        for sprite, label, frames in self._sprites():
            for frame, pixels in enumerate(frames[: self.size - len(labels)]):
                room.add(torch.from_numpy(pixels[None, : self.shape_[0]]))
                labels.append(label)
                names.append(f"sprite {sprite}" + (f"#{frame}" if self.frames > 1 else ""))
        pixels_ = room.done()
        facts: dict[str, Any] = {"label_names": list(self.kinds)}
        if self.shape_[0] == 4:
            facts["alpha"] = True
        source = Provenance(self.name, "generated", len(pixels_), content_sha256(pixels_))
        return make_images(
            pixels_,
            labels=torch.tensor(labels),
            provenance=[source],
            facts=facts,
            file_names=names,
        )

    def _sprites(self) -> Iterator[tuple[int, int, list[Array]]]:
        """Number, kind and frames of each different sprite of the wanted side.

        Raises:
            DataError: there are not as many different ones.
        """
        wanted = -(-self.size // self.frames)
        seen: set[bytes] = set()
        progress = track(range(wanted), "drawing sprites", wanted)
        for number in itertools.count():
            if len(seen) == wanted:
                return
            if number > _TRIES * wanted + 1_000:
                raise DataError(
                    f"there are only {len(seen):,} different sprites of {one_of(self.kinds)} at "
                    f"{self.shape_[1]}x{self.shape_[1]}, not {wanted:,}",
                    hint="take a smaller size, a larger shape, or more kinds",
                )
            # Keyed by number: a smaller set is the beginning of a larger one.
            key = (self.seed % 2**32, 0x5B17E5, number)
            rng = np.random.default_rng(key)
            label = int(rng.integers(len(self.kinds)))
            draw = self.kinds[label], self.shape_[1]
            first = _drawn(draw[0], rng, draw[1], 0.0)
            digest = hashlib.sha256(first.tobytes()).digest()
            # By content: no sprite is on both sides, whatever the seeds.
            side = digest[0] % 8 == 0
            if digest in seen or self.validation not in (None, side):
                continue
            seen.add(digest)
            next(progress, None)
            frames = [first]
            for frame in range(1, self.frames):
                again = np.random.default_rng(key)
                again.integers(len(self.kinds))
                frames.append(_drawn(draw[0], again, draw[1], frame / self.frames))
            yield number, label, frames


def _drawn(kind: str, rng: np.random.Generator, side: int, turn: float) -> Array:
    """(4, S, S) uint8 of one sprite: red, green, blue, alpha; black where it is transparent."""
    first, second = rng.choice(len(RAMPS), 2, replace=False)
    canvas = _Canvas(side, rng, turn)
    _DRAW[kind](canvas)
    codes = canvas.outline()
    colours = np.zeros((9, 4), np.uint8)
    colours[A : A + 3, :3], colours[B : B + 3, :3] = RAMPS[first], RAMPS[second]
    colours[WHITE, :3], colours[LINE, :3] = _WHITE, _LINE
    colours[1:, 3] = 255
    # (S, S, 4) -> (4, S, S)
    return np.ascontiguousarray(colours[codes].transpose(2, 0, 1))


@listed("sprites", {"validation": False}, {"size": 500, "validation": True})
def sprite_dataset(
    shape: tuple[int, int, int] = (3, 16, 16),
    size: int = 4_000,
    seed: int = 1,
    frames: int = 1,
    kinds: Sequence[SpriteKind] = get_args(SpriteKind),
    validation: bool | None = None,
) -> Dataset:
    """Sprites as in small games: eight kinds of things in 26 colours, drawn by rules.

    Each has an outline, light from above left, and two ramps of three colours. Labels are the
    kinds. All sprites of a set are different. The same seed gives the same ones; a smaller set is
    the beginning of a larger one.

    Args:
        shape: (3, S, S) on black, or (4, S, S) with transparency; S from 8 up.
        size: the number of images.
        seed: of the drawings.
        frames: images of each sprite, one after the other: it moves, blinks or shines.
        kinds: which ones.
        validation: True or False for one side of a split by content, 1 of 8 for validation: no
            sprite is on both sides, whatever the seeds. None: both.
    """
    return Dataset(Sprites(shape, size, seed, frames, tuple(kinds), validation))
