"""CIFAR-10 and -100 from small files in the published formats; pickles are read, never run."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from torch import Tensor

from aelab.data import cifar10_dataset, cifar100_dataset
from aelab.data.sources import cifar
from aelab.errors import DataError

COUNT = 4


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CIFAR10", "CIFAR100"):
        kind = replace(getattr(cifar, name), images_a_file=(COUNT, COUNT))
        monkeypatch.setattr(cifar, name, kind)


def images_of(number: int) -> tuple[Tensor, list[int]]:
    generator = torch.Generator().manual_seed(number)
    pixels = torch.randint(0, 256, (COUNT, 3072), dtype=torch.uint8, generator=generator)
    return pixels, [(number + n) % 10 for n in range(COUNT)]


def binary(number: int) -> bytes:
    pixels, labels = images_of(number)
    rows = [bytes([label]) + bytes(row.tolist()) for row, label in zip(pixels, labels, strict=True)]
    return b"".join(rows)


def old_pickle(number: int) -> bytes:
    """Protocol 2 as Python 2 wrote it: byte strings, and numpy's array by `_reconstruct`."""
    pixels, labels = images_of(number)

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    content = bytes(pixels.flatten().tolist())
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text(b"b") + b"tR"
        b"(K\x01K" + bytes([COUNT]) + b"M" + struct.pack("<H", 3072) + b"\x86"
        b"cnumpy\ndtype\n(" + text(b"u1") + b"K\x00K\x01tR(K\x03" + text(b"|") + b"NNN"
        b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<i", len(content))
        + content + b"tb"
    )  # fmt: skip
    numbers = b"](" + b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    return b"\x80\x02}(" + text(b"data") + array + text(b"labels") + numbers + b"u."


NAMES = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]


def unpacked(folder: Path, version: str) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES, start=1):
        if version == "bin":
            (folder / f"{name}.bin").write_bytes(binary(number))
        elif version == "mat":
            pixels, labels = images_of(number)
            numbers = np.array(labels, np.uint8)[:, None]
            arrays = {"data": pixels.numpy(), "labels": numbers, "batch_label": "a batch"}
            scipy.io.savemat(folder / f"{name}.mat", arrays, do_compression=True)
        else:
            (folder / name).write_bytes(old_pickle(number))


@pytest.mark.parametrize("version", ["bin", "py", "mat"])
@pytest.mark.parametrize("above", ["", "cifar-10", "CIFAR10"])
def test_all_versions_are_read_where_they_usually_lie(
    version: str, above: str, data_folder: Path
) -> None:
    unpacked(data_folder / above / f"cifar-10-batches-{version}", version)
    images = cifar10_dataset(train=True).load()
    assert images.pixels.shape == (5 * COUNT, 3, 32, 32) and images.pixels.dtype == torch.uint8
    pixels, labels = images_of(2)
    assert torch.equal(images.pixels[COUNT : 2 * COUNT].flatten(1), pixels)
    assert images.labels is not None
    assert images.labels[COUNT : 2 * COUNT].tolist() == labels
    assert images.facts["label_names"][3] == "cat"
    held_out = cifar10_dataset(train=False).load()
    assert torch.equal(held_out.pixels.flatten(1), images_of(6)[0])


