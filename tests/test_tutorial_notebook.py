"""The tutorial notebook runs from top to bottom, and its cells show tables and pictures."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"

#: Methods by which a notebook shows more than a text.
RICH = ("_repr_html_", "_repr_png_")


def _sources() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def _run(source: str, scope: dict[str, Any]) -> Any:
    """The value of a cell: that of its last line where it is an expression."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), scope)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), scope)


def test_the_notebook_is_small_and_has_no_outputs() -> None:
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    assert NOTEBOOK.stat().st_size < 30_000


def test_the_notebook_runs_and_shows_tables_and_pictures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AELAB_CACHE", str(tmp_path / "cache"))
    scope: dict[str, Any] = {"__name__": "notebook"}
    values = [_run(source, scope) for source in _sources()]
    shown = [value for value in values if any(hasattr(value, name) for name in RICH)]
    assert len(shown) >= 9
    for value in shown:
        assert any(getattr(value, name)() for name in RICH if hasattr(value, name)), value
    assert scope["here"].compare("digits/code-16_*", "digits/code-4_*").difference.mean < 0
    assert (tmp_path / "film.gif").is_file() and (tmp_path / "report.html").is_file()
    for value in values:  # pictures of Pillow keep their files open
        getattr(value, "close", lambda: None)()
