"""CIFAR-10 and CIFAR-100 in all published versions; the pickles are read without running them."""

from __future__ import annotations

import io
import pickle
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.pixel_room import PixelRoom
from aelab.data.prepare import ToShape
from aelab.data.sources.download import Remote
from aelab.data.sources.matlab import mat_array
from aelab.data.sources.published import PublishedSet
from aelab.errors import DataError
from aelab.files import open_file, read_file
from aelab.types import Images

#: Bytes of one image: red, green, blue, each 32 rows of 32.
_PIXELS = 3 * 32 * 32
#: An upper bound of the size of each file.
_MOST_BYTES = 256 << 20
_MIRRORS = ("https://www.cs.toronto.edu/~kriz/", "https://cave.cs.toronto.edu/kriz/")


@dataclass(frozen=True)
class PublishedCifar:
    """One of the two sets.

    Attributes:
        name: in tables.
        title: in messages.
        folders: in which its files usually lie.
        train, test: stems of the files of each half.
        images_a_file: by half: train, test.
        versions: folder in the archive and ending of the files, of each published version.
        archives: the archive of each version; the first is downloaded.
        remote: that archive.
        labels_a_image: bytes of labels before each image of the binary version.
        classes: names of the labels, by the name of their array in the other versions, in the
            order of the bytes of the binary version.
    """

    name: str
    title: str
    folders: tuple[str, ...]
    train: tuple[str, ...]
    test: tuple[str, ...]
    images_a_file: tuple[int, int]
    versions: tuple[tuple[str, str], ...]
    archives: tuple[str, ...]
    remote: Remote
    classes: dict[str, tuple[str, ...]]


CIFAR10 = PublishedCifar(
    "cifar10",
    "CIFAR-10",
    ("cifar-10", "cifar10", "CIFAR10"),
    tuple(f"data_batch_{n}" for n in range(1, 6)),
    ("test_batch",),
    (10_000, 10_000),
    (
        ("cifar-10-batches-bin", ".bin"), ("cifar-10-batches-py", ""),
        ("cifar-10-batches-mat", ".mat"),
    ),
    ("cifar-10-binary.tar.gz", "cifar-10-python.tar.gz", "cifar-10-matlab.tar.gz"),
    Remote(
        "cifar-10-binary.tar.gz",
        _MIRRORS,
        "sha256:c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
        170_052_171,
        "cifar-10",
    ),
    {
        "labels": tuple(
            "airplane automobile bird cat deer dog frog horse ship truck".split()
        )
    },
)  # fmt: skip

#: The 20 superclasses and 100 classes of CIFAR-100, each in alphabetical order.
_COARSE = """aquatic_mammals fish flowers food_containers fruit_and_vegetables
household_electrical_devices household_furniture insects large_carnivores
large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2"""
_FINE = """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout
tulip turtle wardrobe whale willow_tree wolf woman worm"""

CIFAR100 = PublishedCifar(
    "cifar100",
    "CIFAR-100",
    ("cifar-100", "cifar100", "CIFAR100"),
    ("train",),
    ("test",),
    (50_000, 10_000),
    (("cifar-100-binary", ".bin"), ("cifar-100-python", ""), ("cifar-100-matlab", ".mat")),
    ("cifar-100-binary.tar.gz", "cifar-100-python.tar.gz", "cifar-100-matlab.tar.gz"),
    Remote(
        "cifar-100-binary.tar.gz",
        _MIRRORS,
        "sha256:58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec",
        168_513_733,
        "cifar-100",
    ),
    {"coarse_labels": tuple(_COARSE.split()), "fine_labels": tuple(_FINE.split())},
)


