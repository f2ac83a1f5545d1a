"""ASCII pictures of installed packages: cows of cowsay, fortunes, designs of boxes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from aelab.ascii.data.ascii_art import grid_size, labelled, read_text
from aelab.ascii.data.ascii_text import (
    Picture,
    Rules,
    Sieve,
    content_key,
    first_of_each_text,
    in_validation,
    split_collection,
    squared,
)
from aelab.ascii.medium import Characters
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.errors import ConfigError, DataError, did_you_mean, one_of
from aelab.medium import Medium
from aelab.types import Images, Provenance

_HEREDOC = re.compile(r"""\$the_cow\s*=\s*<<\s*(["']?)(\w+)\1[^\n]*\n""")
_PERL = re.compile(r"\\(.)|\$\{(\w+)\}|\$(\w+)", re.DOTALL)
#: Default values of cowsay's variables.
_VARIABLES = {"thoughts": "\\", "eyes": "oo", "tongue": "  ", "eye": "o"}


@dataclass(frozen=True)
class Package:
    """One package with pictures.

    Attributes:
        places: files, or folders of files, as installed by Debian and others.
        suffix: ending of the files in a folder.
        pictures: function that returns the pictures in the text of one file.
    """

    places: tuple[str, ...]
    suffix: str
    pictures: Callable[[str], list[str]]

    def files(self) -> list[Path]:
        """The existing files, sorted."""
        found: list[Path] = []
        for place in map(Path, self.places):
            if place.is_file():
                found.append(place)
            elif place.is_dir():
                found += sorted(file for file in place.rglob(f"*{self.suffix}") if file.is_file())
        return found


def cow_pictures(text: str) -> list[str]:
    """The pictures in a `.cow` file, a piece of Perl that sets `$the_cow`; nothing is executed.

    In the text between the marks of `<<EOC`, variables are replaced by cowsay's defaults, and a
    backslash escapes the next character. With quotes (`<<'EOC'`) the text is unchanged.
    """
    found = []
    for match in _HEREDOC.finditer(text.replace("\r\n", "\n")):
        quote, mark = match.groups()
        lines = text.replace("\r\n", "\n")[match.end() :].split("\n")
        end = lines.index(mark) if mark in lines else len(lines)
        body = "\n".join(lines[:end])
        found.append(body if quote == "'" else _PERL.sub(_plain, body))
    return found


def _plain(match: re.Match[str]) -> str:
    escaped, braced, bare = match.groups()
    return str(escaped) if escaped is not None else _VARIABLES.get(braced or bare, "")


def box_pictures(text: str) -> list[str]:
    """The samples in a configuration of boxes: the text between `sample` and `ends`."""
    found: list[list[str]] = []
    inside = False
    for line in text.replace("\r\n", "\n").split("\n"):
        word = line.strip().lower()
        if inside and word == "ends":
            inside = False
        elif inside:
            found[-1].append(line)
        elif word == "sample":
            inside = True
            found.append([])
    return ["\n".join(lines) for lines in found if lines]


#: The searched packages by name.
SOURCES: dict[str, Package] = {
    "boxes": Package(
        ("/etc/boxes/boxes-config", "/usr/share/boxes/boxes-config", "/usr/share/boxes"),
        "boxes-config",
        box_pictures,
    ),
    "cowsay": Package(
        ("/usr/share/cowsay", "/usr/local/share/cowsay", "/usr/share/cows"), ".cow", cow_pictures
    ),
    "fortunes": Package(
        ("/usr/share/games/fortunes/ascii-art", "/usr/share/fortune/ascii-art"),
        "",
        split_collection,
    ),
}


class PackagedAscii(Source):
    """The ASCII pictures of installed packages, see `packaged_ascii_dataset`."""

    name = "packaged-ascii"

    def __init__(
        self, packages: tuple[str, ...], rules: Rules, share: float | None, validation: bool
    ) -> None:
        super().__init__()
        self.packages, self.rules = packages, rules
        self.share, self.validation = share, validation

    @property
    def medium(self) -> Medium:
        """The 95 printable characters of ASCII."""
        return Characters()

    def item_shape(self) -> tuple[int, ...]:
        """(1, H, W), H lines of W characters."""
        return 1, self.rules.height, self.rules.width

    def files(self) -> list[tuple[str, Path]]:
        """(package, file) for all installed packages.

        Raises:
            DataError: none is installed.
        """
        found = [(name, file) for name in self.packages for file in SOURCES[name].files()]
        if not found:
            places = ", ".join(place for name in self.packages for place in SOURCES[name].places)
            raise DataError(
                f"none of the packages {one_of(self.packages)} is installed; looked at {places}",
                hint=f"type: apt install {' '.join(self.packages)}",
            )
        return found

    def verify(self) -> None:
        """Raise DataError if none of the packages is installed."""
        self.files()

    def sources(self) -> list[tuple[str, str]]:
        """The installed packages, with the folder of the first file of each."""
        first: dict[str, str] = {}
        for name, file in self.files():
            first.setdefault(name, str(file.parent))
        return list(first.items())

    def fingerprint(self) -> str:
        """Path, size and time of every file, and the arguments of reading."""
        stamps = " ".join(f"{name} {file_stamp(file)}" for name, file in self.files())
        return f"packaged ascii 1 {stamps} {self.rules} {self.share} {self.validation}"

    def read(self) -> Images:
        sieve = Sieve(self.rules)
        pictures = list(first_of_each_text(self._texts(sieve), sieve))
        known = [picture.label for picture in pictures]
        if self.share is not None:
            pictures = [
                picture
                for picture in pictures
                if in_validation(content_key(picture.lines), self.share) == self.validation
            ]
        if not pictures:
            raise DataError(
                f"{one_of(self.packages)} give no pictures for this side and shape; {sieve.told()}",
                hint="give a larger shape, or another validation_prop",
            )
        return self._images(pictures, sieve, known)

    def _texts(self, sieve: Sieve) -> Iterator[Picture]:
        for name, file in self.files():
            for text in SOURCES[name].pictures(read_text(file)):
                lines = sieve.lines(text)
                if lines is not None:
                    yield Picture(lines, name)

    def _images(self, pictures: Sequence[Picture], sieve: Sieve, known: Sequence[str]) -> Images:
        shape = self.rules.height, self.rules.width
        pixels = torch.stack([squared(picture.lines, shape) for picture in pictures])[:, None]
        owners = [picture.label for picture in pictures]
        labels, facts = labelled(owners, known)
        facts["left_out"] = dict(sieve.left_out)
        entries = []
        for name, place in self.sources():
            own = pixels[[row for row, owner in enumerate(owners) if owner == name]]
            if len(own):
                entries.append(Provenance(name, place, len(own), content_sha256(own)))
        entries[0] = entries[0]._replace(note=sieve.told())
        return make_images(
            pixels, labels=labels, provenance=entries, facts=facts, medium=Characters()
        )


@listed("packaged_ascii", {"validation_prop": 0.1}, {"validation_prop": 0.1, "validation": True})
def packaged_ascii_dataset(
    shape: int | tuple[int, int] = (24, 48),
    packages: Sequence[str] | None = None,
    validation_prop: float | None = None,
    validation: bool = False,
    *,
    min_lines: int = 3,
    min_ink: int = 12,
) -> Dataset:
    """The ASCII pictures of cowsay, fortunes and boxes, if they are installed.

    They are filtered, trimmed, centred and split as in `ascii_art_dataset`; labels are the
    packages. Only the folders of these packages are read.

    Args:
        shape: (H, W) in characters, or one number.
        packages: names among `boxes`, `cowsay`, `fortunes`; all installed ones if left out.
        validation_prop: the share of pictures, 0..1, for validation; None for all pictures.
        validation: the validation share instead of the training share.
        min_lines: least number of lines of a picture.
        min_ink: least number of characters that are no spaces.

    Raises:
        ConfigError: an argument out of its range.
    """
    where = "packaged_ascii_dataset"
    height, width = grid_size(shape, where)
    names = tuple(SOURCES if packages is None else packages)
    for name in names:
        if name not in SOURCES:
            raise ConfigError(
                f"{where}: unknown package {name!r}{did_you_mean(name, SOURCES)}",
                hint=f"possible: {one_of(SOURCES)}",
            )
    if validation_prop is not None and not 0 < validation_prop < 1:
        raise ConfigError(f"{where}: validation_prop is between 0 and 1, got {validation_prop!r}")
    if validation and validation_prop is None:
        raise ConfigError(
            f"{where}: validation=True needs the share of validation pictures",
            hint="add validation_prop=0.1, here and in the training set",
        )
    rules = Rules(height, width, min_lines, min_ink)
    return Dataset(PackagedAscii(names, rules, validation_prop, bool(validation)))
