"""What others wrote stays text: in a spreadsheet, Markdown, a page and a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from aelab.errors import UserError
from aelab.report.harmless import csv_cell, markdown_text
from aelab.report.page import render_page
from aelab.report.query import TableQuery
from aelab.report.tables import table
from aelab.runs.record import Run

Make = Callable[..., list[Run]]

TURNED = "\u202e\u2066\u2069\u200f\u061c"


@pytest.mark.parametrize(
    "text",
    [
        *("=1+1", "+1+1", "-1+cmd|' /C calc'!A0", "@SUM(A1)", "\tx", "\rx", "\t=1", " =1"),
        *("\uff1d1+1", "\uff20a", "--1", "+1_0"),
    ],
)
def test_a_text_is_no_formula(text: str) -> None:
    assert csv_cell(text).startswith("'")


@pytest.mark.parametrize("value", [-3, -0.5, 1e-5, None, "-1e-3", "+5", "-inf", "a=b", "1-2"])
def test_numbers_and_other_texts_stay_what_they_are(value: Any) -> None:
    assert csv_cell(value) == value


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("<script>x</script>", "&lt;script>x&lt;/script>"),
        ("<img onerror=a src=b>", "&lt;img onerror=a src=b>"),
        ("![x](http://a)", r"![x]\(http://a)"),
        ("[x][y]", r"[x]\[y]"),
        ("[x]: http://a", r"[x]\: http://a"),
        ("a`b`", r"a\`b\`"),
        ("a|b", r"a\|b"),
        (r"a\|b", r"a\\\|b"),
        (r"a\<b", r"a\\&lt;b"),
        ("&lt;b", "&amp;lt;b"),
        ("# a", r"\# a"),
        ("> a", r"\> a"),
        (r"C:\data a_b * 2", r"C:\data a_b * 2"),
    ],
)
def test_markdown_shows_a_text_as_it_is(text: str, written: str) -> None:
    assert markdown_text(text) == written


@pytest.mark.parametrize("format", ["markdown", "terminal", "csv", "html"])
def test_marks_that_turn_text_around_are_written_out(make_runs: Make, format: str) -> None:
    text = table(make_runs({"ds": [f"a{TURNED}b"]}, images=10_000), TableQuery(format=format))
    assert not set(TURNED) & set(text)
    assert "u202e" in text


def test_html_stays_text_in_every_table(make_runs: Make) -> None:
    evil = "<img src=x onerror=alert(1)>"
    runs = make_runs({evil: [evil]}, images=10_000, record={"notes": [evil], "objective": evil})
    for format in ("markdown", "html"):
        assert "<img" not in table(runs, TableQuery(format=format))


def test_a_key_or_a_value_is_no_formula(make_runs: Make) -> None:
    text = table(make_runs({"=key": ["@x"]}, images=10_000), TableQuery(format="csv"))
    (row,) = csv.DictReader(io.StringIO(text))
    assert row["'=key"] == "'@x"


def test_the_configuration_on_the_page_has_no_marks_that_turn_text(make_runs: Make) -> None:
    (run,) = make_runs({}, images=10_000)
    (run.path / "resolved.yml").write_text(f"a: 1 # {TURNED}\n", encoding="utf-8")
    html = render_page([run], now=datetime(2026, 1, 1, tzinfo=UTC))
    assert not set(TURNED) & set(html)
    assert "a: 1 # " in html


def test_a_message_cuts_numbers_that_nobody_reads() -> None:
    assert (
        str(UserError(f"max_inputs is 1{'0' * 399}")) == "max_inputs is 100000...000 (400 digits)"
    )
    assert str(UserError("9" * 64)) == "9" * 64
