"""Sets that others have published: where their files are searched, downloaded and named."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.sources.download import Remote
from aelab.data.sources.file_types import kind_of
from aelab.errors import DataError, did_you_mean, one_of
from aelab.types import Images, Provenance


class PublishedSet(Source):
    """A published set; a subclass says which files it has and how their content is read.

    Args:
        path: a folder with the files, or a file; None: `AELAB_DATA`, the cache, then a download.
    """

    #: Folders in which its files usually lie, below `AELAB_DATA` and the cache.
    folders: ClassVar[tuple[str, ...]] = ()
    #: (C, H, W) of an image as stored.
    stored: tuple[int, int, int]
    #: Where the files come from, in words, if they cannot be downloaded without a person.
    by_hand: ClassVar[str] = ""
    #: Kinds of files it is published as: how their `FileType.name` begins. Files of no known kind
    #: may be its own binary form.
    kinds: ClassVar[tuple[str, ...]]

    def __init__(self, path: str | None = None) -> None:
        super().__init__()
        self.path = str(roots.resolve(path)) if path is not None else None

    @property
    @abstractmethod
    def candidates(self) -> Sequence[str]:
        """Names of files of which the first that exists is read, relative to `folders`."""

    @property
    def remote(self) -> Remote | None:
        """The file that is downloaded if none of the candidates exists; None: none can be."""
        return None

    @property
    def part(self) -> str:
        """The part of the set, for its fingerprint."""
        return ""

    @abstractmethod
    def read_from(self, found: Path) -> Images:
        """Reads the images of the file that was found or downloaded."""

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W) as stored."""
        return self.stored

    def is_bytes(self) -> bool:
        """True: the published files hold bytes."""
        return True

    def fingerprint(self) -> str:
        """The name, the part, and path, size and time of the file."""
        return f"{self.name} {self.part} {file_stamp(self.find(self.candidates)[0])}"

    def verify(self) -> None:
        """Raise DataError if there is no file, and none can be downloaded."""
        found, places = self.find(self.candidates)
        if found is None and (self.path is not None or self.remote is None):
            raise self.missing(self.candidates, places)
        self._refuse_other_kind(found)

    def sources(self) -> list[tuple[str, str]]:
        """The folder of the files, or the address they are downloaded from."""
        found, _ = self.find(self.candidates)
        if found is not None:
            return [(self.name, str(found.parent))]
        remote = self.remote
        return [(self.name, f"not here; downloaded from {remote.home}" if remote else "not here")]

    def read(self) -> Images:
        return self.read_from(self.located(self.candidates, self.remote))

    def find(self, names: Sequence[str]) -> tuple[Path | None, list[Path]]:
        """The first file that exists, and every place that was searched."""
        inside = [f"{folder}/{name}" for folder in self.folders for name in names]
        with roots.entering(self._roots):
            return roots.find([*inside, *names], self.path)

    def located(self, names: Sequence[str], remote: Remote | None) -> Path:
        """The first file that exists, else the downloaded one.

        Raises:
            DataError: there is none, or the download fails.
        """
        found, places = self.find(names)
        if found is not None:
            self._refuse_other_kind(found)
            return found
        if self.path is not None or remote is None:
            raise self.missing(names, places)
        return remote.fetch(places)

    def _refuse_other_kind(self, found: Path | None) -> None:
        """Raises DataError for a given file that is sound, but of a kind that the set never is."""
        # A file in a folder was found by its own name.
        if found is None or self.path is None or not Path(self.path).is_file():
            return
        kind = kind_of(found)
        if kind is None or kind.name.startswith(self.kinds):
            return
        names = one_of(dict.fromkeys(Path(name).name for name in self.candidates))
        raise DataError(
            f"{self.name}: {found} is {kind.name}, not a file of this set",
            hint=f"path is a folder with {names}, or such a file; {kind.way_out}",
        )

    def missing(self, names: Sequence[str], places: Sequence[Path]) -> DataError:
        """The error for files that are not there."""
        looked = "\n    ".join(map(str, places[:12])) or "nothing: AELAB_DATA is not set"
        if self.path is not None:
            usual = "leave `path` out to use AELAB_DATA, the cache or a download"
            what = f"{Path(names[0]).name} is not where `path` points"
        else:
            usual, what = "give path=... or set AELAB_DATA", "its files were not found"
        hint = self.by_hand or roots.way_out(usual, self._roots)
        return DataError(f"{self.name}: {what}; looked at\n    {looked}", hint=hint)

    def images(
        self,
        found: Path,
        pixels: Tensor,
        labels: Tensor | None = None,
        label_names: Sequence[str] = (),
        **facts: Any,
    ) -> Images:
        """`Images` of this set with their provenance."""
        source = Provenance(self.name, str(found), len(pixels), content_sha256(pixels))
        if label_names:
            facts["label_names"] = list(label_names)
        return make_images(pixels, labels=labels, provenance=[source], facts=facts)


def part_of(part: str, parts: Sequence[str], title: str) -> str:
    """`part`, if a published set has it.

    Raises:
        DataError: it has no such part; the message lists the parts.
    """
    if part not in parts:
        raise DataError(
            f"{title} has no part {part!r}{did_you_mean(part, parts)}",
            hint=f"possible: {one_of(parts)}",
        )
    return part


def damaged(where: object, what: str, remote: Remote | None = None) -> DataError:
    """The error for a file that has not the content of the published set."""
    again = f"; download it again from {remote.home}" if remote else ""
    return DataError(f"{where} {what}", hint=f"copy it again from its source{again}")
