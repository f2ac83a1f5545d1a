"""What every entry of the room's tables promises."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from aelab.ascii.data.packaged_ascii import SOURCES
from aelab.data import COMBINATORS, DATASETS, MEMORY, TRANSFORMS, Dataset
from aelab.data.base import content_sha256
from aelab.errors import DataError, ShapeError
from aelab.preparation import reporting, track

SMALL: dict[str, dict[str, object]] = {
    "array_dataset": {"path": "own.npy"},
    "ascii_art_dataset": {"path": "own.txt", "res": 16},
    "atlas_dataset": {"path": "rpg-tiles/rltiles-32x32.png"},
    "celeba_dataset": {"part": "all", "shape": (3, 16, 16), "path": "celeba"},
    "cifar10_dataset": {},
    "cifar100_dataset": {},
    "colored_shapes_dataset": {"size": 20, "shape": (3, 16, 16)},
    "crops_of": {"path": "rpg-tiles", "size": 16},
    "csv_dataset": {"path": "own.csv"},
    "digits_dataset": {},
    "dsprites_dataset": {},
    "emnist_dataset": {},
    "figlet_ascii_dataset": {"samples": 20, "words": ["cat", "dog"], "fonts": ["big", "small"]},
    "fmnist_dataset": {},
    "idx_dataset": {"path": "own.gz"},
    "image_folder_dataset": {"path": "rpg-tiles", "shape": (3, 16, 16)},
    "ImagePatchDataset": {"shape": (3, 16, 16), "filename": "rpg-tiles/rltiles-32x32.png"},
    "Kali2dDataset": {"shape": (3, 8, 8), "size": 20},
    "kali_dataset": {"shape": (1, 8, 8), "size": 20},
    "kmnist_dataset": {},
    "mnist_dataset": {},
    "noise_dataset": {"shape": (2, 8, 8), "size": 20},
    "notmnist_dataset": {},
    "omniglot_dataset": {},
    "packaged_ascii_dataset": {"packages": ["cowsay"]},
    "qmnist_dataset": {},
    "rpg_tile_dataset": {"shape": (1, 16, 16), "limit": 20},
    "rpg_tile_dataset_3x32x32": {},
    "shapes3d_dataset": {},
    "shapes_dataset": {"size": 20, "shape": (1, 16, 16)},
    "sprite_dataset": {"size": 20},
    "stl10_dataset": {},
    "svhn_dataset": {},
    "TeletextMatrixIterableDataset": {"filename": "pages.json"},
    "unsplash_dataset": {"shape": (3, 16, 16), "train": True, "path": "rpg-tiles"},
    "usps_dataset": {},
}
#: Sets that are downloaded; small files in their formats are tried in tests of their own.
PUBLISHED = {
    "mnist_dataset",
    "fmnist_dataset",
    "kmnist_dataset",
    "emnist_dataset",
    "qmnist_dataset",
    "usps_dataset",
    "cifar10_dataset",
    "cifar100_dataset",
    "svhn_dataset",
    "stl10_dataset",
    "omniglot_dataset",
    "notmnist_dataset",
    "dsprites_dataset",
    "shapes3d_dataset",
}
#: It reads a stored run: tests/stages tries it.
OF_STORED_RUNS = {"latents_of"}
NAMES = sorted(set(DATASETS) - OF_STORED_RUNS)


@pytest.fixture
def made(
    tile_sheet: Path,
    data_folder: Path,
    tmp_path: Path,
    write_idx: Callable[[Path, Tensor], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Dataset]:
    monkeypatch.chdir(tmp_path)
    write_idx(data_folder / "own.gz", torch.randint(0, 256, (9, 8, 8), dtype=torch.uint8))
    np.save(data_folder / "own.npy", np.arange(9 * 64, dtype=np.uint8).reshape(9, 8, 8))
    (data_folder / "celeba" / "img_align_celeba").mkdir(parents=True)
    face = data_folder / "celeba" / "img_align_celeba" / "1.png"
    Image.new("RGB", (178, 218)).save(face)
    row = ",".join(str(value) for value in range(64))
    (data_folder / "own.csv").write_text(f"{row}\n{row}\n", encoding="ascii")
    cats = [r" /\_/\ " + "\n( o.o )\n" + mouth for mouth in (" > ^ < ", " > - < ")]
    (data_folder / "pages.json").write_text('{"text": "NEWS"}\n{"text": "100"}\n')
    (data_folder / "own.txt").write_text("\n%\n".join(cats), encoding="ascii")
    (data_folder / "cat.cow").write_text(f"$the_cow = <<'EOC';\n{cats[0]}\nEOC\n", encoding="ascii")
    cowsay = replace(SOURCES["cowsay"], places=(str(data_folder),))
    monkeypatch.setitem(SOURCES, "cowsay", cowsay)
    return lambda name: DATASETS[name](**SMALL[name])


def test_every_set_is_tried_here() -> None:
    assert sorted(SMALL) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_description_tells_its_shape_without_reading(
    name: str, made: Callable[[str], Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Dataset, "load", None)
    dataset = made(name)
    with torch.device("meta"):  # as `check` builds models
        assert len(dataset.shape) == 3 and min(dataset.shape) >= 1
        assert dataset.fingerprint() == made(name).fingerprint()
    dataset.verify()
    assert dataset.sources()
    assert not MEMORY._sets


@pytest.mark.parametrize("name", sorted(set(NAMES) - PUBLISHED))
def test_a_set_loads_what_it_describes(name: str, made: Callable[[str], Dataset]) -> None:
    dataset = made(name)
    with torch.device("meta"):
        images = dataset.load()
    assert images.shape == dataset.shape and len(images) == len(dataset)
    assert images.pixels.dtype == torch.uint8 and images.pixels.device.type == "cpu"
    assert images.content_sha256 == content_sha256(images.pixels)
    assert images.provenance and all(len(entry.sha256) == 64 for entry in images.provenance)
    assert sum(entry.count for entry in images.provenance) == len(images)
    assert made(name).load() is images
    MEMORY.clear()
    again = made(name).load()
    assert again is not images and again.content_sha256 == images.content_sha256
    item = dataset[0][0]
    assert item.dtype == torch.float32 and 0 <= item.min() and item.max() <= 1


@pytest.mark.parametrize("name", sorted({**DATASETS, **COMBINATORS, **TRANSFORMS}))
def test_every_part_is_documented_and_typed(name: str) -> None:
    part = {**DATASETS, **COMBINATORS, **TRANSFORMS}[name]
    assert inspect.getdoc(part)
    for parameter in inspect.signature(part).parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty, parameter.name


@pytest.mark.parametrize(
    "name", ["mnist_dataset", "rpg_tile_dataset", "noise_dataset", "kali_dataset"]
)
@pytest.mark.parametrize("shape", [(28, 28), (1, 0, 28), (1, 28, "x"), 28])
def test_an_impossible_shape_is_told(name: str, shape: object) -> None:
    with pytest.raises(ShapeError, match="a shape is three sizes"):
        DATASETS[name](shape=shape)


def test_two_channels_are_refused_for_coloured_sources(tile_sheet: Path) -> None:
    with pytest.raises(ShapeError, match="3 channels into 2"):
        DATASETS["rpg_tile_dataset_3x32x32"](shape=(2, 32, 32)).load()


def test_an_unknown_filter_is_told_when_it_is_written() -> None:
    with pytest.raises(DataError, match="did you mean 'bilinear'"):
        DATASETS["mnist_dataset"](interpolation="bilinar")


def test_long_work_is_reported_and_quick_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, int, int]] = []
    with reporting(lambda *report: told.append(report)):
        assert list(track(range(5), "quick", 5)) == list(range(5))
        assert told == []
        monkeypatch.setattr("aelab.preparation.QUIET_SECONDS", -1.0)
        monkeypatch.setattr("aelab.preparation._INTERVAL_SECONDS", -1.0)
        list(track(range(3), "slow", 30, weight=10))
    assert told == [("slow", 10, 30), ("slow", 20, 30), ("slow", 30, 30), ("slow", 30, 30)]


@pytest.mark.slow
def test_the_real_sets_are_read_with_their_published_checksums(
    monkeypatch: pytest.MonkeyPatch, real_data: Path
) -> None:
    monkeypatch.setenv("AELAB_DATA", str(real_data))
    for name, mean in (("mnist_dataset", 0.1307), ("fmnist_dataset", 0.2860)):
        images = DATASETS[name](train=True).load()
        assert len(images) == 60_000 and images.labels is not None
        assert images.pixels.float().mean().item() / 255 == pytest.approx(mean, abs=1e-4)
        assert len(DATASETS[name](train=False).load()) == 10_000
    train, held = (DATASETS["rpg_tile_dataset_3x32x32"](validation=v).load() for v in (False, True))
    assert (len(train), len(held)) == (7866, 429)
    smooth, hard = (DATASETS["mnist_dataset"](interpolation=aa).load() for aa in (True, False))
    assert smooth.content_sha256 == hard.content_sha256
