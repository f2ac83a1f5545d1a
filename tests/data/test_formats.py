"""Every format and mode: the right value, or a refusal by name; never a silent black or white."""

from __future__ import annotations

import io
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

sys.path.insert(0, str(Path(__file__).parent))

from formats import chunk, png, tiff

from aelab.data import image_folder_dataset
from aelab.data.sources.decode import decode, decode_rgba, file_shape
from aelab.errors import DataError

Array = np.ndarray[Any, Any]
ORDERS = ("<", ">")


def ramp(bits: int, channels: int = 1) -> Array:
    """(5, 7, C) whole numbers from 0 to the largest of `bits`, another order in each channel."""
    line = np.linspace(0, 2**bits - 1, 35).round().astype(np.int64).reshape(5, 7, 1)
    return np.concatenate([line, line[::-1], line[:, ::-1], line[::-1, ::-1]][:channels], axis=2)


def eight(values: Array, bits: int) -> Array:
    """What each value is of 255: exact below 8 bits, the upper 8 bits above."""
    return values * 255 // (2**bits - 1) if bits <= 8 else values >> (bits - 8)


def read(content: bytes, tmp_path: Path, name: str = "a.png") -> Array:
    """(H, W, C) of a file's first picture, whose header says the same shape."""
    path = tmp_path / name
    path.write_bytes(content)
    (pixels,) = decode(path)
    assert tuple(pixels.shape) == file_shape(path)
    return pixels.permute(1, 2, 0).numpy()


def refused(content: bytes, tmp_path: Path, words: str, name: str = "a.tif") -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as raised:
        list(decode(tmp_path / name))
    assert name in str(raised.value)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("bits", "channels"), [(1, 1), (2, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)]
)
def test_png_without_alpha(bits: int, channels: int, tmp_path: Path) -> None:
    values = ramp(bits, channels)
    assert np.array_equal(read(png(values, bits), tmp_path), eight(values, bits))


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("channels", [2, 4])
def test_png_with_alpha(bits: int, channels: int, tmp_path: Path) -> None:
    values = ramp(bits, channels)
    byte = eight(values, bits)
    colour, alpha = byte[..., :-1], byte[..., -1:]
    assert np.array_equal(read(png(values, bits), tmp_path), (colour * alpha + 127) // 255)
    rgba = decode_rgba(tmp_path / "a.png").permute(1, 2, 0).numpy()
    assert np.array_equal(rgba[..., 3:], alpha)
    seen = np.where(alpha > 0, colour, 0)
    assert np.array_equal(rgba[..., :3], np.broadcast_to(seen, (5, 7, 3)))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_png_with_one_transparent_grey(bits: int, tmp_path: Path) -> None:
    values = ramp(bits)
    key = int(values[2, 3, 0]) or 1
    content = png(values, bits, chunk(b"tRNS", struct.pack(">H", key)))
    expected = np.where(values == key, 0, eight(values, bits))
    assert np.array_equal(read(content, tmp_path), expected)
    assert key and (expected != eight(values, bits)).any()


def test_png_with_one_transparent_colour(tmp_path: Path) -> None:
    values = ramp(8, 3)
    key = values[2, 3]
    content = png(values, 8, chunk(b"tRNS", struct.pack(">HHH", *key)))
    expected = np.where((values == key).all(2, keepdims=True), 0, values)
    assert np.array_equal(read(content, tmp_path), expected)
    deep = png(ramp(16, 3), 16, chunk(b"tRNS", struct.pack(">HHH", 9, 9, 9)))
    refused(deep, tmp_path, "16 bit colours is transparent", "a.png")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_png_with_a_palette_and_its_transparency(bits: int, tmp_path: Path) -> None:
    count = 2**bits
    numbers = (np.arange(35) % count).reshape(5, 7, 1)
    colours = np.random.default_rng(1).integers(0, 256, (count, 3))
    alphas = np.random.default_rng(2).integers(0, 256, (count,))
    table = chunk(b"PLTE", colours.astype(np.uint8).tobytes())
    assert np.array_equal(
        read(png(numbers, bits, table, palette=True), tmp_path), colours[numbers[..., 0]]
    )
    clear = chunk(b"tRNS", alphas.astype(np.uint8).tobytes())
    expected = (colours * alphas[:, None] + 127) // 255
    assert np.array_equal(
        read(png(numbers, bits, table, clear, palette=True), tmp_path), expected[numbers[..., 0]]
    )


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("bits", "channels"), [(1, 1), (4, 1), (8, 1), (16, 1), (8, 3), (16, 3)])
def test_tiff_in_both_byte_orders(order: str, bits: int, channels: int, tmp_path: Path) -> None:
    values = ramp(bits, channels)
    content = tiff(values, bits, order=order)
    assert np.array_equal(read(content, tmp_path, "a.tif"), eight(values, bits))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [1, 4, 8, 16])
