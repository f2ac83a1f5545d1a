"""IDX files: what is read, and how each kind of damage is told."""

from __future__ import annotations

import gzip
import hashlib
import threading
from collections.abc import Callable
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torch import Tensor

from aelab.data import idx_dataset, mnist_dataset
from aelab.data.sources import download
from aelab.data.sources.idx import idx_sizes, load_idx
from aelab.data.sources.mnist import MNIST, PublishedIdx
from aelab.errors import DataError

Write = Callable[[Path, Tensor], Path]
FETCH_ONE = download._fetch_one  # before the fixture forbids the network


@pytest.fixture
def pixels() -> Tensor:
    return torch.arange(5 * 28 * 28, dtype=torch.int32).remainder(251).view(5, 28, 28).byte()


@pytest.mark.parametrize("name", ["images.gz", "images"])
def test_packed_and_unpacked_files_are_read(
    tmp_path: Path, write_idx: Write, pixels: Tensor, name: str
) -> None:
    path = write_idx(tmp_path / name, pixels)
    assert torch.equal(load_idx(path, dimensions=3), pixels)
    assert idx_sizes(path) == (5, 28, 28)


def test_a_wrong_magic_number_is_told_with_both_numbers(
    tmp_path: Path, write_idx: Write, pixels: Tensor
) -> None:
    labels = write_idx(tmp_path / "labels.gz", pixels[:, 0, 0])
    with pytest.raises(DataError) as raised:
        load_idx(labels, dimensions=3)
    text = str(raised.value)
    assert str(labels) in text and "0x00000801" in text and "0x00000803" in text
    assert "exchanged" in text


@pytest.mark.parametrize("content", [b"", b"\x00\x00", b"<!DOCTYPE html><html>"])
def test_what_is_no_idx_file_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "page"
    path.write_bytes(content)
    with pytest.raises(DataError, match="is not an IDX file"):
        load_idx(path)


def test_a_cut_off_file_is_told_with_both_lengths(
    tmp_path: Path, write_idx: Write, pixels: Tensor
) -> None:
    path = write_idx(tmp_path / "images", pixels)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"cut off: 3,820 bytes.*5x28x28 promises 3,920"):
        load_idx(path)


def test_a_file_with_too_much_is_told(tmp_path: Path, write_idx: Write, pixels: Tensor) -> None:
    path = write_idx(tmp_path / "images", pixels)
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(DataError, match="too long"):
        load_idx(path)


def test_a_header_that_is_cut_off_is_told(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(b"\x00\x00\x08\x03\x00\x00")
    with pytest.raises(DataError, match="within its header"):
        load_idx(path)


def test_a_damaged_gzip_file_is_told(tmp_path: Path, write_idx: Write, pixels: Tensor) -> None:
    path = write_idx(tmp_path / "images.gz", pixels)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"cannot read .*images\.gz"):
        load_idx(path)


def test_a_checksum_mismatch_tells_both_sums_and_the_way_out(
    tmp_path: Path, write_idx: Write, pixels: Tensor
) -> None:
    path = write_idx(tmp_path / "images.gz", pixels)
    given = hashlib.sha256(gzip.decompress(path.read_bytes())).hexdigest()
    with pytest.raises(DataError) as raised:
        load_idx(path, sha256="0" * 64)
    text = str(raised.value)
    assert given in text and "0" * 64 in text and "delete it" in text and "idx_dataset" in text


def known(pixels: Tensor, folder: Path) -> PublishedIdx:
    """MNIST's description with the checksums of small files."""
    sums = {
        file: hashlib.sha256(gzip.decompress((folder / file).read_bytes())).hexdigest()
        for file in MNIST.sha256
    }
    return PublishedIdx("mnist", "mnist", sums, MNIST.mirrors)


@pytest.fixture
def small_mnist(
    data_folder: Path, write_idx: Write, monkeypatch: pytest.MonkeyPatch
) -> PublishedIdx:
    """Real layout, 60 training and 10 test images; the published counts are lowered too."""
    folder = data_folder / "mnist"
    for half, count in (("train", 60), ("t10k", 10)):
        images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8)
        write_idx(folder / f"{half}-images-idx3-ubyte.gz", images)
        labels = torch.arange(count).remainder(10).byte()
        write_idx(folder / f"{half}-labels-idx1-ubyte.gz", labels)
    small = known(torch.empty(0), folder)
    monkeypatch.setattr("aelab.data.sources.mnist.MNIST", small)
    monkeypatch.setattr(
        "aelab.data.sources.mnist.KnownIdx.count", lambda self: 60 if self.train else 10
    )
    return small


def test_mnist_is_found_in_the_data_folder(small_mnist: PublishedIdx, data_folder: Path) -> None:
    dataset = mnist_dataset(True)
    dataset.verify()
    images = dataset.load()
    assert images.pixels.shape == (60, 1, 28, 28) and images.pixels.dtype == torch.uint8
    assert images.labels is not None and images.labels[:3].tolist() == [0, 1, 2]
    (source,) = images.provenance
    assert source.name == "mnist" and source.count == 60
    assert source.source.startswith("$AELAB_DATA/mnist/")
    assert source.sha256 == small_mnist.sha256["train-images-idx3-ubyte.gz"]


