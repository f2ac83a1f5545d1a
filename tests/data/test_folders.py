"""Folders of pictures in every format, corrupt ones, and sets that stay on disk."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aelab import roots
from aelab.data import MEMORY, TensorDataset, image_folder_dataset
from aelab.data.sources.decode import decode, file_shape
from aelab.data.sources.folder import list_pictures
from aelab.errors import DataError


def gradient(height: int = 12, width: int = 16) -> np.ndarray:
    """(H, W, 3) uint8 with another value in every pixel row and column."""
    rows = np.linspace(0, 255, height, dtype=np.uint8)[:, None]
    columns = np.linspace(255, 0, width, dtype=np.uint8)[None]
    return np.stack(np.broadcast_arrays(rows, columns, rows // 2 + 20), axis=-1).copy()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "pictures"
    path.mkdir()
    return path


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.bmp", "a.tiff", "a.ppm"])
def test_lossless_formats_are_read_exactly(folder: Path, name: str) -> None:
    image = Image.fromarray(gradient())
    image.save(folder / name, **({"lossless": True} if name.endswith("webp") else {}))
    (pixels,) = decode(folder / name)
    assert torch.equal(pixels, torch.from_numpy(gradient()).permute(2, 0, 1))
    assert file_shape(folder / name) == (3, 12, 16)


def test_jpeg_is_read_upright(folder: Path) -> None:
    image = Image.fromarray(gradient())
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: shown with a quarter turn
    image.save(folder / "a.jpg", quality=95, exif=exif)
    (pixels,) = decode(folder / "a.jpg")
    assert pixels.shape == (3, 16, 12) == file_shape(folder / "a.jpg")
    expected = torch.from_numpy(np.rot90(gradient(), -1).copy()).permute(2, 0, 1)
    assert (pixels.int() - expected.int()).abs().float().mean() < 8


def test_grey_files_have_one_channel_and_16_bits_become_8(folder: Path) -> None:
    grey = gradient()[..., 0]
    Image.fromarray(grey).save(folder / "a.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(folder / "b.png")
    for name in ("a.png", "b.png"):
        (pixels,) = decode(folder / name)
        assert torch.equal(pixels[0], torch.from_numpy(grey)) and pixels.shape[0] == 1


def test_alpha_is_composited_on_black(folder: Path) -> None:
    rgba = np.full((2, 2, 4), 200, np.uint8)
    rgba[..., 3] = [[0, 255], [128, 255]]
    Image.fromarray(rgba).save(folder / "a.png")
    (pixels,) = decode(folder / "a.png")
    assert pixels[0].tolist() == [[0, 200], [100, 200]]


def test_palettes_are_resolved_with_their_transparent_colour(folder: Path) -> None:
    image = Image.new("P", (3, 1))
    image.putpalette([0, 0, 255, 255, 0, 0, 0, 255, 0])
    image.putdata([0, 1, 2])
    image.save(folder / "opaque.png")
    image.save(folder / "clear.png", transparency=1)
    image.save(folder / "clear.gif", transparency=1)
    (opaque,) = decode(folder / "opaque.png")
    assert opaque[:, 0].T.tolist() == [[0, 0, 255], [255, 0, 0], [0, 255, 0]]
    for name in ("clear.png", "clear.gif"):
        (clear,) = decode(folder / name)
        assert clear[:, 0].T.tolist() == [[0, 0, 255], [0, 0, 0], [0, 255, 0]], name


def test_of_an_animation_the_first_frame_or_all_are_read(folder: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(folder / "a.gif", save_all=True, append_images=frames[1:], duration=50)
    first = image_folder_dataset(str(folder)).load()
    every = image_folder_dataset(str(folder), frames="all").load()
    assert len(first) == 1 and first.pixels[0, 0].min() == 255
    assert [pixels.flatten(1).float().mean(1).argmax().item() for pixels in every.pixels] == [
        0,
        1,
        2,
    ]


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_a_corrupt_picture_is_named_and_may_be_left_out(
    folder: Path, content: bytes | None
) -> None:
    Image.fromarray(gradient()).save(folder / "good.png")
    if content is None:  # cut off in the middle of its pixels
        Image.effect_noise((64, 64), 50).save(folder / "bad.png")
        content = (folder / "bad.png").read_bytes()[:2000]
    (folder / "bad.png").write_bytes(content)
    with pytest.raises(DataError, match=r"bad\.png") as raised:
        image_folder_dataset(str(folder), (3, 8, 8)).load()
    assert "skip_corrupt=True" in str(raised.value)
    images = image_folder_dataset(str(folder), (3, 8, 8), skip_corrupt=True).load()
    assert len(images) == 1
    assert images.facts["skipped_files"] == [str(folder / "bad.png")]


def test_a_missing_and_an_empty_folder_are_told(folder: Path) -> None:
    with pytest.raises(DataError, match="holds no pictures"):
        image_folder_dataset(str(folder)).verify()
    with pytest.raises(DataError, match="there is no folder"):
        image_folder_dataset(str(folder / "none")).verify()


def test_subfolders_are_labels_and_hidden_files_are_left_out(folder: Path) -> None:
    for name in ("cats/1.png", "cats/2.png", "dogs/1.png", ".hidden/1.png", "cats/.x.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("L", (4, 4)).save(folder / name)
    images = image_folder_dataset(str(folder)).load()
    assert images.labels is not None and images.labels.tolist() == [0, 0, 1]
    assert images.facts["label_names"] == ["cats", "dogs"]
    assert list_pictures(folder) == sorted(list_pictures(folder))


def test_other_aspects_are_cropped_padded_or_stretched(folder: Path) -> None:
    tall = np.zeros((20, 10, 3), np.uint8)
    tall[5:15] = 255
    Image.fromarray(tall).save(folder / "a.png")
    made = {
        fit: image_folder_dataset(str(folder), (1, 10, 10), fit=fit).load().pixels[0, 0]  # type: ignore[arg-type]
        for fit in ("crop", "pad", "stretch")
    }
    assert (made["crop"] == 255).all()
    assert made["pad"][:, 0].max() == 0 and made["pad"][5, 5] == 255
    assert made["stretch"][0].max() == 0 and (made["stretch"][5] == 255).all()
    with pytest.raises(DataError, match="fit is 'crop'"):
        image_folder_dataset(str(folder), fit="squeeze")  # type: ignore[arg-type]


@pytest.fixture
def many(folder: Path) -> Path:
    generator = np.random.default_rng(3)
    for number in range(120):
        image = Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        image.save(folder / f"{number:03d}.png")
        if number % 10 == 0:  # a copy, a mirrored copy, a grey copy
            image.save(folder / f"{number:03d}-copy.png")
            image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(folder / f"{number:03d}-m.png")
    return folder


def test_duplicates_and_mirrored_copies_never_straddle_the_split(many: Path) -> None:
    train, held = (image_folder_dataset(str(many), validation=v).load() for v in (False, True))
    assert len(train) + len(held) == 144 and 0 < len(held) < 30
    seen = {pixels.numpy().tobytes() for image in train.pixels for pixels in (image, image.flip(2))}
    assert not any(image.numpy().tobytes() in seen for image in held.pixels)


def test_a_set_larger_than_the_limit_stays_on_disk(many: Path, tmp_path: Path) -> None:
    in_memory = image_folder_dataset(str(many), (3, 8, 8)).load()
    dataset = image_folder_dataset(str(many), (3, 8, 8), memory_limit_mb=0)
    MEMORY.clear()
    mapped = dataset.load()
    assert mapped.facts["memory_mapped"] and not in_memory.facts["memory_mapped"]
    assert mapped.content_sha256 == in_memory.content_sha256
    assert torch.equal(mapped.pixels, in_memory.pixels)
    (file,) = (tmp_path / "cache" / "folders").glob("*.u8")
    written = file.stat().st_mtime_ns
    MEMORY.clear()
    again = dataset.load()
    assert file.stat().st_mtime_ns == written
    again.pixels[0] = 0  # must not reach the file
    MEMORY.clear()
    assert torch.equal(dataset.load().pixels, in_memory.pixels)
    MEMORY.clear()
    assert dataset.limit(5).load().facts["memory_mapped"]
    file.write_bytes(b"short")
    MEMORY.clear()
    with pytest.raises(DataError, match="pixel cache"):
        dataset.load()


def test_a_changed_folder_is_read_again(many: Path) -> None:
    before = len(image_folder_dataset(str(many), (3, 8, 8), memory_limit_mb=0).load())
    Image.new("RGB", (8, 8), "red").save(many / "new.png")
    after = len(image_folder_dataset(str(many), (3, 8, 8), memory_limit_mb=0).load())
    assert after == before + 1


def test_an_unwritable_cache_is_told(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "file"))
    with pytest.raises(DataError, match="cannot write the pixel cache") as raised:
        image_folder_dataset(str(many), (3, 8, 8), memory_limit_mb=0).load()
    assert "AELAB_CACHE" in str(raised.value)


def test_all_bad_files_are_told_at_once_and_many_are_counted(folder: Path) -> None:
    Image.new("L", (4, 4)).save(folder / "good.png")
    for number in range(12):
        (folder / f"bad-{number:02d}.png").write_bytes(b"")
    with pytest.raises(DataError) as raised:
        image_folder_dataset(str(folder), (1, 4, 4)).load()
    text = str(raised.value)
    assert "12 of the 13 files" in text and "and 2 more" in text
    assert all(f"bad-{number:02d}.png" in text for number in range(10)) and "bad-11" not in text


def test_what_is_left_out_is_counted_and_named_in_the_provenance(folder: Path) -> None:
    for name in ("a.png", "b.png", ".hidden.png", "sub/.x/c.png", "sub/d.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(folder / name)
    for name in ("notes.txt", "Thumbs.db", "film.mp4"):
        (folder / name).write_bytes(b"x")
    (folder / "liar.png").write_text("no picture")
    (folder / "dead.png").symlink_to(folder / "nothing.png")
    os.mkfifo(folder / "pipe.png")
    images = image_folder_dataset(str(folder), (1, 4, 4), skip_corrupt=True).load()
    assert len(images) == 3
    assert images.facts["left_out"] == {
        "hidden": 2, "of other endings": 3, "links to nothing": 1,
        "pipes, sockets or devices": 1, "unreadable": 1,
    }  # fmt: skip
    (source,) = images.provenance
    assert "unreadable: 1 (liar.png)" in source.note
    assert "Thumbs.db" not in source.note
    named = {reason: names for reason, _, names in source.left_out}
    assert named["of other endings"] == ("Thumbs.db", "film.mp4", "notes.txt")
    assert named["hidden"] == (".hidden.png", "sub/.x")


def test_links_are_followed_and_loops_end(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    for name in ("elsewhere/1.png", "elsewhere/deep/2.png", "pictures/3.png", "4.png"):
        Image.effect_noise((4, 4), 60).save(tmp_path / name)
    (folder / "linked").symlink_to(tmp_path / "elsewhere")
    (folder / "again").symlink_to(tmp_path / "elsewhere")
    (folder / "one.png").symlink_to(tmp_path / "4.png")
    (folder / "loop").symlink_to(folder)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path)
    (folder / "circle").symlink_to(folder / "circle")
    found = [path.relative_to(folder).as_posix() for path in list_pictures(folder)]
    # What `back` leads to holds the folder of the set and the one of `again`: not read twice.
    assert found == [
        "3.png", "one.png", "again/1.png", "again/back/4.png", "again/deep/2.png",
    ]  # fmt: skip
    with roots.using([folder]):
        dataset = image_folder_dataset(str(folder))
    images = dataset.load()
    assert len(images) == 1
    assert images.facts["left_out"]["links out of the folders that may be read"] == 3


def test_a_folder_without_pictures_says_what_it_holds(folder: Path) -> None:
    for number in range(7):
        (folder / f"{number}.npy").write_bytes(b"x")
    with pytest.raises(DataError, match=r"holds no pictures.*of other endings: 7 \(0.npy, 1.npy"):
        image_folder_dataset(str(folder)).verify()


def test_the_first_readable_picture_says_the_shape(folder: Path) -> None:
    for name in ("a.png", "c.png"):
        (folder / name).write_bytes(b"")
    with pytest.raises(DataError, match=r"2 of the 2 files[\s\S]*a\.png[\s\S]*c\.png"):
        image_folder_dataset(str(folder)).item_shape()
    Image.new("RGB", (5, 3)).save(folder / "b.png")
    assert len(image_folder_dataset(str(folder), skip_corrupt=True).load()) == 1
    dataset = image_folder_dataset(str(folder))
    assert dataset.shape == (3, 3, 5)
    with pytest.raises(DataError, match=r"2 of the 3 files[\s\S]*a\.png[\s\S]*c\.png"):
        dataset.load()


@pytest.mark.parametrize("size", [(20_000, 1), (1, 20_000)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("filter", ["bilinear", "area", "nearest", "lanczos"])
def test_a_line_of_20_000_pixels_needs_no_gigabytes(
    folder: Path, size: tuple[int, int], fit: str, filter: str
) -> None:
    line = Image.new("L", size, 9)
    line.paste(200, (9_000, 0, 11_000, 1) if size[0] > 1 else (0, 9_000, 1, 11_000))
    line.save(folder / "a.png")
    before = _peak_bytes()
    images = image_folder_dataset(str(folder), (1, 32, 32), filter, fit=fit).load()  # type: ignore[arg-type]
    assert images.pixels.shape == (1, 1, 32, 32)
    if fit == "crop":
        assert (images.pixels == 200).all()
    assert images.pixels.max() > 150
    assert _peak_bytes() - before < 300 << 20


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_set_that_no_disk_can_hold_is_refused_before_it_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        Image.new("L", (4, 4)).save(folder / f"{number}.png")
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: None)
    with pytest.raises(DataError, match="GB in the cache"):
        image_folder_dataset(str(folder), (3, 2_000_000, 2_000_000)).load()
    monkeypatch.setattr("aelab.data.memory.machine_bytes", lambda: 1 << 34)
    for limit_mb in (0, 1e12):
        with pytest.raises(DataError, match="GB of memory"):
            image_folder_dataset(
                str(folder), (3, 2_000_000, 2_000_000), memory_limit_mb=limit_mb
            ).load()


def _classes(folder: Path, counts: dict[str, int]) -> None:
    """Pictures of all different content in subfolders."""
    generator = np.random.default_rng(3)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            picture = generator.integers(0, 256, (6, 6), dtype=np.uint8)
            Image.fromarray(picture).save(folder / name / f"{number}.png")


def test_a_class_has_one_number_on_both_sides_though_one_side_lacks_it(folder: Path) -> None:
    _classes(folder / "set", {"aa": 3, "bb": 90, "cc": 90})
    names = ("aa", "bb", "cc")
    sides = [
        image_folder_dataset(str(folder / "set"), validation=side).load() for side in (False, True)
    ]
    assert [images.label_names for images in sides] == [names, names]
    train, held_out = sides
    assert train.labels is not None and held_out.labels is not None
    assert sorted(set(held_out.labels.tolist())) == [1, 2], "no picture of aa is held out"
    assert torch.bincount(train.labels)[0] == 3


@pytest.mark.parametrize("limit_mb", [2048, 1e-4])
def test_a_class_keeps_its_number_through_every_change(folder: Path, limit_mb: float) -> None:
    _classes(folder / "set", {"aa": 2, "bb": 5, "cc": 5})
    path = str(folder / "set")
    source = image_folder_dataset(path, (1, 6, 6), memory_limit_mb=limit_mb)
    for changed in (
        source.limit(3), source.skip(7), source.shuffle(), source.sample(4), source.repeat(2),
        source.resize((3, 3)), source.filter(lambda x: True), source.random_flip().freeze(),
        source.transform([lambda x: 1 - x]), source.center_crop((4, 4)), source.random_shift(1),
        source.interleave(source), source.binarize().freeze(),
    ):  # fmt: skip
        images = changed.load()
        assert images.label_names == ("aa", "bb", "cc"), repr(changed)
        assert images.labels is not None
        assert len(images.labels) == len(images)
    assert source.skip(7).load().labels.tolist() == [2] * 5  # type: ignore[union-attr]


def test_interleaved_classes_of_equal_names_become_one(folder: Path) -> None:
    _classes(folder / "one", {"bb": 2, "cc": 2})
    _classes(folder / "two", {"aa": 2, "bb": 2})
    one, two = (image_folder_dataset(str(folder / n), (1, 6, 6)) for n in ("one", "two"))
    images = one.interleave(two).load()
    assert images.label_names == ("bb", "cc", "aa")
    assert images.labels is not None and images.labels.tolist() == [0, 2, 0, 2, 1, 0, 1, 0]
    bare = TensorDataset(torch.zeros(2, 1, 6, 6, dtype=torch.uint8))
    assert one.interleave(bare).load().labels is None
