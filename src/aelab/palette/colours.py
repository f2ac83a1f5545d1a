"""Palettes: a list of colours that is given, found in a set of pictures, or each picture's own."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from PIL import ImageColor
from torch import Tensor

from aelab.data.augment import freeze_images
from aelab.data.dataset import Dataset, need_dataset
from aelab.errors import ConfigError
from aelab.ops.augmented import floats
from aelab.ops.random import keyed_generator
from aelab.ops.subset import draw_order
from aelab.types import Images

#: Most colours of a palette: an index is one byte.
MOST = 256
#: Images in which colours are counted, and rounds of k-means.
_COUNTED, _ROUNDS = 4_000, 20
#: Alpha from which a pixel counts as opaque.
OPAQUE = 128
#: Weights of red, green and blue in a distance of colours: green differences are seen best.
_SEEN = (0.55, 1.0, 0.45)


class Palette(ABC):
    """A list of colours, of which the number is known before the colours are.

    Attributes:
        count: K, the number of entries, a transparent one included.
        key: text that identifies it; equal keys mean equal colours.
        transparent: whether entry 0 is transparent.
    """

    count: int
    key: str
    transparent: bool

    @abstractmethod
    def colours(self) -> Tensor:
        """(K, 4) uint8: red, green, blue, alpha of each entry; the darkest first.

        Raises:
            DataError: they are found in data that are missing.
        """

    def indices(self, pixels: Tensor, alpha: bool) -> Tensor:
        """The index of the nearest colour of each pixel.

        Args:
            pixels: (N, C, H, W) uint8, C of 1, 3 or 4.
            alpha: whether the fourth channel is transparency.

        Returns:
            (N, 1, H, W) uint8.
        """
        table = self.colours()
        packed = _packed(pixels, alpha)
        found, place = torch.unique(packed, return_inverse=True)
        return _nearest(found, table, self.transparent)[place][:, None].to(torch.uint8)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Palette) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.key


class GivenPalette(Palette):
    """Colours given in the file, see `palette`."""

    def __init__(self, colours: Sequence[str]) -> None:
        if not 2 <= len(colours) <= MOST:
            raise ConfigError(
                f"a palette has 2 to {MOST} colours, got {len(colours)}",
                hint='for instance palette("#000000", "#ffffff"), or palette_of(dataset, 16)',
            )
        table = torch.tensor([_colour(colour) for colour in colours], dtype=torch.uint8)
        clear = table[:, 3] == 0
        if int(clear.sum()) > 1 or ((table[:, 3] > 0) & (table[:, 3] < 255)).any():
            raise ConfigError("a palette has at most one transparent entry; others are opaque")
        # The transparent entry first, since what is empty after a shift has the index 0.
        self._table = torch.cat([table[clear], table[~clear]])
        self.count, self.transparent = len(table), bool(clear.any())
        digest = hashlib.sha256(self._table.numpy().tobytes()).hexdigest()[:16]
        self.key = f"palette of {self.count} given colours {digest}"

    def colours(self) -> Tensor:
        return self._table


class FoundPalette(Palette):
    """The colours of a set of pictures, see `palette_of`."""

    def __init__(self, dataset: Dataset, count: int) -> None:
        self._dataset = need_dataset(dataset, "palette_of")
        if not self._dataset.medium.is_brightness:
            raise ConfigError(f"palette_of needs pictures, got {dataset.medium.sets_hold}")
        if isinstance(count, bool) or int(count) != count or not 2 <= count <= MOST:
            raise ConfigError(
                f"palette_of: colours is a whole number of 2 to {MOST}, got {count!r}"
            )
        self.count = int(count)
        self.transparent = dataset.shape[0] == 4
        self.key = f"palette of {self.count} colours of {dataset.fingerprint()}"
        self._found: Tensor | None = None

    def colours(self) -> Tensor:
        if self._found is None:
            with torch.device("cpu"):
                self._found = _found_in(self._dataset.load(), self.count, self.transparent)
        return self._found


def _found_in(images: Images, count: int, transparent: bool) -> Tensor:
    """(K, 4) uint8: the colours themselves if there are few, else centres found by k-means."""
    pixels = bytes_of(images)
    some = pixels[draw_order(len(pixels))[:_COUNTED].sort().values]
    packed, counts = torch.unique(_packed(some, transparent), return_counts=True)
    opaque = packed >= 0
    colours, counts = _unpacked(packed[opaque]), counts[opaque]
    wanted = count - transparent
    if len(colours) > wanted:
        colours = _centres(colours.double(), counts.double(), wanted)
    colours = colours[_brightness(colours).argsort(stable=True)]
    # Unused entries repeat the last colour, so that the number of entries is as promised.
    missing = wanted - len(colours)
    if missing > 0:
        last = colours[-1:] if len(colours) else torch.zeros(1, 3, dtype=torch.uint8)
        colours = torch.cat([colours, last.expand(missing, 3)])
    alpha = torch.full((wanted, 1), 255, dtype=torch.uint8)
    table = torch.cat([colours, alpha], dim=1)
    clear = torch.zeros(int(transparent), 4, dtype=torch.uint8)
    return torch.cat([clear, table])


def _centres(colours: Tensor, counts: Tensor, wanted: int) -> Tensor:
    """Weighted k-means of (n, 3) colours; starts by k-means++ with keyed random numbers.

    Weights are the roots of the counts: a colour of few pixels, an eye, is worth an entry.

    Source: Arthur and Vassilvitskii 2007, k-means++: the advantages of careful seeding.
    """
    generator = keyed_generator(0, "palette")
    scale = torch.tensor(_SEEN, dtype=torch.double).sqrt()
    points, weights = colours * scale, counts.sqrt()
    chosen = [int(weights.argmax())]
    nearest = (points - points[chosen[0]]).square().sum(1)
    while len(chosen) < wanted:
        pick = int(torch.multinomial(nearest * weights, 1, generator=generator))
        chosen.append(pick)
        nearest = torch.minimum(nearest, (points - points[pick]).square().sum(1))
    centres = points[chosen]
    for _ in range(_ROUNDS):
        owner = torch.cdist(points, centres).argmin(1)
        sums = torch.zeros_like(centres).index_add_(0, owner, points * weights[:, None])
        total = torch.zeros(wanted, dtype=torch.double).index_add_(0, owner, weights)
        centres = torch.where(total[:, None] > 0, sums / total.clamp(min=1e-9)[:, None], centres)
    return (centres / scale).round().clamp(0, 255).to(torch.uint8)


def bytes_of(images: Images) -> Tensor:
    """The pixels of a set of pictures as bytes, random changes applied once."""
    pixels = freeze_images(images).pixels
    if pixels.dtype == torch.uint8:
        return pixels
    return (floats(pixels).clamp(0, 1) * 255).round().to(torch.uint8)


def _packed(pixels: Tensor, alpha: bool) -> Tensor:
    """(N, C, H, W) uint8 -> (N, H, W) int64, red * 65536 + green * 256 + blue; -1: transparent."""
    colour = pixels[:, :3] if pixels.shape[1] >= 3 else pixels[:, :1].expand(-1, 3, -1, -1)
    wide = colour.long()
    packed = wide[:, 0] * 65536 + wide[:, 1] * 256 + wide[:, 2]
    if alpha and pixels.shape[1] == 4:
        packed = torch.where(pixels[:, 3] < OPAQUE, -1, packed)
    return packed


def _unpacked(packed: Tensor) -> Tensor:
    return torch.stack([packed >> 16, packed >> 8 & 255, packed & 255], dim=1).to(torch.uint8)


def _brightness(colours: Tensor) -> Tensor:
    return colours.double() @ torch.tensor([0.299, 0.587, 0.114], dtype=torch.double)


def _nearest(packed: Tensor, table: Tensor, transparent: bool) -> Tensor:
    """The entry nearest to each packed colour, (n,) int64."""
    first = int(transparent)
    scale = torch.tensor(_SEEN, dtype=torch.double).sqrt()
    entries = table[first:, :3].double() * scale
    # About 8 million distances at once.
    colours = _unpacked(packed.clamp(min=0)).double() * scale
    parts = torch.split(colours, max(1, 8_000_000 // len(table)))
    nearest = torch.cat([torch.cdist(part, entries).argmin(1) for part in parts]) + first
    return torch.where(packed < 0, 0, nearest) if transparent else nearest


def _colour(text: str) -> tuple[int, int, int, int]:
    if text == "transparent":
        return 0, 0, 0, 0
    try:
        red, green, blue, alpha = (*ImageColor.getrgb(str(text)), 255)[:4]
    except ValueError:
        raise ConfigError(
            f"palette: {text!r} is no colour", hint='for instance "#ff8800", "red", "transparent"'
        ) from None
    return red, green, blue, alpha


def hex_colours(table: Tensor) -> list[str]:
    """`#rrggbb` of each of (K, 4) entries, `transparent` for a clear one."""
    return [
        "transparent" if alpha == 0 else f"#{red:02x}{green:02x}{blue:02x}"
        for red, green, blue, alpha in table.tolist()
    ]


def palette(*colours: str) -> Palette:
    """A palette of given colours.

    Args:
        colours: 2 to 256 names or `#rrggbb`, at most one of them `transparent`, which becomes the
            first entry.

    Raises:
        ConfigError: too few or too many, or one is no colour.
    """
    return GivenPalette(colours)


def palette_of(dataset: Dataset, colours: int = 32) -> Palette:
    """The palette of a set of pictures, found in up to 4,000 of them.

    If they have no more colours than that, these are the palette, and converting loses nothing;
    else k-means finds it. Of pictures with transparency (4 channels) one entry is transparent.

    Args:
        dataset: pictures, usually the training set.
        colours: number of entries, 2 to 256.
    """
    return FoundPalette(dataset, colours)