def test_tiff_whose_zero_is_white(order: str, bits: int, tmp_path: Path) -> None:
    values = ramp(bits)
    content = tiff(values, bits, order=order, photometric=0)
    if (order, bits) == (">", 16):  # Pillow does not read these
        refused(content, tmp_path, "a TIFF file of a form")
        return
    assert np.array_equal(read(content, tmp_path, "a.tif"), 255 - eight(values, bits))


def test_tiff_of_12_bits(tmp_path: Path) -> None:
    values = np.linspace(0, 4095, 40).round().astype(np.int64).reshape(5, 8, 1)
    assert np.array_equal(read(tiff(values, 12), tmp_path, "a.tif"), values >> 4)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("bits", [8, 16])
def test_tiff_with_alpha(order: str, bits: int, tmp_path: Path) -> None:
    values = ramp(bits, 4)
    byte = eight(values, bits)
    expected = (byte[..., :3] * byte[..., 3:] + 127) // 255
    content = tiff(values, bits, order=order, extra_samples=(2,))
    assert np.array_equal(read(content, tmp_path, "a.tif"), expected)


def test_tiff_with_colours_multiplied_by_alpha_already(tmp_path: Path) -> None:
    alpha = ramp(8, 1)
    values = np.concatenate([alpha // 2, alpha // 3, alpha, alpha], axis=2)
    found = read(tiff(values, 8, extra_samples=(1,)), tmp_path, "a.tif").astype(int)
    assert np.abs(found - values[..., :3]).max() <= 1


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("photometric", [0, 1])
def test_floats_are_0_to_1(order: str, photometric: int, tmp_path: Path) -> None:
    values = np.linspace(0, 1, 35).reshape(5, 7, 1)
    content = tiff(values, 32, order=order, sample_format=3, photometric=photometric)
    found = read(content, tmp_path, "a.tif")
    expected = values * 255 if photometric else 255 - values * 255
    assert np.abs(found - expected).max() <= 0.5001


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.linspace(0, 255, 35), "go from 0 to 255"),
        (np.linspace(-1, 1, 35), "go from -1 to 1"),
        (np.array([0.5] * 34 + [np.nan]), "1 of its values are NaN"),
        (np.array([0.5] * 33 + [np.inf, -np.inf]), "2 of its values are NaN or infinite"),
    ],
)
def test_floats_without_a_white_are_refused(
    order: str, values: Array, words: str, tmp_path: Path
) -> None:
    content = tiff(values.reshape(5, 7, 1), 32, order=order, sample_format=3)
    refused(content, tmp_path, words)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("largest", [255, 65_535, 2**31 - 1, 2**32 - 1])
def test_whole_numbers_of_32_bits_are_refused_with_their_range(
    order: str, largest: int, tmp_path: Path
) -> None:
    values = np.linspace(0, largest, 35).round().astype(np.int64).reshape(5, 7, 1)
    # Pillow does not read those of the other byte order.
    words = f"32 bits .* from 0 to {largest:,}" if order == "<" else "a TIFF file of a form"
    refused(tiff(values, 32, order=order), tmp_path, words)


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_whole_numbers_with_a_sign_are_refused(bits: int, tmp_path: Path) -> None:
    values = np.linspace(-100, 100, 35).round().astype(np.int64).reshape(5, 7, 1)
    refused(tiff(values, bits, sample_format=2), tmp_path, "with a sign")