@pytest.mark.parametrize("version", ["bin", "py"])
def test_archives_are_read_without_unpacking_them(version: str, data_folder: Path) -> None:
    archive = data_folder / (
        "cifar-10-binary.tar.gz" if version == "bin" else "cifar-10-python.tar.gz"
    )
    with tarfile.open(archive, "w:gz") as tar:
        for number, name in enumerate(NAMES, start=1):
            content = binary(number) if version == "bin" else old_pickle(number)
            end = ".bin" if version == "bin" else ""
            entry = tarfile.TarInfo(f"cifar-10-batches-{version}/{name}{end}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    images = cifar10_dataset(train=False, path=str(archive)).load()
    assert torch.equal(images.pixels.flatten(1), images_of(6)[0])
    assert len(cifar10_dataset().load()) == 5 * COUNT
    assert sorted(path.name for path in data_folder.iterdir()) == [archive.name]


def test_it_is_resized_and_made_grey_like_mnist(data_folder: Path) -> None:
    unpacked(data_folder / "cifar-10-batches-bin", "bin")
    data = cifar10_dataset(shape=(1, 16, 16), normalize_between=(-1.0, 1.0))
    assert data.shape == (1, 16, 16)
    pixels = data.load().pixels
    assert float(pixels.min()) == -1.0 and float(pixels.max()) == 1.0


class Attack:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("trick", [Attack(), {b"data": Attack(), b"labels": []}, [1], {}])
def test_no_pickle_runs_anything(
    trick: object, tmp_path: Path, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    unpacked(data_folder / "cifar-10-batches-py", "py")
    (data_folder / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(trick))
    with pytest.raises(DataError, match="test_batch is not a file of CIFAR-10"):
        cifar10_dataset(train=False).load()
    assert not (tmp_path / "attacked").exists()


def test_damage_is_told_before_training(data_folder: Path) -> None:
    folder = data_folder / "cifar-10-batches-bin"
    unpacked(folder, "bin")
    (folder / "data_batch_3.bin").write_bytes(binary(3)[:-1])
    with pytest.raises(DataError, match=r"data_batch_3\.bin has 12,291 bytes; 12,292 are"):
        cifar10_dataset().verify()
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DataError, match=r"data_batch_3\.bin is missing"):
        cifar10_dataset().verify()
    (folder / "test_batch.bin").write_bytes(bytes([10]) + binary(6)[1:])
    with pytest.raises(DataError, match="a label 10; possible: 0 to 9"):
        cifar10_dataset(train=False).load()


def test_a_missing_set_says_where_it_was_looked_for(tmp_path: Path) -> None:
    cifar10_dataset().verify()  # it can be fetched
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz was not found on this machine"):
        cifar10_dataset().load()
    with pytest.raises(DataError, match=r"data_batch_1\.bin is not where `path` points"):
        cifar10_dataset(path=str(tmp_path)).verify()
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="is not an archive of CIFAR-10"):
        cifar10_dataset(path=str(tmp_path)).load()


def _hundred(half: str) -> tuple[Tensor, list[int], list[int]]:
    pixels, _ = images_of(len(half))
    return pixels, [19, 0, 7, 7], [99, 0, 50, 51]


@pytest.mark.parametrize("version", ["binary", "python", "matlab"])
def test_the_hundred_classes_and_their_twenty_groups(version: str, data_folder: Path) -> None:
    folder = data_folder / "cifar-100" / f"cifar-100-{version}"
    folder.mkdir(parents=True)
    for half in ("train", "test"):
        pixels, coarse, fine = _hundred(half)
        if version == "binary":
            rows = zip(coarse, fine, pixels, strict=True)
            content = b"".join(bytes([c, f, *row.tolist()]) for c, f, row in rows)
            (folder / f"{half}.bin").write_bytes(content)
        elif version == "python":
            batch = {b"data": pixels.numpy(), b"coarse_labels": coarse, b"fine_labels": fine}
            (folder / half).write_bytes(pickle.dumps(batch, protocol=2))
        else:
            arrays = {"data": pixels.numpy(), "coarse_labels": coarse, "fine_labels": fine}
            scipy.io.savemat(folder / f"{half}.mat", arrays)
    images = cifar100_dataset().load()
    assert torch.equal(images.pixels.flatten(1), images_of(5)[0])
    assert images.class_names == ("worm", "apple", "mouse", "mushroom")
    held_out = cifar100_dataset(train=False, coarse=True).load()
    assert torch.equal(held_out.pixels.flatten(1), images_of(4)[0])
    assert held_out.class_names[:2] == ("vehicles_2", "aquatic_mammals")
    assert cifar100_dataset().fingerprint() != cifar100_dataset(coarse=True).fingerprint()
    assert cifar100_dataset(path=str(folder), train=False).load().labels is not None
