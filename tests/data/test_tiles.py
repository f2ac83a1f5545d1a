"""Sheets and RPG tiles: what is cut and left out, what the provenance says, how it is split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aelab.data import atlas_dataset, rpg_tile_dataset_3x32x32
from aelab.data.split import content_keys, is_validation
from aelab.errors import DataError, ShapeError
from aelab.founding.data import rpg_tile_dataset


def test_a_sheet_is_cut_row_by_row(tmp_path: Path) -> None:
    values = np.arange(4 * 6, dtype=np.uint8).reshape(4, 6) * 9
    Image.fromarray(values).save(tmp_path / "sheet.png")
    pixels = atlas_dataset(str(tmp_path / "sheet.png"), 2).load().pixels
    assert pixels.shape == (6, 3, 2, 2)
    assert torch.equal(pixels[1, 0], torch.from_numpy(values[0:2, 2:4].copy()))
    assert torch.equal(pixels[3, 0], torch.from_numpy(values[2:4, 0:2].copy()))


def test_offset_and_stride_move_the_cuts(tmp_path: Path) -> None:
    values = np.arange(10 * 11, dtype=np.uint8).reshape(10, 11)
    Image.fromarray(values).save(tmp_path / "sheet.png")
    dataset = atlas_dataset(str(tmp_path / "sheet.png"), (3, 2), offset=(1, 2), stride=(4, 5))
    assert dataset.shape == (3, 3, 2)
    pixels = dataset.load().pixels
    assert pixels.shape == (4, 3, 3, 2)
    assert torch.equal(pixels[3, 0], torch.from_numpy(values[5:8, 7:9].copy()))


def test_empty_tiles_and_duplicates_are_left_out_on_wish(tile_sheet: Path) -> None:
    counts = {
        (empty, double): len(
            atlas_dataset(str(tile_sheet), skip_empty=empty, drop_duplicates=double).load()
        )
        for empty in (True, False)
        for double in (True, False)
    }
    assert counts == {
        (False, False): 128,
        (True, False): 127,
        (False, True): 127,
        (True, True): 126,
    }


def test_names_give_labels_that_follow_their_tiles(tile_sheet: Path, tmp_path: Path) -> None:
    names = [f"{'monster' if i % 2 else 'item'}/x/{i}" for i in range(128)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    images = atlas_dataset(str(tile_sheet), names=str(tmp_path / "names.txt")).load()
    assert images.facts["label_names"] == ["item", "monster"]
    assert images.labels is not None and images.labels[:11].tolist() == [0, 1] * 5 + [
        1
    ]  # 10 is empty
    (tmp_path / "names.txt").write_text("\n".join([*names, "too/many"]))
    with pytest.raises(DataError, match="names 129 tiles"):
        atlas_dataset(str(tile_sheet), names=str(tmp_path / "names.txt")).load()


def test_a_class_of_tiles_has_one_number_on_both_sides(tile_sheet: Path, tmp_path: Path) -> None:
    names = [f"{'a' if i < 2 else 'monster' if i % 2 else 'item'}/{i}" for i in range(128)]
    (tmp_path / "names.txt").write_text("\n".join(names))
    for side in (True, False, None):
        images = atlas_dataset(
            str(tile_sheet), names=str(tmp_path / "names.txt"), validation=side
        ).load()
        assert images.label_names == ("a", "item", "monster")
        assert images.labels is not None and len(images.labels) == len(images)


def test_a_sheet_that_is_too_small_is_told(tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "sheet.png")
    with pytest.raises(ShapeError, match="no tile of 32x32 fits into the 20x20"):
        atlas_dataset(str(tmp_path / "sheet.png")).load()
    with pytest.raises(ShapeError, match="tile is a number"):
        atlas_dataset(str(tmp_path / "sheet.png"), 0)
    with pytest.raises(DataError, match="there is no file"):
        atlas_dataset(str(tmp_path / "none.png")).verify()


def test_duplicate_tiles_never_straddle_training_and_validation(tile_sheet: Path) -> None:
    train, held = (rpg_tile_dataset_3x32x32(validation=v).load().pixels for v in (False, True))
    assert len(train) + len(held) == 127 and len(held) >= 1
    assert not set(content_keys(train)) & set(content_keys(held))


def test_recoloured_and_mirrored_copies_have_one_key() -> None:
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    grey = pixels[:, :1].repeat(1, 3, 1, 1)
    keys = content_keys(grey)
    assert content_keys(grey[:, :1]) == keys == content_keys(grey.flip(2).flip(3))
    assert len(set(content_keys(pixels)) | set(keys)) == 6


def test_one_of_21_validates_and_the_side_never_changes() -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (4000, 1, 4, 4), dtype=torch.uint8, generator=generator)
    side = is_validation(content_keys(pixels))
    assert abs(side.float().mean().item() - 1 / 21) < 0.01
    zeros = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    assert content_keys(zeros) == ["1c032f8dd04e9267f89298ee"]


def test_the_split_does_not_depend_on_the_shape(tile_sheet: Path) -> None:
    counts = {
        shape: len(rpg_tile_dataset_3x32x32(shape, validation=True).load())
        for shape in ((3, 32, 32), (1, 28, 28), (1, 20, 20))
    }
    assert len(set(counts.values())) == 1


def test_the_provenance_says_that_the_tiles_differ(tile_sheet: Path) -> None:
    (source,) = rpg_tile_dataset_3x32x32().load().provenance
    assert source.name == "rpg"
    assert source.source == "$AELAB_DATA/rpg-tiles/rltiles-32x32.png"
    assert "RLTiles, not the author's tiles" in source.note


def test_the_authors_files_are_preferred_with_their_own_split(
    tile_sheet: Path, data_folder: Path
) -> None:
    for half, count in (("train", 47), ("test", 5)):
        tiles = torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8)
        torch.save(tiles, data_folder / f"rpg-3x32x32-uint-{half}.pt")
    train = rpg_tile_dataset_3x32x32(validation=False).load()
    assert len(train) == 47 and train.provenance[0].note == ""
    assert train.provenance[0].source.endswith("rpg-3x32x32-uint-train.pt")
    assert len(rpg_tile_dataset_3x32x32(validation=True).load()) == 5
    # a path decides alone
    named = rpg_tile_dataset_3x32x32(path=str(tile_sheet)).load()
    assert "RLTiles" in named.provenance[0].note


class Evil:
    """Pickles as a call of `open`."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.target, "w")

    target = ""