def test_lab_and_forms_that_pillow_lacks_are_refused(tmp_path: Path) -> None:
    refused(tiff(ramp(8, 3), 8, photometric=8), tmp_path, "its colours are LAB")
    refused(tiff(ramp(8, 3) / 255.0, 32, sample_format=3), tmp_path, "a TIFF file of a form")
    refused(tiff(ramp(8) / 255.0, 16, sample_format=3), tmp_path, "a TIFF file of a form")


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_printers_colours_are_read_as_pillow_converts_them(kind: str, tmp_path: Path) -> None:
    values = np.stack(np.broadcast_arrays(*np.ix_([0, 255], [0, 255], [0, 255])), -1)
    values = np.repeat(np.repeat(values.reshape(2, 4, 3), 16, 0), 16, 1).astype(np.uint8)
    values = np.concatenate([values, np.zeros_like(values[..., :1])], axis=2)
    found = read(saved(Image.fromarray(values, "CMYK"), kind), tmp_path, "a.jpg").astype(int)
    assert np.abs(found - (255 - values[..., :3].astype(int))).max() <= (4 if kind == "JPEG" else 0)


def test_ycbcr_is_read(tmp_path: Path) -> None:
    image = Image.fromarray(ramp(8, 3).astype(np.uint8)).convert("YCbCr")
    found = read(saved(image, "TIFF"), tmp_path, "a.tif").astype(int)
    assert np.abs(found - ramp(8, 3)).max() <= 3


BITS_16 = ["I;16", "I;16B", "I"]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF"), ("I;16", "PPM"), ("I;16B", "PNG")],
)
def test_what_pillow_writes_of_16_bits(mode: str, kind: str, tmp_path: Path) -> None:
    values = ramp(16)[..., 0]
    image = Image.frombytes(mode, (7, 5), values.astype(">u2" if "B" in mode else "<u2").tobytes())
    assert np.array_equal(read(saved(image, kind), tmp_path)[..., 0], values >> 8)