class Cifar(PublishedSet):
    """One half of CIFAR-10 or CIFAR-100, 3 x 32 x 32, as stored.

    Args:
        published: which of the two.
        train: the training half if true, else the test half.
        labels: which labels, a name of `published.classes`.
        path: see `PublishedSet`.
    """

    stored = (3, 32, 32)

    kinds = ("packed with", "a tar archive", "a Python pickle", "a MATLAB file", "an HDF5 file")

    def __init__(
        self, published: PublishedCifar, train: bool, labels: str, path: str | None = None
    ) -> None:
        super().__init__(path)
        self.published, self.train, self.labels = published, train, labels
        self.name, self.folders = published.name, published.folders  # type: ignore[misc]
        self.stems = published.train if train else published.test

    @property
    def images_a_file(self) -> int:
        """Images in each file of the half."""
        return self.published.images_a_file[0 if self.train else 1]

    @property
    def part(self) -> str:
        """The first file; of CIFAR-100 also which labels."""
        return self.stems[0] + (f" {self.labels}" if len(self.published.classes) > 1 else "")

    @property
    def candidates(self) -> Sequence[str]:
        """The first file of the half in each version, then the archives."""
        inside = [f"{folder}/{self.stems[0]}{end}" for folder, end in self.published.versions]
        return [*inside, *self.published.archives]

    @property
    def remote(self) -> Remote:
        """The archive of the binary version."""
        return self.published.remote

    def count(self) -> int | None:
        """The number of images of the half."""
        return len(self.stems) * self.images_a_file

    def verify(self) -> None:
        """Raise DataError if the half is incomplete; without any file it can be downloaded."""
        super().verify()
        found, _ = self.find(self.candidates)
        if found is None:
            return
        archives = " or ".join(self.published.archives[:2])
        for file in self._files(found):
            if not file.is_file():
                raise DataError(
                    f"{file} is missing beside {found.name}", hint=f"unpack {archives} again"
                )
            wanted = self.images_a_file * (len(self.published.classes) + _PIXELS)
            if file.suffix == ".bin" and file.stat().st_size != wanted:
                raise DataError(
                    f"{file} has {file.stat().st_size:,} bytes; {wanted:,} are "
                    f"{self.images_a_file:,} images with their labels",
                    hint=f"unpack {archives} again",
                )

    def _files(self, found: Path) -> list[Path]:
        """The files of the half beside its first one; empty for an archive."""
        if found.name.endswith((".gz", ".tgz", ".tar")):
            return []
        return [found.with_name(f"{stem}{found.suffix}") for stem in self.stems]

    def read_from(self, found: Path) -> Images:
        """Reads the files, or those inside of an archive."""
        self.verify()
        files = self._files(found)
        contents: Iterator[tuple[str, bytes]]
        if files:
            contents = ((str(file), read_file(file)) for file in files)
        else:
            contents = self._members(found)
        room, numbers = PixelRoom(self.count(), self.name), []
        for name, content in contents:
            pixels, labels = self._read_batch(name, content)
            room.add(pixels)
            numbers.append(labels)
        names = self.published.classes[self.labels]
        return self.images(found, room.done(), torch.cat(numbers).long(), names)

    def _members(self, archive: Path) -> Iterator[tuple[str, bytes]]:
        """(name, content) of the files of an archive, read into memory, not unpacked to disk."""
        versions = self.published.versions
        wanted = {f"{folder}/{stem}{end}" for folder, end in versions for stem in self.stems}
        found: dict[str, bytes] = {}
        try:
            with open_file(archive) as file, tarfile.open(fileobj=file, mode="r:*") as tar:
                for member in tar:
                    if member.name in wanted and member.isreg() and member.size <= _MOST_BYTES:
                        content = tar.extractfile(member)
                        found[member.name] = content.read() if content else b""
        except (tarfile.TarError, EOFError, OSError) as error:
            why = str(error).partition("\n")[0].rstrip(":")  # then a line for each packing
            raise DataError(
                f"{archive} is not an archive of {self.published.title}, or cut off: {why}",
                hint="remove it; it is downloaded again",
            ) from None
        for folder, end in versions:
            names = [f"{folder}/{stem}{end}" for stem in self.stems]
            if all(name in found for name in names):
                yield from ((f"{archive}: {name}", found.pop(name)) for name in names)
                return
        raise DataError(
            f"{archive} lacks {', '.join(sorted(wanted - found.keys()))}",
            hint=f"the published archives are {', '.join(self.published.archives)}",
        )

    def _read_batch(self, name: str, content: bytes) -> tuple[Tensor, Tensor]:
        """(N, 3, 32, 32) and (N,) uint8 of one file.

        Raises:
            DataError: a wrong length, an impossible label, or a pickle of anything but arrays.
        """
        if name.endswith(".bin"):
            pixels, labels = self._of_binary(name, content)
        elif name.endswith(".mat"):
            pixels, labels = self._of_matlab(name, content)
        else:
            pixels, labels = self._of_pickle(name, content)
        count, classes = self.images_a_file, len(self.published.classes[self.labels])
        if pixels.shape != (count, _PIXELS) or labels.shape != (count,):
            raise self._damaged(name, f"{len(labels):,} labels, pixels {tuple(pixels.shape)}")
        if int(labels.max()) >= classes or int(labels.min()) < 0:
            wrong = int(labels.max()) if int(labels.max()) >= classes else int(labels.min())
            raise self._damaged(name, f"a label {wrong}; possible: 0 to {classes - 1}")
        # (N, 3072) -> (N, 3, 32, 32): stored channel by channel, row by row.
        return pixels.reshape(-1, 3, 32, 32).contiguous(), labels

    def _of_binary(self, name: str, content: bytes) -> tuple[Tensor, Tensor]:
        rows = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        each = len(self.published.classes)
        if len(rows) != self.images_a_file * (each + _PIXELS):
            raise self._damaged(name, f"{len(rows):,} bytes")
        # Each row: the bytes of its labels, then the pixels.
        rows = rows.view(self.images_a_file, each + _PIXELS)
        return rows[:, each:], rows[:, list(self.published.classes).index(self.labels)]

    def _of_matlab(self, name: str, content: bytes) -> tuple[Tensor, Tensor]:
        with tempfile.NamedTemporaryFile(suffix=".mat") as file:
            file.write(content)
            file.flush()
            data = mat_array(Path(file.name), "data", name)
            labels = mat_array(Path(file.name), self.labels, name)
        return _bytes(data), torch.from_numpy(labels.astype("int64")).flatten()

    def _of_pickle(self, name: str, content: bytes) -> tuple[Tensor, Tensor]:
        try:
            batch = _NothingButArrays(io.BytesIO(content), encoding="bytes").load()
            array = batch.get(b"data", batch.get("data"))
            numbers = batch.get(self.labels.encode(), batch.get(self.labels))
            labels = torch.tensor([int(number) for number in numbers], dtype=torch.int64)
            if array.kind not in ("u1", "|u1", "uint8"):
                raise ValueError(f"pixels of type {array.kind}")
            pixels = torch.frombuffer(bytearray(array.content), dtype=torch.uint8)
            return pixels.view(-1, _PIXELS), labels
        except Exception as error:
            raise self._damaged(name, f"{type(error).__name__}: {str(error)[:80]}") from None

    def _damaged(self, name: str, what: str) -> DataError:
        return DataError(
            f"{name} is not a file of {self.published.title}: {what}",
            hint=f"unpack one of {', '.join(self.published.archives)}",
        )


