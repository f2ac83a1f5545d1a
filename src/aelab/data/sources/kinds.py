"""Recognises files that are no pictures by their first bytes, and suggests what to do."""

from __future__ import annotations

from pathlib import Path
from typing import IO, NamedTuple

from aelab.errors import DataError
from aelab.files import open_file


class Kind(NamedTuple):
    """A kind of file.

    Attributes:
        name: with its article, for instance `a ZIP archive`.
        way_out: how to get pictures from it, for messages.
        group: how it is read, if it can hold a whole set: `zip`, `tar`, `packed`, `parquet`,
            `film`; empty for other files.
    """

    name: str
    way_out: str
    group: str = ""


_CONVERT = "convert it to PNG"
_UNPACK = "unpack it, and give the folder of the pictures"
_GUNZIP = (
    "unpack it (gunzip); packed IDX files are read by idx_dataset, packed CSV by csv_dataset, "
    "packed tar archives by image_folder_dataset"
)
_ALONE = "give its own path: image_folder_dataset(path), or aelab data PATH"
_ARRAY = "read it with array_dataset(path): (N, H, W) or (N, C, H, W), uint8 or floats of 0..1"
_MATLAB = (
    "read it with array_dataset(path, key=...), or if it is SVHN's with svhn_dataset(path=...)"
)
_PICKLE = (
    "pickles can run code and are not read; save its arrays with numpy.savez, or its tensors with "
    "torch.save, and read them with array_dataset(path)"
)
_EXPORT = "write its pictures as PNG files into a folder"

