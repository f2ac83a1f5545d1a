"""Omniglot, notMNIST, CelebA, dSprites, 3D Shapes and crops, from small files in their formats."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from aelab.data import (
    MEMORY,
    celeba_dataset,
    crops_of,
    dsprites_dataset,
    notmnist_dataset,
    omniglot_dataset,
    shapes3d_dataset,
)
from aelab.data.sources import factors
from aelab.errors import DataError


def png(value: int, size: tuple[int, int], mode: str = "L") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size, value if mode != "RGB" else (value, 0, 255 - value)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("unpacked", [True, False])
def test_omniglot_labels_alphabet_and_character(unpacked: bool, data_folder: Path) -> None:
    files = {
        f"images_evaluation/{alphabet}/character0{n}/{n}_01.png": png(n % 2, (105, 105), "1")
        for alphabet in ("Latin", "Braille")
        for n in (1, 2)
    }
    if unpacked:
        for name, content in files.items():
            path = data_folder / "omniglot-py" / name
            path.parent.mkdir(parents=True)
            path.write_bytes(content)
    else:
        (data_folder / "omniglot").mkdir()
        with zipfile.ZipFile(data_folder / "omniglot" / "images_evaluation.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    dataset = omniglot_dataset(train=False)
    dataset.verify()
    images = dataset.load()
    assert images.shape == (1, 28, 28) and images.provenance[0].name == "omniglot"
    assert images.class_names == (
        "Braille/character01", "Braille/character02", "Latin/character01", "Latin/character02"
    )  # fmt: skip
    assert images.pixels[:, 0, 0, 0].tolist() == [255, 0, 255, 0]
    with pytest.raises(DataError, match=r"images_background\.zip was not found"):
        omniglot_dataset().load()


@pytest.mark.parametrize("unpacked", [True, False])
def test_notmnist_leaves_its_damaged_files_out(unpacked: bool, data_folder: Path) -> None:
    files = {f"notMNIST_small/{letter}/{n}.png": png(50 * n, (28, 28))
             for letter in "AB" for n in (1, 2)}  # fmt: skip
    files["notMNIST_small/A/Q3Jvc3NvdmVyIEJvbGRPYmxpcXVlLnR0Zg==.png"] = b""
    if unpacked:
        for name, content in files.items():
            (data_folder / name).parent.mkdir(parents=True, exist_ok=True)
            (data_folder / name).write_bytes(content)
        dataset = notmnist_dataset(path=str(data_folder / "notMNIST_small"))
    else:
        with tarfile.open(data_folder / "notMNIST_small.tar.gz", "w:gz") as tar:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
        dataset = notmnist_dataset()
    images = dataset.load()
    assert images.class_names == ("A", "A", "B", "B")
    assert images.pixels[:, 0, 5, 5].tolist() == [50, 100, 50, 100]
    assert "unreadable: 1" in images.provenance[0].note


@pytest.mark.parametrize("unpacked", [True, False])
def test_celeba_has_parts_and_attributes(unpacked: bool, data_folder: Path) -> None:
    folder = data_folder / "celeba"
    folder.mkdir()
    files = {f"{n:06d}.jpg": png(40 * n, (178, 218), "RGB") for n in range(1, 6)}
    if unpacked:
        (folder / "img_align_celeba").mkdir()
        for name, content in files.items():
            (folder / "img_align_celeba" / name).write_bytes(content)
    else:
        with zipfile.ZipFile(folder / "img_align_celeba.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(f"img_align_celeba/{name}", content)
    rows = [f"{name} {part}" for name, part in zip(files, (0, 0, 1, 2, 0), strict=True)]
    (folder / "list_eval_partition.txt").write_text("\n".join(rows))
    signs = [f"{name} {-1 if n % 2 else 1} 1" for n, name in enumerate(files)]
    (folder / "list_attr_celeba.txt").write_text("\n".join(["5", "Smiling Young", *signs]))
    images = celeba_dataset(shape=(3, 32, 32), attribute="Smiling").load()
    assert images.shape == (3, 32, 32)
    assert images.pixels[:, 0, 9, 9].tolist() == [40, 80, 200]
    assert images.class_names == ("Smiling", "not Smiling", "Smiling")
    assert celeba_dataset("validation", shape=(3, 8, 8)).load().labels is None
    assert len(celeba_dataset("all", shape=(3, 8, 8)).load()) == 5
    with pytest.raises(DataError, match=r"no attribute 'Smile'[\s\S]*Smiling, Young"):
        celeba_dataset("test", attribute="Smile").load()
    (folder / "list_eval_partition.txt").unlink()
    with pytest.raises(DataError, match=r"list_eval_partition\.txt"):
        celeba_dataset("test", shape=(3, 9, 9)).load()


def test_celeba_says_where_it_is_given() -> None:
    with pytest.raises(DataError, match=r"celeba: its files were not found[\s\S]*mmlab\.ie\.cuhk"):
        celeba_dataset().verify()


@pytest.mark.parametrize("form", ["npz", "hdf5"])
def test_dsprites_labels_its_factors(
    form: str, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factors.DSprites, "sizes", (1, 3, 1, 2, 2, 1))
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 2, (12, 64, 64), dtype=np.uint8)
    stem = data_folder / "dsprites_ndarray_co1sh3sc6or40x32y32_64x64"
    if form == "npz":
        np.savez_compressed(f"{stem}.npz", imgs=pixels, latents_classes=np.zeros((12, 6)))
    else:
        with h5py.File(f"{stem}.hdf5", "w") as file:
            file.create_dataset("imgs", data=pixels, compression="gzip")
            file["latents/classes"] = np.zeros((12, 6), np.int64)
    dataset = dsprites_dataset()
    assert dataset.count() == 12
    images = dataset.load()
    assert np.array_equal(images.pixels[:, 0].numpy(), pixels * 255)
    assert images.labels is not None and images.labels.shape == (12, 6)
    assert images.labels[5].tolist() == [0, 1, 0, 0, 1, 0]
    assert images.factor_names[1] == "shape"
    assert torch.equal(images.factors, images.labels)
    monkeypatch.setattr(factors.DSprites, "sizes", (1, 3, 1, 2, 2, 2))
    MEMORY.clear()
    with pytest.raises(DataError, match=r"is not dsprites: images \(12, 64, 64\)"):
        dsprites_dataset(shape=(1, 32, 32), path=str(data_folder)).load()


def test_shapes3d_has_its_colours_last(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(factors.Shapes3D, "sizes", (2, 1, 1, 1, 2, 2))
    pixels = np.random.default_rng(2).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8)
    with h5py.File(data_folder / "3dshapes.h5", "w") as file:
        file["images"], file["labels"] = pixels, np.zeros((8, 6))
    images = shapes3d_dataset().load()
    assert np.array_equal(images.pixels.numpy(), pixels.transpose(0, 3, 1, 2))
    assert images.labels is not None and images.labels[6].tolist() == [1, 0, 0, 0, 1, 0]


def _photograph(path: Path, height: int, width: int, seed: int) -> None:
    rows, columns = np.mgrid[:height, :width]
    values = np.stack([rows % 256, columns % 256, np.full_like(rows, seed)], axis=2)
    Image.fromarray(values.astype(np.uint8)).save(path)


def test_crops_are_parts_of_the_photographs(tmp_path: Path) -> None:
    _photograph(tmp_path / "a.png", 60, 200, 1)
    _photograph(tmp_path / "b.png", 100, 40, 2)
    _photograph(tmp_path / "tiny.png", 10, 10, 3)
    dataset = crops_of(str(tmp_path), 32, each=5)
    images = dataset.load()
    assert dataset.shape == (3, 32, 32) and len(images) == 10
    assert images.file_names[5] == "b.png#0"
    assert images.facts["left_out"] == {"smaller than a crop": 1}
    for image, name in zip(images.pixels.int(), images.file_names, strict=True):
        top, left, seed = image[:, 0, 0].tolist()
        assert seed == {"a": 1, "b": 2}[name[0]]
        rows, columns = torch.arange(32)[:, None], torch.arange(32)[None]
        assert torch.equal(image[0], (top + rows).expand(32, 32))
        assert torch.equal(image[1], (left + columns).expand(32, 32))
    assert len({tuple(image[:2, 0, 0].tolist()) for image in images.pixels}) > 5
    again = crops_of(str(tmp_path), 32, each=5, seed=1).load()
    assert again.content_sha256 != images.content_sha256
    half = crops_of(str(tmp_path), (16, 8), 0.5, each=2, channels=1, longest=60).load()
    assert half.shape == (1, 16, 8) and len(half) == 4
    with pytest.raises(DataError, match="gives no crops of 300x300: 3 of its 3 files are smaller"):
        crops_of(str(tmp_path), 300).load()
    with pytest.raises(DataError, match="scale is above 0"):
        crops_of(str(tmp_path), 8, 0)


def test_another_photograph_does_not_change_the_crops_of_the_others(tmp_path: Path) -> None:
    for name in ("b", "d"):
        _photograph(tmp_path / f"{name}.png", 60, 200, 1)
    before = crops_of(str(tmp_path), 32, each=4).load()
    _photograph(tmp_path / "a.png", 60, 200, 2)
    _photograph(tmp_path / "c.png", 60, 200, 3)
    after = crops_of(str(tmp_path), 32, each=4).load()
    old = [number for number, name in enumerate(after.file_names) if name[0] in "bd"]
    assert [after.file_names[number] for number in old] == list(before.file_names)
    assert torch.equal(after.pixels[old], before.pixels)
    assert not torch.equal(before.pixels[:4], before.pixels[4:]), "each name has its own places"


def test_crops_leave_out_corrupt_files_only_when_asked(tmp_path: Path) -> None:
    _photograph(tmp_path / "a.png", 60, 200, 1)
    for name in ("x.png", "y.jpg"):
        (tmp_path / name).write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"2 of the 3 files of .* cannot be read"):
        crops_of(str(tmp_path), 32, each=5).load()
    images = crops_of(str(tmp_path), 32, each=5, skip_corrupt=True).load()
    assert len(images) == 5
    assert images.provenance[0].left_out == (("unreadable", 2, ("x.png", "y.jpg")),)
    assert "x.png, y.jpg" in images.provenance[0].note


def test_whole_photographs_are_held_out(tmp_path: Path) -> None:
    for seed in range(60):
        _photograph(tmp_path / f"{seed:02d}.png", 40, 50, 4 * seed)
    train = crops_of(str(tmp_path), 24, each=3, validation=False).load()
    held_out = crops_of(str(tmp_path), 24, validation=True).load()
    assert len(held_out) > 0 and len(train) == 3 * (60 - len(held_out))
    names = [{name.split("#")[0] for name in each.file_names} for each in (train, held_out)]
    assert not names[0] & names[1]
    assert held_out.pixels[0, :2, 0, 0].tolist() == [8, 13], "the middle"
