"""Nothing that aelab writes for a user replaces a file that it did not make."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from aelab import lab
from aelab.errors import UserError
from aelab.outputs import made_by_aelab, refuse_to_replace, replacing, write_output


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What has no seal is remembered in a cache of the test's own."""
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def picture(ending: str, colour: int = 7) -> bytes:
    """A small picture of that kind; of other kinds some text."""
    kind = {".png": "PNG", ".gif": "GIF", ".webp": "WEBP"}.get(ending)
    if kind is None:
        return f"<p>{colour}</p>\n".encode()
    buffer = io.BytesIO()
    Image.new("L", (9, 5), colour).save(buffer, kind)
    return buffer.getvalue()


ENDINGS = (".png", ".gif", ".webp", ".svg", ".html", ".csv", ".md", ".json", ".txt", ".mp4")


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_aelab_made_is_replaced_by_what_it_makes_next(ending: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / f"a{ending}"
    for colour in (7, 9, 9):
        assert write_output(path, picture(ending, colour)) == path
        assert made_by_aelab(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_of_somebody_else_is_kept(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    path.write_bytes(picture(ending))
    with pytest.raises(UserError, match=r"aelab did not make it[\s\S]*--force"):
        write_output(path, picture(ending, 9))
    assert path.read_bytes() == picture(ending)
    with replacing(False), pytest.raises(UserError):
        write_output(path, picture(ending, 9))
    with replacing():
        write_output(path, picture(ending, 9))
    assert made_by_aelab(path)


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_aelab_made_and_somebody_changed_is_kept(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    write_output(path, picture(ending))
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 3] ^= 1
    path.write_bytes(changed)
    with pytest.raises(UserError, match="changed since"):
        write_output(path, picture(ending, 9))
    assert path.read_bytes() == changed


@pytest.mark.parametrize("ending", [".png", ".gif"])
def test_a_sealed_picture_is_the_same_picture(ending: str, tmp_path: Path) -> None:
    path = write_output(tmp_path / f"a{ending}", picture(ending, 200))
    with Image.open(path) as image:
        assert image.size == (9, 5) and image.convert("L").getextrema() == (200, 200)


def test_a_sealed_file_is_known_where_it_was_moved_and_without_a_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_output(tmp_path / "a.png", picture(".png"))
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "another"))
    write_output(tmp_path / "b.png", picture(".png", 9))


def test_what_is_read_is_never_replaced_even_if_forced(tmp_path: Path) -> None:
    path = write_output(tmp_path / "a.png", picture(".png"))
    (tmp_path / "link.png").symlink_to(path)
    (tmp_path / "hard.png").hardlink_to(path)
    for name in ("a.png", "link.png", "hard.png", "../" + tmp_path.name + "/a.png"):
        with replacing(), pytest.raises(UserError, match="is an input of this command"):
            write_output(tmp_path / name, b"", inputs=[path])
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_link_is_written_through_only_onto_what_aelab_made(tmp_path: Path) -> None:
    (tmp_path / "theirs.png").write_bytes(picture(".png"))
    (tmp_path / "link.png").symlink_to("theirs.png")
    with pytest.raises(UserError, match="did not make"):
        write_output(tmp_path / "link.png", picture(".png", 9))
    (tmp_path / "new.png").symlink_to("made.png")
    write_output(tmp_path / "new.png", picture(".png", 9))
    assert (tmp_path / "made.png").is_file() and (tmp_path / "new.png").is_symlink()


def test_a_pipe_is_written_to_as_it_is(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.csv")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe.csv").read_bytes()))
    reader.start()
    write_output(tmp_path / "pipe.csv", "a,b\n")
    reader.join(5)
    assert got == [b"a,b\n"]


def test_a_folder_in_the_way_and_one_that_cannot_be_are_one_message(tmp_path: Path) -> None:
    (tmp_path / "a.png").mkdir()
    with pytest.raises(UserError, match="a folder is in the way"):
        write_output(tmp_path / "a.png", b"x")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*--out|cannot write"):
        write_output(tmp_path / "file" / "a.png", b"x")


def test_refusing_comes_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("mine")
    with pytest.raises(UserError, match="did not make"):
        refuse_to_replace(tmp_path / "a.html")
    refuse_to_replace(tmp_path / "b.html")


def test_a_sheet_is_never_replaced_by_its_own_contact_sheet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.effect_noise((64, 64), 80).save("sheet.png")
    before = Path("sheet.png").read_bytes()
    for _ in range(2):
        assert lab.data("sheet.png")["picture"] == "sheet-contact-sheet.png"
    for out in ("sheet.png", "./sheet.png", str(tmp_path / "sheet.png")):
        with pytest.raises(UserError, match="is an input of this command"):
            lab.data("sheet.png", out=out, force=True)
    assert Path("sheet.png").read_bytes() == before


def test_a_picture_beside_a_folder_of_the_same_name_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("item").mkdir()
    Image.effect_noise((8, 8), 80).save("item/1.png")
    Image.effect_noise((8, 8), 80).save("item.png")
    Image.effect_noise((8, 8), 80).save("item-contact-sheet.png")
    with pytest.raises(UserError, match="did not make"):
        lab.data("item")
    lab.data("item", out="item-contact-sheet.png", force=True)
    lab.data("item", resize=4)
    assert Path("item-filters.png").is_file()


def test_a_picture_of_the_folder_that_is_read_is_never_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("pics").mkdir()
    Image.effect_noise((8, 8), 80).save("pics/1.png")
    before = Path("pics/1.png").read_bytes()
    with pytest.raises(UserError, match="is an input of this command"):
        lab.data("pics", out="pics/1.png", force=True)
    assert Path("pics/1.png").read_bytes() == before
    for _ in range(2):
        lab.data("pics", out="pics/sheet.png")


WRITERS: dict[str, Callable[[Path], object]] = {
    "report.html": lambda out: lab.report(out=out),
    "plot.png": lambda out: lab.plot(out=out),
    "plot.svg": lambda out: lab.plot(out=out),
}


@pytest.mark.parametrize("name", WRITERS)
def test_verbs_refuse_before_they_look_for_runs(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="did not make"):
        WRITERS[name](tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"
