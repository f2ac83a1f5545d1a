"""Published sets from small files in their real formats, written here."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image
from torch import Tensor

from aelab.data import (
    DATASETS,
    MEMORY,
    digits_dataset,
    emnist_dataset,
    kmnist_dataset,
    qmnist_dataset,
    stl10_dataset,
    svhn_dataset,
    usps_dataset,
)
from aelab.data.overview import list_datasets, named
from aelab.data.sources import download, mnist, svhn
from aelab.data.sources.download import Remote, check_file
from aelab.errors import DataError

#: Taken before a fixture hides it.
FETCH_ONE = download._fetch_one
WriteIdx = Callable[[Path, Tensor], Path]


def noise(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def idx_bytes(values: Tensor, kind: int = 0x0800) -> bytes:
    dtype = ">u1" if kind == 0x0800 else ">i4"
    head = struct.pack(f">I{values.ndim}I", kind + values.ndim, *values.shape)
    return head + values.numpy().astype(dtype).tobytes()


def test_kmnist_is_read_like_mnist(
    data_folder: Path, write_idx: WriteIdx, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist.KnownIdx, "count", lambda self: 7)
    pixels = noise(7, 28, 28)
    folder = data_folder / "KMNIST" / "raw"
    write_idx(folder / "t10k-images-idx3-ubyte", pixels)
    write_idx(folder / "t10k-labels-idx1-ubyte", torch.arange(7, dtype=torch.uint8))
    images = kmnist_dataset(train=False).load()
    assert torch.equal(images.pixels[:, 0], pixels) and images.class_names[1] == "ki"
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz was not found"):
        kmnist_dataset().load()


@pytest.mark.parametrize("form", ["zip", "gz", "plain"])
def test_emnist_is_turned_upright(form: str, data_folder: Path) -> None:
    upright = noise(5, 28, 28)
    files = {
        "emnist-letters-test-images-idx3-ubyte": idx_bytes(upright.transpose(1, 2).contiguous()),
        "emnist-letters-test-labels-idx1-ubyte": idx_bytes(
            torch.tensor([1, 26, 3, 4, 5], dtype=torch.uint8)
        ),
    }
    folder = data_folder / "emnist"
    folder.mkdir()
    if form == "zip":
        with zipfile.ZipFile(folder / "gzip.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"gzip/{name}.gz", gzip.compress(content))
    for name, content in files.items():
        if form != "zip":
            packed = form == "gz"
            (folder / f"{name}{'.gz' if packed else ''}").write_bytes(
                gzip.compress(content) if packed else content
            )
    images = emnist_dataset(train=False, split="letters").load()
    assert torch.equal(images.pixels[:, 0], upright)
    assert images.class_names == ("A", "Z", "C", "D", "E")
    with pytest.raises(DataError, match="no split 'letter'; did you mean 'letters'"):
        emnist_dataset(split="letter")  # type: ignore[arg-type]
    if form == "zip":
        with pytest.raises(DataError, match="holds no emnist-balanced-train-images"):
            emnist_dataset().load()


def test_qmnist_has_eight_numbers_a_label_and_parts_of_its_test_half(data_folder: Path) -> None:
    folder = data_folder / "qmnist"
    folder.mkdir()
    pixels = noise(10_003, 28, 28)
    labels = torch.zeros(10_003, 8, dtype=torch.int64)
    labels[:, 0] = torch.arange(10_003) % 10
    labels[:, 3] = 70_000  # a writer's number: more than one byte
    (folder / "qmnist-test-images-idx3-ubyte").write_bytes(idx_bytes(pixels))
    (folder / "qmnist-test-labels-idx2-int.gz").write_bytes(
        gzip.compress(idx_bytes(labels, 0x0C00), 1)
    )
    images = qmnist_dataset("test50k").load()
    assert torch.equal(images.pixels[:, 0], pixels[10_000:])
    assert images.labels is not None and images.labels.tolist() == [0, 1, 2]
    assert len(qmnist_dataset("test10k").load()) == 10_000
    (folder / "xnist-images-idx3-ubyte.xz").write_bytes(lzma.compress(idx_bytes(pixels[:2])))
    (folder / "xnist-labels-idx2-int.xz").write_bytes(lzma.compress(idx_bytes(labels[:2], 0x0C00)))
    assert len(qmnist_dataset("nist").load()) == 2
    (folder / "xnist-images-idx3-ubyte.xz").write_bytes(lzma.compress(idx_bytes(pixels[:2])[:-1]))
    with pytest.raises(DataError, match="cut off"):
        qmnist_dataset("nist").load()


def test_svhn_has_its_images_last_and_ten_for_zero(data_folder: Path) -> None:
    pixels = noise(6, 3, 32, 32)
    folder = data_folder / "svhn"
    folder.mkdir()
    arrays = {
        "X": pixels.permute(2, 3, 1, 0).numpy(),
        "y": np.array([10, 1, 2, 3, 4, 9], np.uint8)[:, None],
    }
    scipy.io.savemat(folder / "test_32x32.mat", arrays, do_compression=True)
    images = svhn_dataset("test").load()
    assert torch.equal(images.pixels, pixels)
    assert images.labels is not None and images.labels.tolist() == [0, 1, 2, 3, 4, 9]
    scipy.io.savemat(folder / "train_32x32.mat", {"X": arrays["X"][:16], "y": arrays["y"]})
    with pytest.raises(DataError, match="is not a file of SVHN"):
        svhn_dataset().load()
    (folder / "train_32x32.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    with pytest.raises(DataError, match=r"train_32x32\.mat"):
        svhn_dataset().load()


@pytest.mark.parametrize("packed", [True, False])
def test_stl_stores_columns_and_counts_labels_from_one(
    packed: bool, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(svhn._STL_COUNTS, "train", 3)
    pixels = noise(3, 3, 96, 96)
    files = {
        "train_X.bin": pixels.transpose(2, 3).contiguous().numpy().tobytes(),
        "train_y.bin": bytes([1, 10, 3]),
    }
    if packed:
        with tarfile.open(data_folder / "stl10_binary.tar.gz", "w:gz") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(f"stl10_binary/{name}")
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    else:
        (data_folder / "stl10_binary").mkdir()
        for name, content in files.items():
            (data_folder / "stl10_binary" / name).write_bytes(content)
    images = stl10_dataset().load()
    assert torch.equal(images.pixels, pixels)
    assert images.class_names == ("airplane", "truck", "car")
    monkeypatch.setitem(svhn._STL_COUNTS, "train", 2)
    with pytest.raises(DataError, match="label of 1 to 10 for 2 images"):
        MEMORY.clear()
        stl10_dataset().load()


@pytest.mark.parametrize("packed", [True, False])
def test_usps_has_values_of_minus_one_to_one(
    packed: bool, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(svhn._USPS, "test", (*svhn._USPS["test"][:2], 2))
    rows = []
    for label, low in ((1, -1.0), (10, 0.0)):
        values = " ".join(f"{n + 1}:{low if n else 1.0}" for n in range(256))
        rows.append(f"{label} {values}\n".encode())
    content = b"".join(rows)
    name = "usps.t.bz2" if packed else "usps.t"
    (data_folder / name).write_bytes(bz2.compress(content) if packed else content)
    images = usps_dataset(train=False).load()
    assert images.labels is not None and images.labels.tolist() == [0, 9]
    assert images.pixels[:, 0, 0, :2].tolist() == [[255, 0], [255, 128]]
    (data_folder / name).write_bytes(bz2.compress(rows[0]) if packed else rows[0])
    with pytest.raises(DataError, match="is not the file of USPS"):
        usps_dataset(train=False).load()


def test_the_packaged_digits_are_a_draw_of_mnist() -> None:
    train, test = digits_dataset().load(), digits_dataset(train=False).load()
    assert (len(train), len(test)) == (4_000, 1_000) and train.shape == (1, 28, 28)
    assert train.labels is not None and test.labels is not None
    for images in (train, test):
        counts = torch.bincount(images.labels, minlength=10) / len(images)  # type: ignore[arg-type]
        assert (counts - 0.1).abs().max() < 0.03
    assert "not comparable" in train.provenance[0].note


@pytest.mark.slow
def test_the_packaged_digits_are_bytes_of_mnist(
    real_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AELAB_DATA", str(real_data))
    drawn = mnist.mnist_dataset(True).sample(4_000, seed=0).load()
    assert torch.equal(drawn.pixels, digits_dataset().load().pixels)


def test_every_listed_set_tells_where_it_is() -> None:
    told = {entry["name"]: entry["status"] for entry in list_datasets()}
    assert told["digits"] == "comes with aelab"
    for name in ("cifar100", "svhn", "stl10", "usps", "kmnist", "emnist", "qmnist"):
        assert "http" in told[name], name
    assert named("digits:validation").count() == 1_000


def test_a_download_of_another_size_or_digest_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    check_file(path, "a", "md5:900150983cd24fb0d6963f7d28e17f72", 3)
    check_file(path, "a", "", None)
    with pytest.raises(DataError, match="has 3 bytes, the published file 4"):
        check_file(path, "a", "", 4)
    with pytest.raises(DataError, match="not the published file: its sha256"):
        check_file(path, "a", "sha256:00", 3)


def test_a_downloaded_file_is_checked_and_kept(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def retrieve(address: str, *, fname: str, path: Path, **_: object) -> None:
        assert address in ("https://one/a", "https://two/other?raw")
        if address.startswith("https://one"):
            raise OSError("no network")
        (path / fname).write_bytes(b"abc")

    monkeypatch.setattr(download, "_fetch_one", FETCH_ONE)
    monkeypatch.setattr(download.pooch, "retrieve", retrieve)
    remote = Remote(
        "a", ("https://one/", "https://two/other?raw"),
        "md5:900150983cd24fb0d6963f7d28e17f72", 3, "some-set",
    )  # fmt: skip
    found = remote.fetch([])
    assert found.read_bytes() == b"abc" and found.parent.name == "some-set"
    with pytest.raises(DataError, match=r"https://two/other\?raw: a has 3 bytes"):
        Remote("a", remote.addresses, "", 4, "some-set").fetch([])


PUBLISHED = [
    "usps_dataset", "cifar10_dataset", "cifar100_dataset", "svhn_dataset", "stl10_dataset",
    "omniglot_dataset", "notmnist_dataset", "celeba_dataset", "dsprites_dataset",
    "shapes3d_dataset", "emnist_dataset", "qmnist_dataset",
]  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_sound_file_of_another_kind_is_told_as_such(name: str, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    given = {"part": "all"} if name == "celeba_dataset" else {}
    with pytest.raises(DataError) as caught:
        DATASETS[name](path=str(tmp_path / "red.png"), **given).load()
    assert "red.png is a PNG picture, not a file of this set" in str(caught.value)
    assert "image_folder_dataset(path)" in str(caught.value)
    if name != "emnist_dataset":  # whose archive begins like any other
        (tmp_path / "page.html").write_text("<!doctype html><title>404</title>")
        with pytest.raises(DataError) as caught:
            DATASETS[name](path=str(tmp_path / "page.html"), **given).load()
        assert "page.html" in str(caught.value)
