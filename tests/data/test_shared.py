"""One copy of a data set for several processes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from aelab.data import MEMORY, Dataset, noise_dataset
from aelab.data.pixel_room import PixelRoom
from aelab.data.shared import sharing_sets
from aelab.types import Images


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """Nothing is remembered from another test, nor for the next."""
    MEMORY.clear()


class _Writing:
    """Writes files as before, and remembers which."""

    def __init__(self) -> None:
        self.paths: list[Path] = []

    def __call__(self, path: Path, data: bytes | memoryview) -> None:
        self.paths.append(path)
        path.write_bytes(data)


def _read_again(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Images:
    """The set as another process finds it, which must not read it itself."""
    MEMORY.clear()
    with monkeypatch.context() as patch:
        patch.setattr(type(dataset), "_read", lambda self: pytest.fail("read twice"))
        return dataset.load()


def test_a_set_that_another_process_has_read_is_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = noise_dataset((1, 16, 16), size=8_000, seed=1)
    alone = dataset.load()
    MEMORY.clear()
    with sharing_sets(tmp_path):
        first = dataset.load()
        second = _read_again(dataset, monkeypatch)
    for images in (first, second):
        assert images.pixels.equal(alone.pixels) and images.pixels.dtype == alone.pixels.dtype
        assert images.content_sha256 == alone.content_sha256
        assert images.provenance == alone.provenance and images.facts == alone.facts
    assert len(list(tmp_path.glob("*.pixels"))) == 1


def test_who_writes_into_a_shared_set_changes_only_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = noise_dataset((1, 16, 16), size=8_000, seed=1)
    with sharing_sets(tmp_path):
        first = dataset.load()
        before = first.pixels.clone()
        first.pixels.zero_()
        assert _read_again(dataset, monkeypatch).pixels.equal(before)


def test_sets_that_differ_in_their_random_changes_share_their_pixels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = noise_dataset((1, 16, 16), size=8_000, seed=1)
    cropped = plain.random_shift(2)
    with sharing_sets(tmp_path):
        plain.load()
        cropped.load()
        again = _read_again(cropped, monkeypatch)
    assert [repr(change) for change in again.augment] == [
        repr(change) for change in cropped.load().augment
    ]
    assert len(list(tmp_path.glob("*.pixels"))) == 1


def test_a_function_of_the_file_is_not_handed_on_but_its_pixels_are_shared(tmp_path: Path) -> None:
    dataset = noise_dataset((1, 16, 16), size=8_000, seed=1).transform(
        lambda image: image + torch.rand(1)
    )
    with sharing_sets(tmp_path):
        first = dataset.load()
        MEMORY.clear()
        second = dataset.load()
    assert first.pixels.equal(second.pixels)
    # On Linux the maps of this process name the files that its memory is.
    maps = Path("/proc/self/maps")
    if maps.exists():
        assert maps.read_text().count(f"{first.content_sha256}.pixels") >= 2


def test_a_large_set_is_made_in_the_file_that_all_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aelab.data.memory.MAPPED_BYTES", 1 << 20)
    monkeypatch.setattr("aelab.data.shared._write", written := _Writing())
    large = noise_dataset((1, 16, 16), size=8_000, seed=1).shuffle()
    with sharing_sets(tmp_path):
        first = large.load()
        second = _read_again(large, monkeypatch)
    assert first.facts["memory_mapped"] and second.facts["memory_mapped"]
    assert first.pixels.equal(second.pixels)
    assert not [path for path in written.paths if path.suffix == ".pixels"]
    assert len(list(tmp_path.glob("*.pixels"))) == 2  # before and after the shuffle
    assert not list(tmp_path.glob("*.partial"))


def test_a_file_that_no_set_took_goes_with_its_tensor(tmp_path: Path) -> None:
    tmp_path = tmp_path / "shelf"
    tmp_path.mkdir()
    with sharing_sets(tmp_path):
        room = PixelRoom(2_000, "a set")
        room.add(torch.ones(2_000, 1, 32, 32, dtype=torch.uint8))
        pixels = room.done()
        assert len(list(tmp_path.iterdir())) == 1
        del pixels, room
    assert not list(tmp_path.iterdir())


def test_a_small_set_or_a_full_folder_is_read_as_without_sharing(tmp_path: Path) -> None:
    small = noise_dataset((1, 8, 8), size=10, seed=1)
    large = noise_dataset((1, 16, 16), size=8_000, seed=1)
    with sharing_sets(tmp_path):
        small.load()
        assert not list(tmp_path.glob("*.pixels"))
    with sharing_sets(tmp_path / "gone"):
        assert len(large.load()) == 8_000
