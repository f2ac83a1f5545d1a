"""Pictures of run directories that somebody else made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from aelab.errors import DataError
from aelab.report.page import page
from aelab.report.pictures import open_row, originals, steps
from aelab.runs.record import Run

Make = Callable[..., list[Run]]


def test_a_page_shows_no_picture_from_outside_of_the_run(make_runs: Make, tmp_path: Path) -> None:
    (run,) = make_runs()
    Image.new("L", (8, 8), 77).save(tmp_path / "private.png")
    for path in (run.path / "images").iterdir():
        path.unlink()
        path.symlink_to(tmp_path / "private.png")
    assert originals(run, "train") is None
    assert steps(run, "train") == {}
    page([run], tmp_path / "report.html")


def test_a_stored_row_is_a_png_of_bearable_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EOF\n")
    Image.new("L", (100, 100)).save(tmp_path / "b.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    for name in ("a.png", "b.png"):
        with pytest.raises(DataError, match="no readable picture"):
            open_row(tmp_path / name)
