"""Palettes: colours that are given, found in a set of pictures, or found in each picture."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

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
    """How pictures are written in few colours: which numbers mean which colours.

    Channel 0 of a stored picture is the number of each pixel's colour. The number of colours is
    known before the colours are.

    Attributes:
        count: K, the number of entries, a transparent one included.
        key: text that identifies it; equal keys mean equal colours.
        transparent: whether entry 0 is transparent.
        channels: of a stored picture.
    """

    count: int
    key: str
    transparent: bool
    channels: int

    @abstractmethod
    def stored(self, pixels: Tensor, alpha: bool) -> Tensor:
        """Pictures in the nearest of the colours.

        Args:
            pixels: (N, C, H, W) uint8, C of 1, 3 or 4.
            alpha: whether the fourth channel is transparency.

        Returns:
            (N, `channels`, H, W) uint8.
        """

    @abstractmethod
    def tables(self, stored: Tensor) -> Tensor:
        """The colours of each stored picture (N, `channels`, H, W): (N, K, 4) uint8."""

    @abstractmethod
    def swapped(self, stored: Tensor, orders: Tensor) -> Tensor:
        """Stored pictures (N, `channels`, H, W) whose red, green and blue are exchanged.

        Args:
            stored: uint8.
            orders: (N,) int64, a number of `ORDERS` for each picture; 0 changes nothing.
        """

    @abstractmethod
    def record(self) -> dict[str, Any]:
        """What a run's record says about it."""

    @abstractmethod
    def comparable(self, stored: Tensor) -> Tensor:
        """Stored pictures as (N, H, W) int64, equal where the colours of pixels are equal."""

    #: Name of `differences` in texts.
    error_name: str

    @abstractmethod
    def differences(self, made: Tensor, stored: Tensor) -> Tensor:
        """(N,) float in 0..1: how much stored pictures differ; either may be one for all."""

    @property
    def seen_channels(self) -> int:
        """Channels of a drawn picture: red, green, blue, and alpha with a transparent entry."""
        return 4 if self.transparent else 3

    def drawn(self, stored: Tensor) -> Tensor:
        """Stored pictures as colours, (N, 3 or 4, H, W) uint8."""
        tables = self.tables(stored)[..., : self.seen_channels]  # (N, K, C)
        numbers = stored[:, 0].long().clamp(0, self.count - 1)
        rows = torch.arange(len(stored), device=stored.device)[:, None, None]
        # (N, H, W, C) -> (N, C, H, W)
        return tables[rows, numbers].permute(0, 3, 1, 2).contiguous()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Palette) and other.key == self.key

    def __hash__(self) -> int:
        return hash(self.key)

    def __repr__(self) -> str:
        return self.key


#: The orders of red, green and blue; the first changes nothing.
ORDERS = ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


class SharedPalette(Palette):
    """One list of colours for all pictures; a stored picture holds numbers only."""

    channels = 1

    @abstractmethod
    def colours(self) -> Tensor:
        """(K, 4) uint8: red, green, blue, alpha of each entry; the darkest first.

        Raises:
            DataError: they are found in data that are missing.
        """

    def stored(self, pixels: Tensor, alpha: bool) -> Tensor:
        """See `Palette.stored`; (N, 1, H, W)."""
        table = self.colours()
        packed = _packed(pixels, alpha)
        found, place = torch.unique(packed, return_inverse=True)
        return _nearest(found, table, self.transparent)[place][:, None].to(torch.uint8)

    def tables(self, stored: Tensor) -> Tensor:
        """The same colours for each picture, without a copy."""
        return self.colours().to(stored.device).expand(len(stored), -1, -1)

    def swapped(self, stored: Tensor, orders: Tensor) -> Tensor:
        """Each colour becomes the entry nearest to it with its parts exchanged. Greys stay."""
        tables = self._swaps.to(stored.device)
        chosen = orders.to(stored.device)[:, None, None, None]
        return tables[chosen, stored.long().clamp(max=self.count - 1)].to(torch.uint8)

    @cached_property
    def _swaps(self) -> Tensor:
        """(6, K) int64: for each of `ORDERS` the entry in place of each entry."""
        table = self.colours()
        rows = [torch.arange(len(table))]
        for order in ORDERS[1:]:
            turned = torch.cat([table[:, list(order)], table[:, 3:]], dim=1)
            rows.append(self.stored(turned[:, :, None, None], alpha=True).flatten().long())
        return torch.stack(rows)

    def record(self) -> dict[str, Any]:
        """The colours."""
        return {"palette": hex_colours(self.colours())}

    def comparable(self, stored: Tensor) -> Tensor:
        """The numbers."""
        return stored[:, 0].long()

    error_name = "wrong"

    def differences(self, made: Tensor, stored: Tensor) -> Tensor:
        """The share of pixels with another number."""
        return (made[:, 0] != stored[:, 0]).float().mean((1, 2))


