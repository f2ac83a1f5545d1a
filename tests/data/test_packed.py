"""Pictures inside of one file: archives, tables, animations, films; and what is refused."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from aelab.data import image_folder_dataset
from aelab.data.overview import named
from aelab.data.sources import packed
from aelab.errors import DataError, MissingExtra


def png(seed: int, size: int = 6) -> bytes:
    values = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(values).save(file, "PNG")
    return file.getvalue()


PICTURES = {
    "set/b/2.png": png(2),
    "set/a/9.png": png(9),
    "set/a/1.png": png(1),
    "set/a/deep/0.png": png(0),
    "set/notes.txt": b"none",
    "__MACOSX/set/a/._1.png": b"rubbish",
}


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, f"w:{path.suffix[1:] if path.suffix != '.tar' else ''}") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        if name.startswith("set/"):
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    return path / "set"


@pytest.mark.parametrize("name", ["p.zip", "p.tar", "p.tar.gz", "p.tar.bz2", "p.tar.xz"])
def test_an_archive_gives_what_its_folder_gives(name: str, tmp_path: Path) -> None:
    write = write_zip if name == "p.zip" else write_tar
    archive = write(tmp_path / name, PICTURES)
    unpacked = image_folder_dataset(str(write_folder(tmp_path / "folder", PICTURES))).load()
    dataset = image_folder_dataset(str(archive))
    assert dataset.shape == (3, 6, 6)
    images = dataset.load()
    assert images.content_sha256 == unpacked.content_sha256
    assert images.class_names == unpacked.class_names == ("a", "a", "a", "b")
    assert images.file_names == tuple(f"set/{name}" for name in unpacked.file_names)
    left_out = {reason: names for reason, _, names in images.provenance[0].left_out}
    assert left_out["of other endings"] == ("set/notes.txt",)
    beside = {path.name for path in tmp_path.iterdir()} - {"data", "cache"}
    assert beside == {"folder", name}, "nothing is unpacked beside the archive"
    assert named(str(archive)).load().content_sha256 == images.content_sha256
    small = image_folder_dataset(str(archive), shape=(1, 3, 3), memory_limit_mb=0)
    assert small.load().facts["memory_mapped"] and small.load().shape == (1, 3, 3)


def test_names_that_lead_out_and_links_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("../out.png", "/abs.png", "C:\\win.png", "a/../../b.png", "good.png"):
            archive.writestr(name, png(1))
        link = zipfile.ZipInfo("link.png")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    images = image_folder_dataset(str(path)).load()
    assert images.file_names == ("good.png",)
    counts = images.facts["left_out"]
    assert counts == {packed.LEADS_OUT: 4, packed.NO_FILE: 1}
    assert packed.LEADS_OUT in images.provenance[0].note
    tar = tmp_path / "p.tar"
    with tarfile.open(tar, "w") as archive_:
        for name, kind in (("l.png", tarfile.SYMTYPE), ("h.png", tarfile.LNKTYPE),
                           ("f.png", tarfile.FIFOTYPE), ("d.png", tarfile.CHRTYPE)):  # fmt: skip
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, "/etc/passwd"
            archive_.addfile(entry)
        entry = tarfile.TarInfo("../up.png")
        entry.size = len(png(1))
        archive_.addfile(entry, io.BytesIO(png(1)))
    with pytest.raises(DataError, match=r"holds no pictures; it holds: .*lead out"):
        image_folder_dataset(str(tar)).load()


def test_bombs_are_refused_before_they_unpack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bomb = write_zip(tmp_path / "p.zip", {"a.png": bytes(20_000_000)})
    with pytest.raises(DataError, match=r"unpacks to 20,000,000 bytes from [\d,]+: it is no pict"):
        image_folder_dataset(str(bomb)).load()
    packed_tar = write_tar(tmp_path / "p.tar.gz", {"a.png": bytes(20_000_000)})
    with pytest.raises(DataError, match="unpacks to more than 16,777,216 bytes"):
        image_folder_dataset(str(packed_tar)).load()
    monkeypatch.setattr(packed, "MOST_MEMBERS", 3)
    many = write_zip(tmp_path / "m.zip", {f"{n}.png": b"" for n in range(5)})
    with pytest.raises(DataError, match="holds more than 3 files"):
        image_folder_dataset(str(many)).verify()
    monkeypatch.setattr(packed, "MOST_PICTURE_BYTES", 10)
    large = write_zip(tmp_path / "l.zip", {"a.png": png(1)})
    with pytest.raises(DataError, match="larger than a picture can be: 1"):
        image_folder_dataset(str(large)).verify()


def test_a_picture_that_unpacks_to_too_many_pixels_is_refused(tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.new("1", (30_000, 30_000)).save(file, "PNG")
    path = write_zip(tmp_path / "p.zip", {"a.png": file.getvalue(), "b.png": png(1)})
    with pytest.raises(DataError, match=r"a\.png.*exceeds limit"):
        image_folder_dataset(str(path), shape=(3, 6, 6)).load()
    kept = image_folder_dataset(str(path), shape=(3, 6, 6), skip_corrupt=True).load()
    assert kept.file_names == ("b.png",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("p.zip", b"PK\x03\x04 and no more", "cannot read the ZIP archive"),
        ("p.tar.gz", b"\x1f\x8b and no more", "cannot read the tar archive"),
        ("p.parquet", b"PAR1 and no more PAR1", "cannot read the Parquet table"),
        ("p.npy", b"\x93NUMPY", r"it is a NumPy array[\s\S]*array_dataset"),
        ("p.pkl", b"\x80\x04.", r"a Python pickle[\s\S]*pickles can run code"),
        ("p.gz", b"\x1f\x8b", r"packed with gzip[\s\S]*idx_dataset"),
        ("p.mat", b"MATLAB 5.0 MAT", r"a MATLAB file[\s\S]*array_dataset"),
        ("p.pdf", b"%PDF", "a PDF document"),
        ("p.bin", b"\x00\x01\x02", "of no known kind"),
    ],
)
def test_damaged_files_and_files_of_other_kinds_are_told(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as told:
        image_folder_dataset(str(tmp_path / name)).load()
    assert name in str(told.value)


def test_an_encrypted_archive_is_told(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {"a.png": png(1)})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the flag of the member
    content[content.index(b"PK\x01\x02") + 8] |= 1  # and of the directory
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"is encrypted[\s\S]*unpack it"):
        image_folder_dataset(str(path)).load()


@pytest.mark.parametrize("struct", [True, False])
def test_a_table_of_hugging_face(struct: bool, tmp_path: Path) -> None:
    contents = [png(n) for n in range(5)]
    pictures = [{"bytes": c, "path": None} for c in contents] if struct else contents
    about = {"info": {"features": {"label": {"names": ["cat", "dog"]}}}}
    table = pyarrow.table({"image": pictures, "label": [0, 1, 1, 0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
    path = tmp_path / "train.parquet"
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    images = image_folder_dataset(str(path)).load()
    alone = image_folder_dataset(str(write_zip(tmp_path / "p.zip", {
        f"{n}.png": content for n, content in enumerate(contents)})))  # fmt: skip
    assert torch.equal(images.pixels, alone.load().pixels)
    assert images.class_names == ("cat", "dog", "dog", "cat", "dog")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["a"]}), path)
    with pytest.raises(DataError, match=r"no column of picture bytes; its columns: text"):
        image_folder_dataset(str(path)).verify()


def test_a_single_animation_gives_its_frames(tmp_path: Path) -> None:
    frames = [Image.new("L", (5, 4), value) for value in (10, 90, 170, 250)]
    path = tmp_path / "walk.gif"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    images = image_folder_dataset(str(path)).load()
    assert images.pixels[:, 0, 0, 0].tolist() == [10, 90, 170, 250]
    assert images.file_names[2] == "walk.gif#2" and images.labels is None
    assert len(image_folder_dataset(str(path), every=3).load()) == 2
    assert named(str(path)).load().content_sha256 == images.content_sha256
    with pytest.raises(DataError, match="every is a whole number"):
        image_folder_dataset(str(path), every=0)


class _Frame:
    def __init__(self, value: int) -> None:
        self.value = value

    def to_ndarray(self, *, format: str) -> np.ndarray:
        assert format == "rgb24"
        return np.full((4, 6, 3), self.value, np.uint8)


class _Film:
    """What PyAV gives of a film of seven frames; the package itself is an extra of 100 MB."""

    def __init__(self) -> None:
        size = type("Size", (), {"height": 4, "width": 6})()
        stream = type("Stream", (), {"codec_context": size})()
        self.streams = type("Streams", (), {"video": [stream]})()

    def decode(self, *, video: int) -> list[_Frame]:
        return [_Frame(10 * n) for n in range(7)]

    def close(self) -> None:
        pass


def test_a_film_gives_each_nth_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "film.mp4"
    path.write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(20))
    opened: Callable[..., object] = lambda file: _Film()  # noqa: E731
    monkeypatch.setitem(__import__("sys").modules, "av", type("av", (), {"open": opened}))
    dataset = image_folder_dataset(str(path), every=3)
    assert dataset.shape == (3, 4, 6)
    assert dataset.load().pixels[:, 0, 0, 0].tolist() == [0, 30, 60]
    assert dataset.load().file_names == ("film.mp4#0", "film.mp4#1", "film.mp4#2")
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(MissingExtra, match="video"):
        image_folder_dataset(str(path), shape=(3, 2, 2)).load()
