"""MNIST, Fashion-MNIST, KMNIST, and users' own IDX files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from aelab import roots
from aelab.data.base import Source, content_sha256, file_stamp, make_images
from aelab.data.dataset import Dataset
from aelab.data.listed import listed
from aelab.data.prepare import ToShape
from aelab.data.sources.download import fetch
from aelab.data.sources.idx import idx_sizes, load_idx
from aelab.errors import DataError
from aelab.types import Images, Provenance


@dataclass(frozen=True)
class PublishedIdx:
    """A published set of four IDX files.

    Attributes:
        folder: its folder under `AELAB_DATA` and in the cache.
        theirs: torchvision's name of its folder.
        sha256: SHA-256 of each file's decompressed content; empty where only that of the packed
            file is published.
        mirrors: addresses to which the file's name is appended.
        packed: (SHA-256, size in bytes) of each file as it is downloaded, in place of `sha256`.
        classes: names of the classes by number.
    """

    name: str
    folder: str
    sha256: dict[str, str]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...] = ()
    theirs: str = ""
    packed: dict[str, tuple[str, int]] = field(default_factory=dict)

    def candidates(self, file: str) -> list[str]:
        """Possible places of the file: our layout and torchvision's, gzipped or unpacked."""
        stem = file.removesuffix(".gz")
        folders = (self.folder, f"{self.theirs}/raw")
        return [f"{folder}/{name}" for folder in folders for name in (file, stem)]


_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)


def _by_file(*hashes: str) -> dict[str, str]:
    return dict(zip(_FILES, hashes, strict=True))


