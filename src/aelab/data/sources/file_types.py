"""Recognises files that are no pictures by their first bytes, and suggests what to do."""

from __future__ import annotations

from pathlib import Path
from typing import IO, NamedTuple

from aelab.errors import DataError
from aelab.files import open_file


class FileType(NamedTuple):
    """A type of file.

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

#: (offset of the mark, the mark, the type); the first match counts.
_MARKS: tuple[tuple[int, bytes, FileType], ...] = (
    (0, b"\x93NUMPY", FileType("a NumPy array (.npy)", _ARRAY)),
    (0, b"\x1f\x8b", FileType("packed with gzip", _GUNZIP, "packed")),
    (0, b"BZh", FileType("packed with bzip2", _UNPACK, "packed")),
    (0, b"\xfd7zXZ\x00", FileType("packed with xz", _UNPACK, "packed")),
    (0, b"\x28\xb5\x2f\xfd", FileType("packed with zstd", _UNPACK)),
    (0, b"7z\xbc\xaf\x27\x1c", FileType("a 7z archive", _UNPACK)),
    (0, b"Rar!", FileType("a RAR archive", _UNPACK)),
    (257, b"ustar", FileType("a tar archive", _ALONE, "tar")),
    (0, b"PAR1", FileType("a Parquet table", _ALONE, "parquet")),
    (0, b"ARROW1", FileType("an Arrow table", _EXPORT)),
    (0, b"\x89HDF\r\n\x1a\n", FileType("an HDF5 file (also .mat of MATLAB 7.3)", _ARRAY)),
    (0, b"MATLAB 5.0", FileType("a MATLAB file (.mat)", _MATLAB)),
    (0, b"SQLite format 3", FileType("an SQLite database", _EXPORT)),
    (0, b"\x1aE\xdf\xa3", FileType("a film (Matroska or WebM)", _ALONE, "film")),
    (8, b"AVI ", FileType("a film (AVI)", _ALONE, "film")),
    (8, b"WAVE", FileType("a sound (WAV)", "leave it out")),
    (0, b"\x00\x00\x01\xba", FileType("a film (MPEG)", _ALONE, "film")),
    (0, b"%PDF", FileType("a PDF document", _EXPORT)),
    (0, b"%!PS", FileType("a PostScript drawing",
        "convert it to PNG; it is never opened, since that would run a program")),
    (0, b"\x00\x00\x00\x0cJXL ", FileType("a JPEG XL picture", _CONVERT)),
    (0, b"\xff\x0a", FileType("a JPEG XL picture", _CONVERT)),
    (0, b"\x00\x00\x00\x0cjP  ", FileType("a JPEG 2000 picture", _CONVERT)),
    (0, b"\xffO\xffQ", FileType("a JPEG 2000 picture", _CONVERT)),
    (0, b"8BPS", FileType("a Photoshop picture (PSD)", _CONVERT)),
    (0, b"gimp xcf", FileType("a GIMP picture (XCF)", _CONVERT)),
    (0, b"\x00\x00\x01\x00", FileType("an icon (ICO)", _CONVERT)),
    (0, b"\x00\x00\x02\x00", FileType("a mouse pointer (CUR) or a TGA picture", _CONVERT)),
    (0, b"v/1\x01", FileType("an OpenEXR picture", _CONVERT)),
    (0, b"DDS ", FileType("a DDS texture", _CONVERT)),
    (0, b"\xabKTX", FileType("a KTX texture", _CONVERT)),
    (0, b"qoif", FileType("a QOI picture", _CONVERT)),
    (0, b"SIMPLE  =", FileType("a FITS picture", _CONVERT)),
    (0, b"#?RADIANCE", FileType("a Radiance HDR picture", _CONVERT)),
    (128, b"DICM", FileType("a DICOM picture", _CONVERT)),
    (0, b"P7\n", FileType("a PAM picture", _CONVERT)),
    (0, b"PF\n", FileType("a PFM picture in colour",
        "save it as PNG, or each channel as TIFF floats")),
    (0, b"\x0a\x05\x01", FileType("a PCX picture", _CONVERT)),
    (0, b"\x76\x65\x72\x73\x69\x6f\x6e https://git-lfs",
     FileType("a pointer of Git LFS, not the file itself", "type: git lfs pull")),
    (0, b"\x80\x02", FileType("a Python pickle (also old .pt files)", _PICKLE)),
    (0, b"\x80\x04", FileType("a Python pickle", _PICKLE)),
    (0, b"\x7fELF", FileType("a program", "leave it out")),
    (0, b"MZ", FileType("a program", "leave it out")),
)  # fmt: skip

_FOLDER = "pictures are read by image_folder_dataset(path)"
_IDX = "IDX files are read by idx_dataset(path)"
#: Files that aelab reads, by their first bytes.
_READ: tuple[tuple[int, bytes, FileType], ...] = (
    (0, b"\x89PNG", FileType("a PNG picture", _FOLDER)),
    (0, b"\xff\xd8\xff", FileType("a JPEG picture", _FOLDER)),
    (0, b"GIF8", FileType("a GIF picture", _FOLDER)),
    (8, b"WEBP", FileType("a WebP picture", _FOLDER)),
    (0, b"\x00\x00\x08\x01", FileType("an IDX file of labels", _IDX)),
    (0, b"\x00\x00\x08\x03", FileType("an IDX file of images", _IDX)),
)

_BRANDS = {
    b"avif": FileType("an AVIF picture", _CONVERT),
    b"avis": FileType("an AVIF picture", _CONVERT),
    **dict.fromkeys(
        (b"heic", b"heix", b"mif1", b"msf1", b"hevc"), FileType("a HEIC photograph", _CONVERT)
    ),
}
#: Formats that are read, but not every variant of them.
_KNOWN = (
    (b"II*\x00", "a TIFF file"),
    (b"MM\x00*", "a TIFF file"),
    (b"II+\x00", "a BigTIFF file"),
    (b"MM\x00+", "a BigTIFF file"),
)


def kind_of(path: Path) -> FileType | None:
    """As `file_type_of`, but also for pictures and IDX files, which aelab reads."""
    try:
        with open_file(path) as file:
            head = file.read(16)
    except (DataError, OSError):
        return None
    for start, mark, known in _READ:
        if head[start : start + len(mark)] == mark:
            return known
    return file_type_of(path)


def file_type_of(path: Path, content: IO[bytes] | None = None) -> FileType | None:
    """The type of a file by its first bytes; None if it is not known or cannot be read.

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
        return FileType(
            "empty (0 bytes)", "copy it again, or remove it; skip_corrupt=True leaves it out"
        )
    if head[:4] == b"PK\x03\x04":
        return _zip_type(head)
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], FileType("a film (MP4)", _ALONE, "film"))
    for start, mark, known in _MARKS:
        if head[start : start + len(mark)] == mark:
            return known
    for mark, name in _KNOWN:
        if head.startswith(mark):
            return FileType(
                f"{name} of a form that is not read (for instance floats in several channels)",
                "save it with 8 or 16 bits per channel",
            )
    return _text_type(head)


def _zip_type(head: bytes) -> FileType:
    name = head[30:120]
    if b".npy" in name:
        return FileType("a file of NumPy arrays (.npz)", _ARRAY)
    if b"data.pkl" in name or b"/.format_version" in name or b"byteorder" in name:
        return FileType("a file of torch.save (.pt)", _ARRAY)
    return FileType("a ZIP archive (also .docx, .ora, .jar)", _ALONE, "zip")


def _text_type(head: bytes) -> FileType | None:
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
        return FileType("an SVG drawing", _CONVERT)
    if start.startswith(("<!doctype html", "<html")):
        return FileType("a web page", "it was saved in place of the picture: download it again")
    return FileType(
        "a text", "remove it or give it its right ending; skip_corrupt=True leaves it out"
    )