def _bytes(values: Any) -> Tensor:
    return torch.from_numpy(values.astype("uint8", order="C"))


class _Array:
    """A stand-in for a pickled numpy array: only shape, dtype and bytes."""

    shape: tuple[int, ...] = ()
    kind: str = ""
    content: bytes = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, by_columns, content = state
        if not isinstance(kind, _DataType) or not isinstance(content, bytes) or by_columns:
            raise pickle.UnpicklingError("an array without bytes")
        self.shape, self.kind, self.content = tuple(shape), kind.name, content


class _DataType:
    """A stand-in for a pickled numpy dtype: only its name."""

    def __init__(self, name: Any = "", *_: Any) -> None:
        self.name = name.decode() if isinstance(name, bytes) else str(name)

    def __setstate__(self, state: Any) -> None:
        """Ignores byte order and alignment, which do not matter for bytes."""


class _NothingButArrays(pickle.Unpickler):
    """Unpickles arrays as plain records. It imports no name from the file, so no code can run."""

    _KNOWN = {  # noqa: RUF012  (a table)
        ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _DataType,
        ("_codecs", "encode"): lambda text, _: text.encode("latin1"),
    }

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a known name; raises for any other."""
        try:
            return self._KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}") from None


@listed("cifar10", validation={"train": False})
def cifar10_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (3, 32, 32),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """CIFAR-10: 50,000 + 10,000 small photographs of ten classes, 32 x 32 in colour.

    Args:
        train: the training half if true, else the test half.
        shape: (C, H, W) wanted.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        normalize_between: (low, high), to which each image's own minimum and maximum are mapped.
        path: folder with the files of the binary, the Python or the MATLAB version, or one of the
            archives. If left out: `AELAB_DATA`, then the cache, then a checked download of 170 MB.
            Pickles are read without running code.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(Cifar(CIFAR10, bool(train), "labels", path), [resize])


@listed("cifar100", validation={"train": False})
def cifar100_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (3, 32, 32),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
    *,
    coarse: bool = False,
) -> Dataset:
    """CIFAR-100: 50,000 + 10,000 small photographs of a hundred classes, 32 x 32 in colour.

    Args:
        train, shape, interpolation, normalize_between, path: as for `cifar10_dataset`.
        coarse: label with the 20 superclasses instead of the 100 classes.

    Source: Krizhevsky 2009, Learning multiple layers of features from tiny images.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    labels = "coarse_labels" if coarse else "fine_labels"
    return Dataset(Cifar(CIFAR100, bool(train), labels, path), [resize])