MNIST = PublishedIdx(
    "mnist",
    "mnist",
    _by_file(
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
    (
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    tuple("0123456789"),
    "MNIST",
)
FASHION_MNIST = PublishedIdx(
    "fmnist",
    "fashion-mnist",
    _by_file(
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
    (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
    "FashionMNIST",
)
KMNIST = PublishedIdx(
    "kmnist",
    "kmnist",
    {},
    ("http://codh.rois.ac.jp/kmnist/dataset/kmnist/",),
    ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo"),
    "KMNIST",
    dict(
        zip(
            _FILES,
            (
                ("51467d22d8cc72929e2a028a0428f2086b092bb31cfb79c69cc0a90ce135fde4", 18_165_135),
                ("e38f9ebcd0f3ebcdec7fc8eabdcdaef93bb0df8ea12bee65224341c8183d8e17", 29_497),
                ("edd7a857845ad6bb1d0ba43fe7e794d164fe2dce499a1694695a792adfac43c5", 3_041_136),
                ("20bb9a0ef54c7db3efc55a92eef5582c109615df22683c380526788f98e42a1c", 5_120),
            ),
            strict=True,
        )
    ),
)


class KnownIdx(Source):
    """One half of a published IDX set, 28 x 28 grey, as stored."""

    def __init__(self, known: PublishedIdx, train: bool, path: str | None = None) -> None:
        super().__init__()
        self.known = known
        self.name = known.name
        half = "train" if train else "t10k"
        self.train = train
        self.files = (f"{half}-images-idx3-ubyte.gz", f"{half}-labels-idx1-ubyte.gz")
        self.path = str(roots.resolve(path)) if path is not None else None
        self._found: dict[str, tuple[Path, list[Path]]] = {}

    def item_shape(self) -> tuple[int, ...]:
        """(1, 28, 28)."""
        return (1, 28, 28)

    def count(self) -> int | None:
        """60,000 training images, or 10,000 test images."""
        return 60_000 if self.train else 10_000

    def reading_seconds(self) -> float | None:
        """Seconds of unpacking and hashing; None if the files must be downloaded first."""
        found = self._find(self.files[0])[0]
        return None if found is None else 1.2e-5 * self.count()  # type: ignore[operator]

    def is_bytes(self) -> bool:
        """True: the files hold uint8."""
        return True

    def fingerprint(self) -> str:
        """The name, and path, size and time of the images' file."""
        return f"{self.name} {self.files[0]} {file_stamp(self._find(self.files[0])[0])}"

    def verify(self) -> None:
        """Raise DataError if a file has a wrong size, or is missing where `path` points."""
        for file in self.files:
            found, places = self._find(file)
            if found is not None:
                sizes = idx_sizes(found)
                if sizes[0] != self.count():
                    raise DataError(
                        f"{found} holds {sizes[0]:,} entries, {self.name} has {self.count():,}",
                        hint="another file of the same format is read by idx_dataset(path=...)",
                    )
            elif self.path is not None:
                raise self._missing(file, places)

    def sources(self) -> list[tuple[str, str]]:
        """The folder of the files, or the address they are downloaded from."""
        found, _ = self._find(self.files[0])
        where = str(found.parent) if found else f"not here; downloaded from {self.known.mirrors[0]}"
        return [(self.name, where)]

    def _find(self, file: str) -> tuple[Path | None, list[Path]]:
        """The file and the places searched; a file once found is not searched again."""
        held = self._found.get(file)
        if held is not None and held[0].is_file():
            return held
        with roots.entering(self._roots):
            found, places = roots.find(self.known.candidates(file), self.path)
        if found is not None:
            self._found[file] = found, places
        return found, places

    def _missing(self, file: str, places: list[Path]) -> DataError:
        looked = "\n    ".join(map(str, places))
        return DataError(
            f"{self.name}: {file} is not where `path` points; looked at\n    {looked}",
            hint=roots.way_out(
                "leave `path` out to use AELAB_DATA, the cache or a download", self._roots
            ),
        )

    def _located(self, file: str) -> Path:
        found, places = self._find(file)
        if found is not None:
            return found
        if self.path is not None:
            raise self._missing(file, places)
        packed, size_bytes = self.known.packed.get(file, ("", None))
        return fetch(
            [mirror + file for mirror in self.known.mirrors],
            roots.cache_folder() / self.known.folder / file,
            looked_at=places,
            sha256=self.known.sha256.get(file),
            digest=f"sha256:{packed}" if packed else "",
            size_bytes=size_bytes,
        )

    def read(self) -> Images:
        images_file, labels_file = self.files
        path = self._located(images_file)
        expected = self.known.sha256
        pixels = load_idx(path, sha256=expected.get(images_file), dimensions=3)[:, None]
        labels = load_idx(
            self._located(labels_file), sha256=expected.get(labels_file), dimensions=1
        )
        sha256 = expected.get(images_file) or content_sha256(pixels)
        provenance = Provenance(self.name, str(path), len(pixels), sha256)
        facts = {"label_names": list(self.known.classes)}
        return make_images(pixels, labels=labels.long(), provenance=[provenance], facts=facts)


class IdxFile(Source):
    """Any IDX file of images, with an optional file of labels."""

    name = "idx"

    def __init__(self, path: str, labels_path: str | None = None) -> None:
        super().__init__()
        self.path = roots.resolve(path)
        self.labels_path = roots.resolve(labels_path) if labels_path is not None else None

    def item_shape(self) -> tuple[int, ...]:
        """(C, H, W), or (1, H, W) for grey images, from the header of the file.

        Raises:
            DataError: a file is missing or is no IDX file.
        """
        self.verify()
        sizes = idx_sizes(self.path)[1:]
        return (1, *sizes) if len(sizes) == 2 else sizes

    def count(self) -> int | None:
        """The number of images from the header of the file."""
        return idx_sizes(self.path)[0]

    def verify(self) -> None:
        """Raise DataError if a file is missing."""
        for path in (self.path, self.labels_path):
            if path is not None and not path.is_file():
                raise DataError(f"there is no file {path}", hint="give path=... of an IDX file")

    def reading_seconds(self) -> float | None:
        """Seconds estimated from the size of the file, packed or not."""
        packed = self.path.suffix == ".gz"
        return self.path.stat().st_size / (2e7 if packed else 2e8)

    def is_bytes(self) -> bool:
        """True: IDX files of other types are refused."""
        return True

    def fingerprint(self) -> str:
        """Path, size and time of both files."""
        return f"idx {file_stamp(self.path)} {file_stamp(self.labels_path)}"

    def sources(self) -> list[tuple[str, str]]:
        """The path of the images."""
        return [(self.name, str(self.path))]

    def read(self) -> Images:
        self.verify()
        pixels = load_idx(self.path)
        if pixels.ndim not in (3, 4):
            raise DataError(
                f"{self.path} has {pixels.ndim} dimensions; images have 3 (grey) or 4 (with colour)"
            )
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels
        labels = load_idx(self.labels_path, dimensions=1).long() if self.labels_path else None
        if labels is not None and len(labels) != len(pixels):
            raise DataError(
                f"{self.labels_path} has {len(labels):,} labels for {len(pixels):,} images"
            )
        source = Provenance(self.name, str(self.path), len(pixels), content_sha256(pixels))
        return make_images(pixels, labels=labels, provenance=[source])


@listed("mnist", validation={"train": False})
def mnist_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (1, 28, 28),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """Handwritten digits: 60,000 for training, 10,000 for validation, 28 x 28 grey.

    Args:
        train: the training or the test half.
        shape: (C, H, W) wanted.
        interpolation: True `bilinear` antialiased, False `nearest`, or a filter's name.
        normalize_between: (low, high) for each image's own minimum and maximum.
        path: folder with the IDX files; otherwise `AELAB_DATA`, the cache, a checked download.

    Source: LeCun, Cortes, Burges, 1998, CC BY-SA 3.0.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(KnownIdx(MNIST, bool(train), path), [resize])


@listed("fmnist", validation={"train": False})
def fmnist_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (1, 28, 28),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """Fashion-MNIST: 60,000 + 10,000 pictures of clothes, 28 x 28 grey.

    The arguments are those of `mnist_dataset`.

    Source: Xiao, Rasul, Vollgraf 2017, arXiv:1708.07747, MIT.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(KnownIdx(FASHION_MNIST, bool(train), path), [resize])


@listed("kmnist", validation={"train": False})
def kmnist_dataset(
    train: bool = True,
    shape: tuple[int, int, int] = (1, 28, 28),
    interpolation: bool | str = True,
    normalize_between: tuple[float, float] | None = None,
    path: str | None = None,
) -> Dataset:
    """KMNIST: 60,000 + 10,000 cursive Japanese characters of ten classes, 28 x 28 grey.

    The arguments are those of `mnist_dataset`.

    Source: Clanuwat et al. 2018, arXiv:1812.01718, CC BY-SA 4.0.
    """
    resize = ToShape(shape, interpolation, normalize_between)
    return Dataset(KnownIdx(KMNIST, bool(train), path), [resize])


def idx_dataset(
    path: str,
    labels_path: str | None = None,
    shape: tuple[int, int, int] | None = None,
    interpolation: bool | str = True,
) -> Dataset:
    """Your own images in an IDX file, gzipped or not.

    Args:
        path: the file of images: uint8, (N, H, W) or (N, C, H, W).
        labels_path: an IDX file with one label for each image.
        shape: (C, H, W) wanted; the stored shape if left out.
        interpolation: as for `mnist_dataset`.
    """
    return Dataset(IdxFile(path, labels_path), [ToShape(shape, interpolation)])
