"""One place opens what others made: no pipe is waited for, no other program is started."""

from __future__ import annotations

import ast
import os
import socket
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from aelab.errors import AelabError, DataError
from aelab.files import NoPicture, open_file, open_picture, read_file

SOURCE = Path(__file__).parents[1] / "src" / "aelab"
#: Who may open a picture.
HOME = SOURCE / "files.py"


def _calls_image_open(path: Path) -> list[int]:
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr == "open":
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name in ("Image", "ImageFile", "PIL"):
                found.append(node.lineno)
    return found


def test_only_one_module_opens_pictures_and_it_lists_the_formats() -> None:
    found = {path for path in SOURCE.rglob("*.py") if _calls_image_open(path)}
    assert found == {HOME}
    assert HOME.read_text(encoding="utf-8").count("Image.open(file, formats=") == 1


@pytest.fixture(params=["pipe", "socket", "folder", "device"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A path that is there and is no regular file."""
    path = tmp_path / "odd.png"
    if request.param == "pipe":
        os.mkfifo(path)
    elif request.param == "folder":
        path.mkdir()
    elif request.param == "device":
        path.symlink_to("/dev/zero")
    else:
        os.chdir(tmp_path)  # the path of a socket must be short
        server = socket.socket(socket.AF_UNIX)
        server.bind("odd.png")
        request.addfinalizer(server.close)
    return path


def _readers() -> dict[str, Callable[[Path], object]]:
    from aelab.ascii.data.ascii_art import read_text
    from aelab.ascii.glyphs.font import find_font
    from aelab.ascii.writing import Matching, grid_of
    from aelab.data.overview import named
    from aelab.data.sources.decode import decode, decode_rgba, file_shape
    from aelab.data.sources.idx import idx_sizes, load_idx
    from aelab.data.sources.tiles import load_tensor
    from aelab.pretrained.weights import Weights, read_weights
    from aelab.report.pictures import open_row

    return {
        "read_file": read_file,
        "picture": lambda path: list(decode(path)),
        "sheet": decode_rgba,
        "shape": file_shape,
        "idx": load_idx,
        "idx sizes": idx_sizes,
        "text": read_text,
        "tensor": load_tensor,
        "font": lambda path: find_font(str(path)),
        "weights": lambda path: read_weights(Weights(path)),
        "row of a run": open_row,
        "ascii": lambda path: grid_of(path, (4, 4), Matching()),
        "name": lambda path: named(str(path)).load(),
    }


@pytest.mark.parametrize("reader", _readers())
def test_what_is_no_file_is_told_and_never_waited_for(reader: str, odd: Path) -> None:
    with pytest.raises(AelabError):
        _readers()[reader](odd)


def test_the_message_says_what_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a")
    with pytest.raises(DataError, match=r"a is a pipe \(FIFO\), not a file"):
        open_file(tmp_path / "a")
    with pytest.raises(DataError, match="there is no file"):
        open_file(tmp_path / "none")
    with pytest.raises(DataError, match="cannot read"):
        open_file(tmp_path / "a\0b")


def test_postscript_is_not_opened_whatever_its_name(tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "a.png").write_bytes(eps)
    with pytest.raises(NoPicture), open_picture(tmp_path / "a.png"):
        pass


def test_a_large_picture_warns_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("1", (100, 100)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 6000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_picture(tmp_path / "a.png") as image:
            assert image.size == (100, 100)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(DataError, match="decompression bomb"), open_picture(tmp_path / "a.png"):
        pass


def test_whatever_goes_wrong_inside_is_one_message(tmp_path: Path) -> None:
    Image.new("1", (4, 4)).save(tmp_path / "a.png")
    for error in (ZeroDivisionError(), KeyError("x"), MemoryError(), OSError(5, "broken")):
        with pytest.raises(DataError, match=r"cannot read the image .*a\.png: .+"):
            with open_picture(tmp_path / "a.png"):
                raise error