class PicturePalettes(Palette):
    """Colours that are found in each picture, the darkest first, see `palette_of`.

    A stored picture has the number of each pixel's colour, and that colour as red, green, blue. So
    crops and shifts keep numbers and colours together, and no other list has to travel along.
    Number 0 is the transparent entry if there is one; what is empty after a shift has it, too.

    Args:
        count: K, the greatest number of colours of a picture.
        transparent: whether pixels may be transparent.
    """

    channels = 4

    def __init__(self, count: int, transparent: bool) -> None:
        self.count, self.transparent = count, transparent
        self.key = f"palettes of {count} colours{' with transparency' * transparent}, one a picture"

    def stored(self, pixels: Tensor, alpha: bool) -> Tensor:
        """See `Palette.stored`; some milliseconds a picture if it has more colours than that."""
        made = [self._one(picture) for picture in _packed(pixels, alpha and self.transparent)]
        shape = (0, 4, *pixels.shape[2:])
        return torch.stack(made) if made else torch.zeros(shape, dtype=torch.uint8)

    def _one(self, packed: Tensor) -> Tensor:
        """(H, W) packed colours -> (4, H, W) uint8."""
        found, place, counts = torch.unique(packed, return_inverse=True, return_counts=True)
        table = _few(found, counts, self.count, self.transparent)
        nearest = _nearest(found, table, self.transparent)  # of each colour of the picture
        colours = torch.cat([nearest[:, None], table[nearest, :3].long()], dim=1)
        return colours[place].permute(2, 0, 1).to(torch.uint8)

    def tables(self, stored: Tensor) -> Tensor:
        """The colours of each picture; entries that it does not use are black."""
        numbers = stored[:, :1].flatten(2).long().clamp(max=self.count - 1)  # (N, 1, H * W)
        tables = torch.zeros(len(stored), 3, self.count, dtype=torch.uint8, device=stored.device)
        # The greatest value: pixels left empty by a shift have number 0, but are black.
        tables = tables.scatter_reduce(
            2, numbers.expand(-1, 3, -1), stored[:, 1:].flatten(2), "amax"
        ).mT
        alpha = torch.full_like(tables[..., :1], 255)
        if self.transparent:
            alpha[:, 0] = 0
        return torch.cat([tables, alpha], dim=2)

    def swapped(self, stored: Tensor, orders: Tensor) -> Tensor:
        """The colours themselves are exchanged, exactly; numbers follow their new brightness."""
        order = torch.tensor(ORDERS, device=stored.device)[orders.to(stored.device)]  # (N, 3)
        tables = self.tables(stored)[..., :3]
        tables = tables.gather(2, order[:, None].expand(-1, self.count, -1))
        light = _brightness(tables)
        light[~self._used(stored)] = 1e9  # unused entries last
        if self.transparent:
            light[:, 0] = -1
        rank = light.argsort(dim=1, stable=True).argsort(dim=1)  # (N, K): new number of each
        numbers = stored[:, 0].long().clamp(max=self.count - 1).flatten(1)
        colours = tables.gather(1, numbers[..., None].expand(-1, -1, 3)).mT.view_as(stored[:, 1:])
        new = rank.gather(1, numbers).view_as(stored[:, :1]).to(torch.uint8)
        changed = torch.cat([new, colours], dim=1)
        return torch.where((orders == 0).to(stored.device)[:, None, None, None], stored, changed)

    def _used(self, stored: Tensor) -> Tensor:
        """(N, K) bool: whether a pixel has that number."""
        return uses_of(stored[:, 0].long(), self.count) > 0

    def record(self) -> dict[str, Any]:
        """That each picture has its own."""
        return {"palette": f"{self.count} colours, one palette a picture"}

    def comparable(self, stored: Tensor) -> Tensor:
        """Red, green and blue as one number; -1 where it is transparent."""
        packed = _packed(stored[:, 1:], alpha=False)
        return torch.where(stored[:, 0] == 0, -1, packed) if self.transparent else packed

    error_name = "L1"

    def differences(self, made: Tensor, stored: Tensor) -> Tensor:
        """The mean absolute error of red, green and blue; the numbers do not count."""
        gap = made[:, 1:].to(torch.int16) - stored[:, 1:].to(torch.int16)
        return gap.abs().float().mean((1, 2, 3)) / 255


def uses_of(numbers: Tensor, count: int) -> Tensor:
    """(N, H, W) int64 -> (N, count) float: how many pixels of a picture have each number."""
    flat = numbers.clamp(max=count - 1).flatten(1)
    sums = torch.zeros(len(flat), count, device=flat.device)
    return sums.scatter_add(1, flat, torch.ones_like(flat, dtype=sums.dtype))


class GivenPalette(SharedPalette):
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


class FoundPalette(SharedPalette):
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
    """(K, 4) uint8: the colours of up to 4,000 of the pictures."""
    pixels = bytes_of(images)
    some = pixels[draw_order(len(pixels))[:_COUNTED].sort().values]
    packed, counts = torch.unique(_packed(some, transparent), return_counts=True)
    return _few(packed, counts, count, transparent)


def _few(packed: Tensor, counts: Tensor, count: int, transparent: bool) -> Tensor:
    """(K, 4) uint8: the colours themselves if there are few, else centres found by k-means.

    Args:
        packed: (n,) different colours as `_packed` has them; -1 is transparent.
        counts: (n,) how often each occurs.
        count: K.
        transparent: whether entry 0 is transparent.
    """
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


def palette_of(
    dataset: Dataset, colours: int = 32, per: Literal["set", "picture"] = "set"
) -> Palette:
    """The palette of a set of pictures, found in up to 4,000 of them; or one for each picture.

    If there are no more colours than that, these are the palette, and converting loses nothing;
    else k-means finds it. Of pictures with transparency (4 channels) one entry is transparent.

    Args:
        dataset: pictures, usually the training set.
        colours: number of entries, 2 to 256.
        per: `set`: all pictures share one palette. `picture`: each has its own, darkest colour
            first, which the model outputs besides the numbers.

    Raises:
        ConfigError: no pictures, or another number of colours or `per`.
    """
    shared = FoundPalette(dataset, colours)
    if per not in ("set", "picture"):
        raise ConfigError(f"palette_of: per is given as {per!r}; possible: set, picture")
    return shared if per == "set" else PicturePalettes(shared.count, shared.transparent)
