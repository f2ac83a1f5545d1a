"""Side-by-side texts of stored runs: read, fenced, escaped, bounded; without torch."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from aelab.errors import UserError
from aelab.report import texts
from aelab.report.page import render_page
from aelab.report.pictures import image_width
from aelab.runs.record import Run

Make = Callable[..., list[Run]]

NOW = datetime(2026, 1, 2, tzinfo=UTC)
EVIL = '</pre><script>alert("&x")</script><img src=x onerror=alert(1)>'


def _write(run: Run, name: str, blocks: list[str]) -> None:
    run.write_bytes(f"text/{name}.txt", ("\n\n".join(blocks) + "\n").encode())


def _block(number: int, inside: str = "(o_o)") -> str:
    return f"  {inside}   |   {inside}\n  row {number}   |   row {number}"


@pytest.fixture
def written(make_runs: Make) -> Run:
    (run,) = make_runs(record={"alphabet": " !", "cell": [10, 5]}, pictures=0)
    for split in ("heldout", "train"):
        for moment in (0, 1000, 64_000):
            blocks = [_block(moment + number, f"{split[:2]}{number}") for number in range(16)]
            _write(run, f"{split}-{moment:09d}", blocks)
    return run


def test_the_latest_moment_is_read_unless_another_is_asked_for(written: Run) -> None:
    assert list(texts.moments(written)) == [0, 1000, 64_000]
    latest = texts.examples(written, count=2)
    assert latest == (64_000, [_block(64_000, "he0"), _block(64_001, "he1")])
    earlier = texts.examples(written, "train", count=1, images=5000)
    assert earlier == (1000, [_block(1000, "tr0")])


def test_show_begins_with_what_it_shows(written: Run) -> None:
    text = texts.examples_text(written, count=1)
    assert text.startswith(f"{written.folder}: held-out images after 64,000 images, original ")
    assert text.endswith(_block(64_000, "he0"))


def test_markdown_fences_are_longer_than_those_in_the_art(make_runs: Make) -> None:
    (run,) = make_runs(pictures=0)
    _write(run, "heldout-000001000", ["````" + "   |   " + "`'"])
    below = texts.below_table([run], "markdown")
    lines = below.split("\n")
    assert lines[2:] == ["`````text", "````   |   `'", "`````", ""]


def test_art_that_is_html_is_shown_as_the_characters_it_is(make_runs: Make) -> None:
    (run,) = make_runs(pictures=0)
    _write(run, "heldout-000001000", [_block(1, EVIL)])
    below = texts.below_table([run], "html")
    page = render_page([run], now=NOW)
    for made in (below, page):
        assert EVIL not in made and "<img src=x" not in made
        assert "alert(1)" in made
    (pre,) = re.findall(r"<pre>(.*?)</pre>", below, re.DOTALL)
    assert html.unescape(pre) == _block(1, EVIL)
    (art,) = re.findall(r'<pre class="art"[^>]*>\n(.*?)</pre>', page, re.DOTALL)
    assert html.unescape(art) == _block(1, EVIL)


def test_control_characters_of_foreign_texts_steer_no_terminal(make_runs: Make) -> None:
    (run,) = make_runs(pictures=0)
    _write(run, "heldout-000001000", ["\x1b]0;owned\x07   |   \u202eabc"])
    for made in (
        texts.examples_text(run),
        texts.below_table([run], "terminal"),
        render_page([run], now=NOW),
    ):
        assert not set(made) & {"\x1b", "\x07", "\u202e"}
        assert "\\x1b" in made


def test_the_page_shows_a_few_held_out_and_training_texts(written: Run) -> None:
    page = render_page([written], now=NOW)
    assert 'id="texts"' in page and 'href="#texts"' in page
    assert page.count('<pre class="art"') == 8
    for name in ("he0", "he3", "tr0", "tr3"):
        assert f"\n  {name}   |   {name}\n" in page
    assert "he4" not in page and "tr4" not in page


def test_a_page_without_texts_has_no_such_section(make_runs: Make) -> None:
    page = render_page(make_runs(), now=NOW)
    assert 'id="texts"' not in page and 'class="art"' not in page


def test_a_page_of_many_runs_stays_bounded(
    make_runs: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs({"n": [1, 2, 3]}, pictures=0)
    for run in runs:
        _write(run, "heldout-000001000", ["x" * 100 + "   |   y"] * 16)
    monkeypatch.setattr(texts, "PAGE_CHARACTERS", 600)
    shown = texts.of_page(runs)
    assert [entry["run"] for entry in shown] == [0, 1]
    assert sum(len(b) for e in shown for part in e["parts"] for b in part["blocks"]) <= 600


def test_a_text_that_is_a_link_out_of_the_run_is_not_read(make_runs: Make) -> None:
    (run,) = make_runs(pictures=0)
    _write(run, "heldout-000001000", ["a   |   b"])
    outside = run.path.parent.parent / "secret.txt"
    outside.write_text("secret", encoding="utf-8")
    (run.path / "text" / "heldout-000002000.txt").symlink_to(outside)
    assert texts.examples(run) == (1000, ["a   |   b"])


def test_texts_stand_below_no_csv_and_without_any_the_way_out_is_told(make_runs: Make) -> None:
    (run,) = make_runs(pictures=0)
    with pytest.raises(UserError, match="cannot be in csv") as refused:
        texts.below_table([run], "csv")
    assert "markdown" in str(refused.value)
    with pytest.raises(UserError, match="none of these runs has texts"):
        texts.below_table([run], "markdown")
    with pytest.raises(UserError, match="outputs pictures"):
        texts.examples_text(run)
    with pytest.raises(UserError, match="no split 'valid'"):
        texts.examples_text(run, "valid")


def test_too_early_a_moment_tells_those_there_are(make_runs: Make) -> None:
    (run,) = make_runs(pictures=0, record={"alphabet": " !", "cell": [10, 5]})
    with pytest.raises(UserError, match="no stored texts of held-out images yet"):
        texts.examples_text(run)
    _write(run, "heldout-000001000", ["a   |   b"])
    with pytest.raises(UserError, match="at or before 10 images") as refused:
        texts.examples_text(run, images=10)
    assert "1,000" in str(refused.value)


def test_widths_of_stored_pictures_count_the_cells_of_characters(written: Run) -> None:
    assert image_width(written, (16 * 8 * 5, 80)) == 8 * 5


def test_reading_texts_loads_no_torch() -> None:
    code = "import sys, aelab.report.texts; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_blank_lines_around_an_example_are_cut_and_those_inside_kept() -> None:
    rows = ["     |     ", " |   |   | ", "     |     ", "  x  |     ", "     |     "]
    assert texts.without_blank_edges("\n".join(rows)) == "\n".join(rows[1:4])
    assert texts.without_blank_edges("     |     \n     |     ") == "     |     "
