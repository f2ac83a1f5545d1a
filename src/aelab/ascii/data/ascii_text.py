"""ASCII pictures as text: cut out of files, trimmed, filtered, and centred in a grid."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from aelab.ascii.glyphs.alphabet import ALPHABET, to_grid
from aelab.ascii.glyphs.text import MIRRORED_PAIRS

_MIRROR = str.maketrans({pair[side]: pair[1 - side] for pair in MIRRORED_PAIRS for side in (0, 1)})
Lines = tuple[str, ...]
_PRINTABLE = frozenset(ALPHABET)
#: Tabs are expanded to multiples of this number of columns, as on terminals.
TAB_COLUMNS = 8


@dataclass(frozen=True)
class Rules:
    """The rules by which pictures are kept.

    Attributes:
        height: most lines.
        width: most characters in any line. The original checked only the first line, and failed
            later on a longer one.
        min_lines: fewest lines.
        min_ink: fewest characters that are no spaces.
        trim: first cut blank lines around, spaces at the right and the common indentation.
        expand_tabs: tabs become spaces up to the next multiple of 8; otherwise they are refused.
    """

    height: int
    width: int
    min_lines: int = 1
    min_ink: int = 1
    trim: bool = True
    expand_tabs: bool = True


@dataclass(frozen=True)
class Picture:
    """One picture, with its label and the name of its file."""

    lines: Lines
    label: str
    file: str = field(default="", compare=False)


@dataclass
class Sieve:
    """Filters pictures by the rules and counts those left out, by reason.

    Attributes:
        rules: the rules.
        left_out: reason -> number of pictures.
    """

    rules: Rules
    left_out: dict[str, int] = field(default_factory=dict)

    def lines(self, text: str) -> Lines | None:
        """The lines of a picture for the grid, or None if it is left out."""
        if self.rules.expand_tabs:
            text = "\n".join(line.expandtabs(TAB_COLUMNS) for line in text.split("\n"))
        lines = split_lines(text)
        lines = trimmed(lines) if self.rules.trim else lines
        reason = self._reason(lines)
        if reason:
            self.note(reason)
            return None
        return lines

    def note(self, reason: str) -> None:
        """Counts one more picture that is left out for this reason."""
        self.left_out[reason] = self.left_out.get(reason, 0) + 1

    def _reason(self, lines: Lines) -> str:
        rules = self.rules
        if not _PRINTABLE.issuperset("".join(lines)):
            return "not printable ASCII"
        if len(lines) > rules.height:
            return f"more than {rules.height} lines"
        if max(map(len, lines), default=0) > rules.width:
            return f"wider than {rules.width}"
        if len(lines) < rules.min_lines:
            return f"fewer than {rules.min_lines} lines"
        if sum(not character.isspace() for line in lines for character in line) < rules.min_ink:
            return f"fewer than {rules.min_ink} characters"
        return ""

    def told(self) -> str:
        """Text with the pictures left out, for a provenance; empty if there are none."""
        parts = [f"{count} {reason}" for reason, count in sorted(self.left_out.items())]
        return "left out: " + ", ".join(parts) if parts else ""


def split_lines(text: str) -> Lines:
    """Lines without line ends; the last newline of a file starts no further line."""
    text = text.replace("\r\n", "\n").removesuffix("\n")
    return tuple(text.split("\n"))


def split_collection(text: str) -> list[str]:
    """The pictures of a collection, separated by lines with only `%`, as in files of `fortune`.

    Text without such a line is one picture.
    """
    parts: list[list[str]] = [[]]
    for line in text.replace("\r\n", "\n").split("\n"):
        if line.rstrip() == "%":
            parts.append([])
        else:
            parts[-1].append(line)
    if len(parts) == 1:
        return [text]
    return ["\n".join(part) for part in parts if any(line.strip() for line in part)]


def trimmed(lines: Sequence[str]) -> Lines:
    """Removes blank lines around, spaces at the right, and the common indentation."""
    bare = [line.rstrip(" ") for line in lines]
    inked = [number for number, line in enumerate(bare) if line]
    if not inked:
        return ()
    bare = bare[inked[0] : inked[-1] + 1]
    indent = min(len(line) - len(line.lstrip(" ")) for line in bare if line)
    return tuple(line[indent:] for line in bare)


def squared(lines: Sequence[str], shape: tuple[int, int]) -> Tensor:
    """Centres lines in a grid of character numbers, (H, W) uint8.

    Lines are padded to the longest, then centred like Python's `str.center`: with an odd number of
    spaces, the extra one is on the left if W is odd, else on the right. With an odd number of blank
    lines, the extra one is below.

    Args:
        lines: at most H lines of at most W printable characters of ASCII.
        shape: (H, W).

    Source: the document's `AsciiArtDataset` (commit b5b2320).
    """
    height, width = shape
    widest = max(map(len, lines), default=0)
    grid = torch.zeros(shape, dtype=torch.uint8)
    missing = width - widest
    left = missing // 2 + (missing & width & 1)
    top = (height - len(lines)) // 2
    grid[top : top + len(lines), left : left + widest] = to_grid(lines, (len(lines), widest))
    return grid


def content_key(lines: Sequence[str]) -> str:
    """A hexadecimal key, equal for texts that differ only in place, and for mirrored ones.

    So such copies are always on the same side of a split, because training may mirror and shift.
    Place means blank lines around, the common indentation, and spaces at the right.
    """
    text = trimmed(lines)
    widest = max(map(len, text), default=0)
    turned = trimmed([line.ljust(widest)[::-1].translate(_MIRROR) for line in text])
    least = min("\n".join(version) for version in (text, turned))
    return hashlib.blake2b(least.encode(), digest_size=12).hexdigest()


def first_of_each_text(pictures: Iterable[Picture], sieve: Sieve) -> Iterator[Picture]:
    """Drops and counts exact copies of earlier pictures, compared after trimming."""
    seen: set[Lines] = set()
    for picture in pictures:
        text = trimmed(picture.lines)
        if text in seen:
            sieve.note("copies of others")
            continue
        seen.add(text)
        yield picture


def in_validation(key: str, share: float) -> bool:
    """Whether the picture with this key is in the validation share 0..1, by the key alone."""
    return int(key[:12], 16) < share * (1 << 48)