@pytest.mark.parametrize("kind", ["P1", "P2", "P3", "P4", "P5", "P6"])
@pytest.mark.parametrize("white", [1, 15, 100, 255, 1023, 65_535])
def test_netpbm_of_any_white(kind: str, white: int, tmp_path: Path) -> None:
    colours = 3 if kind in ("P3", "P6") else 1
    if kind in ("P1", "P4"):
        white = 1
    values = (np.arange(35 * colours) * white // (35 * colours - 1)).reshape(5, 7, colours)
    bits = kind in ("P1", "P4")
    head = f"{kind}\n7 5\n" + ("" if bits else f"{white}\n")
    if kind in ("P1", "P2", "P3"):
        body = " ".join(map(str, values.reshape(-1))).encode()
    elif kind == "P4":
        body = np.packbits(values[..., 0].astype(np.uint8), axis=1).tobytes()
    else:
        body = values.astype(">u2" if white > 255 else np.uint8).tobytes()
    found = read(head.encode() + body, tmp_path, "a.ppm").astype(int)
    expected = values * 255 / white
    expected = 255 - expected if bits else expected
    assert np.abs(found - expected).max() < 1


def test_pfm_of_floats(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 35, dtype="<f4").reshape(5, 7)
    found = read(b"Pf\n7 5\n-1.0\n" + values[::-1].tobytes(), tmp_path, "a.ppm")
    assert np.array_equal(found[..., 0], (values * 255 + 0.5).astype(np.uint8))
    refused(b"Pf\n7 5\n-1.0\n" + (values * 9).tobytes(), tmp_path, "from 0 to 9", "a.ppm")


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_bmp_in_its_modes(mode: str, tmp_path: Path) -> None:
    image = Image.fromarray(ramp(8, 3).astype(np.uint8)).convert(mode)
    grey = mode in ("1", "L")
    expected = np.asarray(image.convert("L" if grey else "RGB")).reshape(5, 7, -1)
    found = read(saved(image, "BMP"), tmp_path, "a.bmp")
    # A BMP file of 8 bits may be read as a palette: grey in three channels.
    assert np.array_equal(np.broadcast_to(found, (5, 7, 3)), np.broadcast_to(expected, (5, 7, 3)))


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_are_turned_upright_in_any_format(
    kind: str, orientation: int, tmp_path: Path
) -> None:
    blocks = np.repeat(np.repeat([[0, 80, 160], [200, 120, 255]], 16, 0), 16, 1)
    image = Image.fromarray(blocks.astype(np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    if kind == "JPEG":
        options = {"quality": 95}
    found = read(saved(image, kind, exif=exif, **options), tmp_path).astype(int)[..., 0]
    turned = {
        1: blocks, 2: blocks[:, ::-1], 3: blocks[::-1, ::-1], 4: blocks[::-1], 5: blocks.T,
        6: np.rot90(blocks, -1), 7: blocks[::-1, ::-1].T, 8: np.rot90(blocks),
    }[orientation]  # fmt: skip
    assert found.shape == turned.shape and np.abs(found - turned).max() <= 8


def test_damaged_exif_data_do_not_make_a_picture_unreadable(tmp_path: Path) -> None:
    image = Image.fromarray(ramp(8).astype(np.uint8)[..., 0])
    content = saved(image, "PNG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40)
    assert np.array_equal(read(content, tmp_path), ramp(8))


def _frames(kind: str) -> bytes:
    frames = [Image.new("RGB", (6, 4), colour) for colour in ("red", "lime", "blue")]
    options: dict[str, Any] = {"lossless": True} if kind == "WEBP" else {}
    return saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_of_animations_and_pages_the_first_is_read_and_a_note_says_so(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "film.png").write_bytes(_frames(kind))
    Image.new("RGB", (6, 4)).save(tmp_path / "one" / "still.png")
    images = image_folder_dataset(str(tmp_path / "one")).load()
    assert images.pixels[0, :, 0, 0].tolist() == [255, 0, 0] and len(images) == 2
    assert "the first frame of 1 animated files (film.png)" in images.provenance[0].note
    every = image_folder_dataset(str(tmp_path / "one"), frames="all").load()
    colours = every.pixels[:, :, 0, 0].tolist()
    assert colours == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [0, 0, 0]]
    assert not every.provenance[0].note


def test_no_mode_of_pillow_is_silently_black(tmp_path: Path) -> None:
    """Whatever Pillow writes of a bright picture is read bright, or refused by name."""
    tried = 0
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        for mode in ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK",
                     "YCbCr", "LAB", "HSV", "I", "F", "I;16", "I;16B", "I;16L"):  # fmt: skip
            bright = Image.new("RGB", (8, 8), (250, 250, 250))
            try:
                image = bright.convert(mode)
                if mode.startswith("I;16"):
                    image = Image.frombytes(mode, (8, 8), b"\xfa\xfa" * 64)
                content = saved(image, kind)
            except (ValueError, OSError, KeyError):
                continue  # Pillow cannot make or write that
            tried += 1
            path = tmp_path / f"{kind}-{mode.replace(';', '')}.png"
            path.write_bytes(content)
            try:
                (pixels,) = decode(path)
            except DataError as error:
                assert path.name in str(error) and mode in ("F", "I", "LAB", "I;16L")
                continue
            # Pillow writes a mode I of 250 as 250 of 65,535: that is nearly black. P is dithered.
            assert mode == "I" or float(pixels.float().mean()) >= 240, (kind, mode)
    assert tried > 40


OTHERS: dict[str, tuple[Callable[[], bytes], str]] = {
    "npy": (lambda: _numpy(False), "NumPy array"),
    "npz": (lambda: _numpy(True), r"\.npz"),
    "zip": (lambda: b"PK\x03\x04" + b"\0" * 26 + b"readme.txt", "ZIP archive"),
    "tar": (lambda: b"a.png" + b"\0" * 252 + b"ustar\0" + b"\0" * 250, "tar archive"),
    "gz": (lambda: b"\x1f\x8b\x08\0\0\0", "packed with gzip"),
    "mp4": (lambda: b"\0\0\0\x20ftypisom" + b"\0" * 20, "a film"),
    "webm": (lambda: b"\x1aE\xdf\xa3" + b"\0" * 20, "a film"),
    "heic": (lambda: b"\0\0\0\x20ftypheic" + b"\0" * 20, "HEIC"),
    "avif": (lambda: b"\0\0\0\x20ftypavif" + b"\0" * 20, "AVIF"),
    "parquet": (lambda: b"PAR1" + b"\0" * 20, "Parquet"),
    "mat": (lambda: b"MATLAB 5.0 MAT-file, Platform" + b"\0" * 100, "MATLAB"),
    "h5": (lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 20, "HDF5"),
    "pt": (lambda: _torch(), "torch.save"),
    "svg": (lambda: b"<?xml version='1.0'?>\n<svg></svg>", "SVG"),
    "html": (lambda: b"<!DOCTYPE html><html>", "web page"),
    "txt": (lambda: "größer\n".encode(), "it is a text"),
    "empty": (lambda: b"", "empty"),
    "pdf": (lambda: b"%PDF-1.7", "PDF"),
    "pam": (lambda: b"P7\nWIDTH 1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n\0\0\0", "PAM"),
    "pfm": (lambda: b"PF\n1 1\n-1.0\n" + b"\0" * 12, "PFM picture in colour"),
    "lfs": (lambda: b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
}


def _numpy(packed: bool) -> bytes:
    file = io.BytesIO()
    (np.savez if packed else np.save)(file, np.zeros(3))
    return file.getvalue()


def _torch() -> bytes:
    file = io.BytesIO()
    torch.save(torch.zeros(3), file)
    return file.getvalue()


@pytest.mark.parametrize("name", OTHERS)
def test_files_of_another_kind_are_called_what_they_are(name: str, tmp_path: Path) -> None:
    make, words = OTHERS[name]
    refused(make(), tmp_path, words, f"a.{name}.png")


def test_unknown_bytes_are_no_image(tmp_path: Path) -> None:
    refused(bytes(range(128, 256)) * 24, tmp_path, "not a readable image", "a.bin.png")


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_deflate", "packbits"])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "F", "CMYK", "1"])
def test_compressed_tiff_is_read_as_the_plain_one(
    mode: str, compression: str, tmp_path: Path
) -> None:
    values = ramp(8, 4).astype(np.uint8)
    if mode == "I;16":
        image = Image.frombytes(mode, (7, 5), ramp(16).astype("<u2").tobytes())
    elif mode == "F":
        image = Image.fromarray((ramp(8)[..., 0] / 255).astype(np.float32))
    else:
        image = Image.fromarray(values).convert(mode)
    plain = read(saved(image, "TIFF"), tmp_path, "a.tif")
    packed = read(saved(image, "TIFF", compression=compression), tmp_path, "b.tif")
    assert np.array_equal(plain, packed) and plain.max() > 150


def test_photographs_with_a_preview_are_turned_and_are_no_animations(tmp_path: Path) -> None:
    blocks = np.repeat(np.repeat([[0, 80, 160], [200, 120, 255]], 16, 0), 16, 1)
    photograph = Image.fromarray(blocks.astype(np.uint8)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    content = saved(photograph, "MPO", save_all=True, append_images=[photograph], exif=exif)
    found = read(content, tmp_path, "a.jpg").astype(int)[..., 0]
    assert np.abs(found - np.rot90(blocks, -1)).max() <= 12
    assert not image_folder_dataset(str(tmp_path)).load().provenance[0].note


def test_frames_that_follow_are_not_needed_for_the_first(tmp_path: Path) -> None:
    content = _frames("GIF")
    with Image.open(io.BytesIO(content)) as film:
        assert len(list(ImageSequence.Iterator(film))) == 3
    cut = content[: content.rindex(b"\x21\xf9") + 12]
    assert read(cut, tmp_path)[0, 0].tolist() == [255, 0, 0]