#: (offset of the mark, the mark, the kind); the first match counts.
_MARKS: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"\x93NUMPY", Kind("a NumPy array (.npy)", _ARRAY)),
    (0, b"\x1f\x8b", Kind("packed with gzip", _GUNZIP, "packed")),
    (0, b"BZh", Kind("packed with bzip2", _UNPACK, "packed")),
    (0, b"\xfd7zXZ\x00", Kind("packed with xz", _UNPACK, "packed")),
    (0, b"\x28\xb5\x2f\xfd", Kind("packed with zstd", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", Kind("a 7z archive", _UNPACK)),
    (0, b"Rar!", Kind("a RAR archive", _UNPACK)),
    (257, b"ustar", Kind("a tar archive", _ALONE, "tar")),
    (0, b"PAR1", Kind("a Parquet table", _ALONE, "parquet")),
    (0, b"ARROW1", Kind("an Arrow table", _EXPORT)),
    (0, b"\x89HDF\r\n\x1a\n", Kind("an HDF5 file (also .mat of MATLAB 7.3)", _ARRAY)),
    (0, b"MATLAB 5.0", Kind("a MATLAB file (.mat)", _MATLAB)),
    (0, b"SQLite format 3", Kind("an SQLite database", _EXPORT)),
    (0, b"\x1aE\xdf\xa3", Kind("a film (Matroska or WebM)", _ALONE, "film")),
    (8, b"AVI ", Kind("a film (AVI)", _ALONE, "film")),
    (8, b"WAVE", Kind("a sound (WAV)", "leave it out")),
    (0, b"\x00\x00\x01\xba", Kind("a film (MPEG)", _ALONE, "film")),
    (0, b"%PDF", Kind("a PDF document", _EXPORT)),
    (0, b"%!PS", Kind("a PostScript drawing", "convert it to PNG; it is never opened, since that "
                                             "would run a program")),
    (0, b"\x00\x00\x00\x0cJXL ", Kind("a JPEG XL picture", _CONVERT)),
    (0, b"\xff\x0a", Kind("a JPEG XL picture", _CONVERT)),
    (0, b"\x00\x00\x00\x0cjP  ", Kind("a JPEG 2000 picture", _CONVERT)),
    (0, b"\xffO\xffQ", Kind("a JPEG 2000 picture", _CONVERT)),
    (0, b"8BPS", Kind("a Photoshop picture (PSD)", _CONVERT)),
    (0, b"gimp xcf", Kind("a GIMP picture (XCF)", _CONVERT)),
    (0, b"\x00\x00\x01\x00", Kind("an icon (ICO)", _CONVERT)),
    (0, b"\x00\x00\x02\x00", Kind("a mouse pointer (CUR) or a TGA picture", _CONVERT)),
    (0, b"v/1\x01", Kind("an OpenEXR picture", _CONVERT)),
    (0, b"DDS ", Kind("a DDS texture", _CONVERT)),
    (0, b"\xabKTX", Kind("a KTX texture", _CONVERT)),
    (0, b"qoif", Kind("a QOI picture", _CONVERT)),
    (0, b"SIMPLE  =", Kind("a FITS picture", _CONVERT)),
    (0, b"#?RADIANCE", Kind("a Radiance HDR picture", _CONVERT)),
    (128, b"DICM", Kind("a DICOM picture", _CONVERT)),
    (0, b"P7\n", Kind("a PAM picture", _CONVERT)),
    (0, b"PF\n", Kind("a PFM picture in colour", "save it as PNG, or each channel as TIFF floats")),
    (0, b"\x0a\x05\x01", Kind("a PCX picture", _CONVERT)),
    (0, b"\x76\x65\x72\x73\x69\x6f\x6e https://git-lfs",
     Kind("a pointer of Git LFS, not the file itself", "type: git lfs pull")),
    (0, b"\x80\x02", Kind("a Python pickle (also old .pt files)", _PICKLE)),
    (0, b"\x80\x04", Kind("a Python pickle", _PICKLE)),
    (0, b"\x7fELF", Kind("a program", "leave it out")),
    (0, b"MZ", Kind("a program", "leave it out")),
)  # fmt: skip

_BRANDS = {
    b"avif": Kind("an AVIF picture", _CONVERT),
    b"avis": Kind("an AVIF picture", _CONVERT),
    **dict.fromkeys(
        (b"heic", b"heix", b"mif1", b"msf1", b"hevc"), Kind("a HEIC photograph", _CONVERT)
    ),
}
#: Formats that are read, but not every variant of them.
_KNOWN = (
    (b"II*\x00", "a TIFF file"),
    (b"MM\x00*", "a TIFF file"),
    (b"II+\x00", "a BigTIFF file"),
    (b"MM\x00+", "a BigTIFF file"),
)


def kind_of(path: Path, content: IO[bytes] | None = None) -> Kind | None:
    """The kind of a file by its first bytes; None if it is not known or cannot be read.

    Args:
        path: the file.
        content: its bytes, if it lies inside of another file.
    """
    try:
        if content is not None:
            content.seek(0)
            head = content.read(4096)
        else:
            with open_file(path) as file:
                head = file.read(4096)
    except (DataError, OSError, ValueError):  # ValueError: it is closed
        return None
    if not head:
        return Kind(
            "empty (0 bytes)", "copy it again, or remove it; skip_corrupt=True leaves it out"
        )
    if head[:4] == b"PK\x03\x04":
        return _zip_kind(head)
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], Kind("a film (MP4)", _ALONE, "film"))
    for start, mark, kind in _MARKS:
        if head[start : start + len(mark)] == mark:
            return kind
    for mark, name in _KNOWN:
        if head.startswith(mark):
            return Kind(
                f"{name} of a form that is not read (for instance floats in several channels)",
                "save it with 8 or 16 bits per channel",
            )
    return _text_kind(head)


def _zip_kind(head: bytes) -> Kind:
    name = head[30:120]
    if b".npy" in name:
        return Kind("a file of NumPy arrays (.npz)", _ARRAY)
    if b"data.pkl" in name or b"/.format_version" in name or b"byteorder" in name:
        return Kind("a file of torch.save (.pt)", _ARRAY)
    return Kind("a ZIP archive (also .docx, .ora, .jar)", _ALONE, "zip")


def _text_kind(head: bytes) -> Kind | None:
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(head) - 3:  # not merely a character cut off at the end
            return None
        text = head[: error.start].decode("utf-8")
    if any(sign < " " and sign not in "\t\r\n\f" for sign in text):
        return None
    start = text.lstrip("\ufeff \t\r\n").lower()
    if "<svg" in start[:1000]:
        return Kind("an SVG drawing", _CONVERT)
    if start.startswith(("<!doctype html", "<html")):
        return Kind("a web page", "it was saved in place of the picture: download it again")
    return Kind("a text", "remove it or give it its right ending; skip_corrupt=True leaves it out")