def test_a_found_file_that_is_moved_is_searched_again(
    small_mnist: PublishedIdx, data_folder: Path
) -> None:
    dataset = mnist_dataset(True)
    before = dataset.fingerprint()
    (data_folder / "mnist").rename(data_folder / "elsewhere")
    assert dataset.reading_seconds() is None and "missing" in dataset.fingerprint()
    (data_folder / "elsewhere").rename(data_folder / "mnist")
    assert dataset.fingerprint() == before and len(dataset.load()) == 60


def test_equal_pixels_have_equal_hashes_when_nothing_was_resized(small_mnist: PublishedIdx) -> None:
    smooth, hard = (mnist_dataset(True, interpolation=aa).load() for aa in (True, False))
    assert smooth.content_sha256 == hard.content_sha256
    assert not smooth.facts["resized"]
    smooth, hard = (mnist_dataset(True, (1, 20, 20), aa).load() for aa in (True, False))
    assert smooth.content_sha256 != hard.content_sha256
    assert smooth.facts["filter"] == "bilinear" and hard.facts["filter"] == "nearest"


def test_each_image_can_be_brought_between_two_values(small_mnist: PublishedIdx) -> None:
    pixels = mnist_dataset(False, normalize_between=(-1.0, 1.0)).load().pixels
    assert pixels.dtype == torch.float32
    assert torch.allclose(pixels.amin((1, 2, 3)), torch.tensor(-1.0))
    assert torch.allclose(pixels.amax((1, 2, 3)), torch.tensor(1.0))


def test_a_missing_file_tells_where_it_was_looked_for_and_what_was_tried() -> None:
    dataset = mnist_dataset(True)
    assert dataset.shape == (1, 28, 28) and len(dataset) == 60_000
    with pytest.raises(DataError) as raised:
        dataset.load()
    text = str(raised.value)
    assert "train-images-idx3-ubyte.gz" in text and MNIST.mirrors[0] in text
    assert "no network in tests" in text and "AELAB_DATA" in text


def test_a_given_path_is_not_replaced_by_another_place(
    small_mnist: PublishedIdx, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(DataError, match="is not where `path` points"):
        mnist_dataset(True, path=str(empty)).verify()


def test_a_file_with_another_number_of_images_is_found_at_once(
    small_mnist: PublishedIdx, data_folder: Path, write_idx: Write
) -> None:
    write_idx(
        data_folder / "mnist" / "train-images-idx3-ubyte.gz",
        torch.zeros(7, 28, 28, dtype=torch.uint8),
    )
    with pytest.raises(DataError, match="holds 7 entries, mnist has 60"):
        mnist_dataset(True).verify()


def test_other_idx_files_are_read_with_their_labels(
    tmp_path: Path, write_idx: Write, pixels: Tensor
) -> None:
    images = write_idx(tmp_path / "own.gz", pixels)
    labels = write_idx(tmp_path / "own-labels", torch.arange(5, dtype=torch.uint8))
    dataset = idx_dataset(str(images), str(labels), shape=(3, 14, 14))
    assert dataset.shape == (3, 14, 14) and len(dataset) == 5
    loaded = dataset.load()
    assert loaded.pixels.shape == (5, 3, 14, 14)
    assert loaded.labels is not None and loaded.labels.tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="there is no file"):
        idx_dataset(str(tmp_path / "none")).verify()


class Server(BaseHTTPRequestHandler):
    """Gives one file under /good/ and another under /bad/."""

    def __init__(self, content: bytes, *args: object) -> None:
        self.content = content
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        body = self.content if self.path.startswith("/good/") else gzip.compress(b"other")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def test_a_download_is_kept_only_with_the_right_content(tmp_path: Path) -> None:
    content = b"the real content"
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Server, gzip.compress(content)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        base = f"http://127.0.0.1:{server.server_port}"
        sha256 = hashlib.sha256(content).hexdigest()
        target = tmp_path / "cache" / "mnist" / "file.gz"
        with pytest.raises(DataError, match="not the expected file"):
            FETCH_ONE(f"{base}/bad/file.gz", target, sha256)
        assert list(target.parent.iterdir()) == []
        assert FETCH_ONE(f"{base}/good/file.gz", target, sha256) == target
        assert gzip.decompress(target.read_bytes()) == content
        assert list(target.parent.iterdir()) == [target]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _promise(path: Path, sizes: tuple[int, ...], data: bytes = b"", packed: bool = False) -> Path:
    content = bytes([0, 0, 8, len(sizes)]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    path.write_bytes(gzip.compress(content + data) if packed else content + data)
    return path


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_promises_more_than_there_is_is_told(tmp_path: Path, packed: bool) -> None:
    path = _promise(tmp_path / "a", (2**32 - 1,) * 3, b"xyz", packed)
    with pytest.raises(DataError, match=r"cut off: 3 bytes|GB of memory"):
        load_idx(path)


@pytest.mark.parametrize("sizes", [(0, 28, 28), (5, 0, 28), (0,)])
def test_a_file_of_no_images_is_told(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    path = _promise(tmp_path / "a", sizes)
    with pytest.raises(DataError, match="holds no images: its header says"):
        load_idx(path)


def test_a_small_file_that_unpacks_to_very_much_is_read_only_as_far_as_it_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _promise(tmp_path / "a.gz", (2, 8, 8), bytes(100_000_000), packed=True)
    read: list[int] = []
    original = gzip.GzipFile.read

    def counted(self: gzip.GzipFile, size: int | None = -1) -> bytes:
        part = original(self, size)
        read.append(len(part))
        return part

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    with pytest.raises(DataError, match="too long: it continues after its data"):
        load_idx(path)
    assert sum(read) <= 16 + 129