def test_a_tensor_file_runs_nothing(data_folder: Path, tmp_path: Path) -> None:
    Evil.target = str(tmp_path / "written")
    torch.save(Evil(), data_folder / "rpg-3x32x32-uint-train.pt")
    with pytest.raises(DataError, match="cannot read a tensor"):
        rpg_tile_dataset_3x32x32().load()
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("value", [torch.zeros(3, 3, 32, 32), {"a": 1}, torch.zeros(2)])
def test_a_tensor_file_with_something_else_is_told(data_folder: Path, value: object) -> None:
    torch.save(value, data_folder / "rpg-3x32x32-uint-train.pt")
    with pytest.raises(DataError, match="holds"):
        rpg_tile_dataset_3x32x32().load()


def test_a_folder_of_pictures_serves_as_tiles(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    for number in range(30):
        Image.effect_noise((16, 16), 90).save(folder / f"{number}.png")
    train = rpg_tile_dataset_3x32x32(path=str(folder)).load()
    assert train.shape == (3, 32, 32) and "own, not the author's tiles" in train.provenance[0].note


def test_without_any_tiles_the_message_tells_what_to_put_where() -> None:
    with pytest.raises(DataError, match="no RPG tiles were found") as raised:
        rpg_tile_dataset_3x32x32().verify()
    assert "rltiles-32x32.png" in str(raised.value) and "path=" in str(raised.value)


def test_old_arguments_shift_flip_and_repeat(tile_sheet: Path) -> None:
    plain = rpg_tile_dataset_3x32x32()
    dataset = rpg_tile_dataset_3x32x32(random_shift=3, random_flip=True, num_repeat=2)
    images = dataset.load()
    assert dataset.shape == (3, 32, 32) and len(images) == 2 * len(plain.load())
    assert torch.equal(images.pixels[0], images.pixels[1])
    names = [type(change).__name__ for change in images.augment]
    assert names == ["RandomShift", "RandomFlip"]
    assert (images.augment[1].horizontal, images.augment[1].vertical) == (0.4, 0.2)  # type: ignore[attr-defined]


def test_the_old_stream_limits_after_shuffling(tile_sheet: Path) -> None:
    first = rpg_tile_dataset((1, 16, 16), limit=10).load()
    mixed = rpg_tile_dataset((1, 16, 16), limit=10, shuffle=True).load()
    assert len(first) == len(mixed) == 10
    assert first.facts["filter"] == "nearest"
    assert first.content_sha256 != mixed.content_sha256
    again = rpg_tile_dataset((1, 16, 16), limit=10, shuffle=True).load()
    assert again.content_sha256 == mixed.content_sha256
