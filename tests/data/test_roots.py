"""What may be read: the experiment's folder, AELAB_DATA, the cache, and nothing a link leads to."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from PIL import Image

from aelab import roots
from aelab.data import image_folder_dataset
from aelab.errors import DataError


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    Image.new("RGB", (4, 4), "red").save(folder / "a.png")
    return folder


@pytest.fixture
def inside(tmp_path: Path) -> Path:
    folder = tmp_path / "experiments"
    folder.mkdir()
    return folder


def test_python_may_read_everything(outside: Path) -> None:
    assert len(image_folder_dataset(str(outside)).load()) == 1


def test_an_experiment_may_not_read_outside(outside: Path, inside: Path) -> None:
    with roots.using([inside]), pytest.raises(DataError) as raised:
        image_folder_dataset(str(outside))
    text = str(raised.value)
    assert str(outside) in text and f"--data {outside.parent}" in text and "AELAB_DATA" in text


@pytest.mark.parametrize("path", ["../outside", "sub/../../outside"])
def test_relative_paths_do_not_climb_out(outside: Path, inside: Path, path: str) -> None:
    with roots.using([inside]), pytest.raises(DataError, match="outside the folders"):
        image_folder_dataset(path)


def test_a_link_does_not_lead_out(outside: Path, inside: Path) -> None:
    (inside / "link").symlink_to(outside)
    with roots.using([inside]), pytest.raises(DataError, match="a link to"):
        image_folder_dataset("link")
    (inside / "pictures").mkdir()
    (inside / "pictures" / "b.png").symlink_to(outside / "a.png")
    with roots.using([inside]):
        dataset = image_folder_dataset("pictures")
    with pytest.raises(DataError, match="a link to"):
        dataset.load()


def test_folders_given_on_the_command_line_are_open(outside: Path, inside: Path) -> None:
    with roots.using([inside, outside]):
        assert len(image_folder_dataset(str(outside)).load()) == 1


def test_relative_paths_start_at_the_file_then_the_data_folder(
    inside: Path, data_folder: Path
) -> None:
    for place, colour in ((data_folder, "red"), (inside, "blue")):
        with roots.using([inside]):
            (place / "tiles").mkdir()
            Image.new("RGB", (2, 2), colour).save(place / "tiles" / "a.png")
            pixels = image_folder_dataset("tiles").load().pixels
        assert pixels[0, :, 0, 0].tolist() == ([255, 0, 0] if colour == "red" else [0, 0, 255])


def test_a_description_keeps_the_roots_of_its_birth(outside: Path, inside: Path) -> None:
    (inside / "pictures").mkdir()
    Image.new("RGB", (4, 4)).save(inside / "pictures" / "a.png")
    with roots.using([inside]):
        dataset = image_folder_dataset("pictures")
    (inside / "pictures" / "b.png").symlink_to(outside / "a.png")
    assert [file.name for file in dataset.source.files()] == ["a.png"]  # type: ignore[attr-defined]
    (source,) = dataset.load().provenance
    assert "links out of the folders that may be read: 1 (b.png" in source.note


def test_a_thread_is_restricted_as_well(outside: Path, inside: Path) -> None:
    seen: list[bool] = []
    with roots.using([inside]):
        thread = threading.Thread(target=lambda: seen.append(roots.allowed(outside)))
        thread.start()
        thread.join()
    assert seen == [False]
    assert roots.current() is None


def test_several_data_folders_are_looked_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    torch.save(torch.zeros(1), second / "x.pt")
    monkeypatch.setenv("AELAB_DATA", f"{first}:{second}")
    assert roots.find(["x.pt"])[0] == second / "x.pt"
    assert roots.find(["y.pt"])[0] is None


def test_records_show_where_data_lie_without_naming_the_users_folders(
    data_folder: Path, tmp_path: Path
) -> None:
    assert roots.shown_path(str(data_folder / "mnist" / "a.gz")) == "$AELAB_DATA/mnist/a.gz"
    assert roots.shown_path(str(roots.cache_folder() / "kali")) == "cache/kali"
    with roots.using([tmp_path / "experiments"]):
        assert roots.shown_path(str(tmp_path / "experiments" / "tiles" / "b.png")) == "tiles/b.png"
        assert roots.shown_path(str(tmp_path / "experiments")) == "experiments"  # not "."
    assert roots.shown_path("generated") == "generated"
    assert roots.shown_path("/somewhere/else.png") == "/somewhere/else.png"
