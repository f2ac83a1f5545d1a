"""Sets are made in one place: no second copy at the peak, and in a file where they are large."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from aelab.data import MEMORY, Dataset, TensorDataset, array_dataset, noise_dataset
from aelab.data.pixel_room import PixelRoom
from aelab.data.prepare import BatchResize, ToShape
from aelab.errors import DataError
from aelab.ops.random import keyed_generator

_RESET = Path("/proc/self/clear_refs")

SIZE = 80_000  # 82 MB at 32 x 32


def _zeros(size: tuple[int, int, int], count: int | None = None) -> Dataset:
    return TensorDataset(torch.zeros(count or SIZE, *size, dtype=torch.uint8))


SETS: dict[str, Callable[[], Dataset]] = {
    "noise": lambda: noise_dataset((1, 32, 32), size=SIZE // 4, clamp01=False),
    "resized": lambda: _zeros((1, 8, 8)).resize((1, 32, 32), "nearest"),
    "other range": lambda: _zeros((1, 16, 16)).changed(ToShape(None, True, (-1.0, 1.0))),
    "shuffled": lambda: _zeros((1, 32, 32)).shuffle(),
    "repeated": lambda: _zeros((1, 32, 32), SIZE // 4).repeat(4),
    "frozen": lambda: _zeros((1, 32, 32)).random_flip().freeze(),
    "through a function": lambda: _zeros((1, 32, 32)).transform([], dtype=torch.uint8),
    "interleaved": lambda: _zeros((1, 32, 32), SIZE // 2).interleave(
        noise_dataset((1, 32, 32), size=SIZE // 2)
    ),
}


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Nothing is remembered from another test, nor for the next."""
    MEMORY.clear()


def _status(key: str) -> int:
    """A line of this process's status, in bytes."""
    text = Path("/proc/self/status").read_text()
    return int(text.split(f"{key}:")[1].split()[0]) * 1024


@pytest.mark.parametrize("name", SETS)
def test_a_set_takes_its_own_size_and_little_more_at_its_peak(name: str) -> None:
    if not _RESET.exists():
        pytest.skip("peaks of memory are told by Linux")
    dataset = SETS[name]()
    source = dataset
    while source.before is not None:
        source = source.before
    if dataset is not source and not source.source.parts:
        source.load()
    for part in source.source.parts:
        part.load()
    first = noise_dataset((1, 8, 8), size=10).resize((1, 16, 16)).load()  # imports, weights
    assert len(first) == 10
    _RESET.write_text("5")
    before = _status("VmRSS")
    images = dataset.load()
    peak = _status("VmHWM") - before
    # Beside the set: one part and what is computed of it, however large the set is, and what the
    # allocator cannot use again after earlier tests; a second copy would be 82 MB.
    assert peak < 1.1 * images.pixels.nbytes + (64 << 20), peak / images.pixels.nbytes


@pytest.mark.parametrize("name", SETS)
def test_a_large_set_lies_in_a_file_and_holds_the_same_images(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(f"{__name__}.SIZE", 1_200)
    in_memory = SETS[name]().load()
    MEMORY.clear()
    monkeypatch.setattr("aelab.data.memory.MAPPED_BYTES", 1000)
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path))
    mapped = SETS[name]().load()
    assert mapped.facts["memory_mapped"] and not in_memory.facts.get("memory_mapped")
    assert mapped.pixels.equal(in_memory.pixels) and mapped.pixels.dtype == in_memory.pixels.dtype
    assert mapped.content_sha256 == in_memory.content_sha256
    assert (tmp_path / "large").is_dir()
    assert not list((tmp_path / "large").iterdir())  # the file goes with the process


def test_floats_resized_part_by_part_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pixels = torch.rand(700, 3, 9, 7, generator=keyed_generator(0, "room"))
    for change in (BatchResize((3, 16, 12), "bicubic", None), BatchResize((1, 5, 5), "area", None)):
        whole = change(pixels)
        monkeypatch.setattr("aelab.data.pixel_room.PART_BYTES", 1000)
        monkeypatch.setattr("aelab.ops.resize._CHUNK_ELEMENTS", 1 << 18)
        parted = TensorDataset(pixels).resize(change.shape, change.filter).load().pixels
        assert parted.equal(whole)


def test_parts_of_several_types_become_floats_of_0_to_1() -> None:
    first = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1)
    for count in (3, None):
        room = PixelRoom(count, "a set")
        room.add(first)
        room.add(torch.full((1, 1, 1, 1), 0.5))
        assert room.done().flatten().tolist() == [0.0, 1.0, 0.5]


def test_a_set_of_unknown_number_grows() -> None:
    room = PixelRoom(None, "a set")
    parts = [torch.full((1, 1, 4, 4), number, dtype=torch.uint8) for number in range(200)]
    for part in parts:
        room.add(part)
    assert room.done().equal(torch.cat(parts))
    room = PixelRoom(500, "at most")
    room.add(parts[3])
    assert room.done().equal(parts[3])


def test_arrays_of_other_types_are_changed_part_by_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aelab.data.pixel_room.PART_BYTES", 100)
    values = np.arange(20 * 5 * 5 * 3, dtype=np.uint16).reshape(20, 5, 5, 3) * 40
    np.save(tmp_path / "a.npy", values)
    monkeypatch.chdir(tmp_path)
    pixels = array_dataset("a.npy").load().pixels
    assert pixels.equal(torch.from_numpy((values >> 8).astype(np.uint8)).permute(0, 3, 1, 2))
    assert pixels.is_contiguous()


def test_a_full_disk_is_told_before_the_set_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aelab.data.memory.MAPPED_BYTES", 1000)
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(DataError, match=r"0\.0 GB are free"):
        noise_dataset((1, 8, 8), size=1_000).load()
