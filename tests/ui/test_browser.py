"""The page in a real browser: clicks, keys, brushes, live changes, and use by everybody.

What the server answers is tested without a browser in the other files of this folder.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from aelab.lab import Lab
from aelab.runs.notes import read_notes
from aelab.runs.store import Store
from aelab.ui import server
from aelab.ui.training import Trainings
from tests.browser import CHROMIUM, MISSING, Browser, serious_faults
from tests.ui.test_training import LONG

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)

Serve = Callable[[Any], str]
READY = "document.documentElement.dataset.ready"
DRAWN = f"{READY} && document.querySelectorAll('#charts canvas').length === 2"
PICKED = "new URLSearchParams(location.hash.slice(1)).getAll('picked')"
FILTER = "new URLSearchParams(location.hash.slice(1)).get('filter') ?? ''"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as browser:
        yield browser


@pytest.fixture
def page(browser: Browser, own: Lab, served: Serve) -> Iterator[Browser]:
    """The page over a copy of two runs, drawn."""
    browser.errors.clear()
    browser.resize(1400, 900)
    browser.open(served(server.make_app(own)), DRAWN)
    yield browser
    errors = list(browser.errors)
    browser.open("about:blank")  # before the server ends
    assert errors == []


def row(number: int) -> str:
    return f'#scroller tr[aria-rowindex="{number + 1}"]'


def test_runs_are_selected_by_click_and_curves_and_pictures_follow(page: Browser) -> None:
    assert page.run("document.querySelectorAll('#scroller tr.run').length") == 2
    page.wait("document.querySelectorAll('#pictures img').length === 3")
    chosen = page.run(f"document.querySelector('{row(1)}').dataset.run")
    page.click(f"{row(1)} td:nth-child(2)")
    page.wait("document.querySelectorAll('#legend li').length === 1")
    assert page.run(PICKED) == [chosen]
    page.wait("document.querySelectorAll('#pictures img').length === 2")
    page.click(f"{row(2)} td:nth-child(2)")
    page.wait("document.querySelectorAll('#legend li').length === 2")
    assert page.run("document.querySelector('#count').textContent") == "2 of 2 runs, 2 selected"
    page.click("#clear")
    page.wait(f"{PICKED}.length === 0")


def test_lines_have_the_colours_of_the_curves_and_the_result_stands_beside_the_axes(
    page: Browser,
) -> None:
    page.wait("document.querySelectorAll('#parallel .in').length === 2")
    colours = "[...document.querySelectorAll('{}')].map(each => getComputedStyle(each).{})"
    lines = page.run(colours.format("#parallel .in", "stroke"))
    points = page.run(colours.format("#scatter .point", "fill"))
    assert len(set(lines)) == 2 and sorted(lines) == sorted(points)
    head = page.run("[...document.querySelectorAll('thead [data-sort]')].map(e => e.dataset.sort)")
    assert head[:5] == ["run", "code", "state", "best", "loss"]
    assert "too few" not in page.run("document.querySelector('#legend').textContent")


def test_runs_that_differ_by_name_only_are_labelled_by_it(browser: Browser, served: Serve,
                                                          tmp_path: Path) -> None:  # fmt: skip
    store = Store(tmp_path / "trials")
    for folder, matrix in {
        "x/lr-1_ds-a_trial-1": {"lr": 1, "ds": "a"},
        "x/lr-1_ds-a_trial-2": {"lr": 1, "ds": "a"},
        "x/lr-2_ds-a": {"lr": 2, "ds": "a"},
        "y/trial-1": {},
        "y/trial-2": {},
    }.items():
        entry = {"folder": folder, "name": folder, "identity": folder, "matrix": matrix}
        run = store.create(entry)
        for split in ("train", "validation"):
            run.append(*({"split": split, "images": n, "loss": 1 / n} for n in (10, 20, 30)))

    def labels(only: str) -> list[str]:
        lab = Lab(tmp_path / "trials")
        browser.open(served(server.make_app(lab, only=only)), DRAWN)
        browser.wait("document.querySelectorAll('#legend .what').length > 1")
        return sorted(
            browser.run("[...document.querySelectorAll('#legend .what')].map(e => e.textContent)")
        )

    assert labels("x/*") == ["1, trial-1", "1, trial-2", "2"]
    assert labels("y/*") == ["trial-1", "trial-2"]
    browser.open("about:blank")


def test_the_table_is_used_by_keys_alone(page: Browser) -> None:
    page.run("document.querySelector('#scroller tbody tr[tabindex=\"0\"]').focus()")
    page.key("ArrowDown", 40)
    page.key(" ", 32, " ")
    page.wait(f"{PICKED}.length === 1")
    second = page.run(f"document.querySelector('{row(2)}').dataset.run")
    assert page.run(PICKED) == [second]
    page.key("ArrowUp", 38, shift=True)
    page.wait(f"{PICKED}.length === 2")
    page.key("Escape", 27)
    page.wait(f"{PICKED}.length === 0")
    page.key("Enter", 13, "\r")
    page.wait("document.querySelector('#about').open")
    page.key("Escape", 27)
    page.wait("!document.querySelector('#about').open")
    assert page.run("document.activeElement.closest('tr')?.dataset.run") != second


def test_notes_are_written_in_the_panel_of_a_run(page: Browser, own: Lab) -> None:
    folder = page.run(f"document.querySelector('{row(1)}').dataset.run")
    page.click(f"{row(1)} .open")
    page.wait("document.querySelector('#note-text')")
    assert "Configuration" in page.run("document.querySelector('#about-body').textContent")
    page.click("#note-text")
    page.type("sharp edges")
    page.click("#note-tags")
    page.type("good paper")
    page.click('#notes button[type="submit"]')
    page.wait("document.querySelector('#notes .hint').textContent.includes('saved')")
    kept = read_notes(own.find(folder)[0])
    assert kept.text == "sharp edges" and kept.tags == ("good", "paper")
    page.click("#about-close")
    page.wait("document.querySelectorAll('#scroller .tag').length === 2")


def test_a_link_restores_the_view(page: Browser, own: Lab, served: Serve) -> None:
    page.click('[data-sort="code"]')
    page.click('[data-sort="code"]')
    page.wait("document.querySelector('[aria-sort=\"descending\"]')")
    page.click("#filter")
    page.type("code>=2 -x")
    page.wait(f"{FILTER} === 'code>=2 -x'")
    page.click(f"{row(1)} td:nth-child(2)")
    page.wait(f"{PICKED}.length === 1")
    page.run("""(() => { for (const [id, value] of [["group", "code"], ["colour", "state"],
        ["arrange", "time"], ["kind", "differences"]]) {
        const select = document.querySelector(`#${id}`); select.value = value;
        select.dispatchEvent(new Event("input")); } })()""")
    page.wait("location.hash.includes('kind=differences')")
    before = page.run("location.hash")
    page.open(served(server.make_app(own)) + before, DRAWN)
    assert page.run("location.hash") == before
    assert page.run("document.querySelector('#filter').value") == "code>=2 -x"
    assert page.run("document.querySelector('#group').value") == "code"
    assert page.run("document.querySelectorAll('tr[aria-selected=\"true\"]').length") == 1
    assert page.run("document.querySelectorAll('tr.group-row').length") == 2
    page.wait("document.querySelector('#pictures img')?.src.includes('/api/film')")


def test_a_drag_on_an_axis_filters_and_one_over_points_selects(page: Browser) -> None:
    page.run("document.querySelector('#relations').scrollIntoView()")
    page.wait("document.querySelectorAll('#parallel path.in').length === 2")
    page.drag('[data-axis="code"]', (0.5, 0.02), (0.5, 0.3))
    page.wait(f"{FILTER} === 'code=4'")
    page.wait("document.querySelectorAll('#parallel path.out').length === 1")
    assert page.run("document.querySelector('#count').textContent") == "1 of 2 runs"
    page.click('[data-axis="code"]')
    page.wait(f"{FILTER} === ''")
    page.wait("document.querySelectorAll('#scatter circle').length === 2")
    page.run("document.querySelector('#scatter').scrollIntoView()")
    page.drag("#scatter svg", (0.105, 0.02), (0.98, 0.84))
    page.wait(f"{PICKED}.length === 2")
    page.wait("document.querySelectorAll('#scatter circle.picked').length === 2")


def test_pictures_go_over_time_and_show_differences_and_the_worst(page: Browser) -> None:
    page.run("document.querySelector('#reproductions').scrollIntoView()")
    page.wait("document.querySelectorAll('#pictures img').length === 3")
    page.run("document.querySelector('#moment').focus()")
    page.key("Home", 36)
    page.wait("document.querySelector('#moment-text').textContent === '0 images'")
    page.wait("document.querySelectorAll('#pictures img')[1].src.includes('images=0')")
    page.run("""(() => { const kind = document.querySelector("#kind"); kind.value = "differences";
        kind.dispatchEvent(new Event("input")); })()""")
    page.wait("document.querySelectorAll('#pictures img')[1].src.includes('kind=differences')")
    page.click("#worst")
    page.wait("document.querySelector('#pictures small').textContent.startsWith('worst first')")
    page.wait("document.querySelectorAll('#pictures img')[1].naturalWidth === 128")
    page.click("#pictures .strip-of:nth-child(2) img")
    page.wait("document.querySelector('#arrange').value === 'time'")
    page.wait("document.querySelector('#pictures img').src.includes('/api/film')")
    page.click("#worst-find")
    page.wait("document.querySelectorAll('.worst-list li').length === 16")
    assert page.run("document.querySelector('.worst-list b').textContent").startswith("no. ")


def test_two_runs_are_shown_beside_each_other(page: Browser) -> None:
    page.run("document.querySelector('#compare').scrollIntoView()")
    page.wait("document.querySelectorAll('#settings tbody tr').length > 4")
    assert "between single runs" in page.run("document.querySelector('#verdict').textContent")
    assert page.run("document.querySelectorAll('#settings tr.differs').length") >= 2
    page.wait("document.querySelectorAll('#two-pictures img').length === 5")
    first = page.run("document.querySelector('#first').value")
    page.click("#swap")
    page.wait(f"document.querySelector('#second').value === {json.dumps(first)}")


def test_a_picture_is_dropped_into_a_model(page: Browser, tmp_path: Path, own: Lab) -> None:
    picture = next(own.workspace.runs.rglob("heldout-originals.png"))
    page.run("document.querySelector('#try').scrollIntoView()")
    page.wait("document.querySelector('#model').value")
    page.choose_files("#file", picture)
    page.wait("document.querySelectorAll('#seen img').length === 3")
    assert "reconstruction, L2" in page.run("document.querySelector('#seen').textContent")


def test_the_page_follows_runs_while_they_change(page: Browser, own: Lab) -> None:
    page.wait("document.querySelector('#line').textContent === 'live'")
    run = own.find("page/code-2")[0]
    with run.lock():
        run.set_status("interrupted", images=7)
    page.wait("document.querySelector('#states').textContent.includes('1 interrupted')", 20)
    text = "document.querySelector('[data-run=\"page/code-2\"]').textContent"
    assert "interrupted" in page.run(text)


def test_curves_zoom_by_keys_and_keep_it_while_runs_change(page: Browser, own: Lab) -> None:
    page.wait("document.querySelector('#line').textContent === 'live'")
    assert "Keys on a chart" in page.run("document.querySelector('#curves-hint').textContent")
    page.run("window.chart = document.querySelector('#charts [data-split=train]'); chart.focus()")
    # Where the axis of images begins and ends is seen in its drawn pixels: nothing else changes.
    drawn = "document.querySelector('#charts [data-split=train] canvas').toDataURL()"
    whole = page.run(drawn)
    for _ in range(3):
        page.key("+", 187, "+")
    page.wait(f"{drawn} !== {json.dumps(whole)}")
    page.key("ArrowRight", 39)
    page.run("new Promise(done => setTimeout(done, 100))")
    zoomed = page.run(drawn)
    run = own.find("page/code-2")[0]
    with run.lock():
        run.set_status("interrupted", images=7)
    page.wait("document.querySelector('#charts [data-split=train]') !== chart", 20)
    page.wait(f"{drawn} === {json.dumps(zoomed)}")
    assert page.run("document.activeElement.dataset.split") == "train"
    page.key("0", 48, "0")
    page.wait(f"{drawn} === {json.dumps(whole)}")


def test_a_name_that_is_cut_is_whole_under_the_pointer(page: Browser) -> None:
    titles = page.run("[...document.querySelectorAll('#scroller .open')].map(each => each.title)")
    assert sorted(titles) == ["page/code-2: open", "page/code-4: open"]


@pytest.mark.slow
def test_training_is_seen_live_and_stopped_by_its_button(
    browser: Browser, tmp_path: Path, served: Serve
) -> None:
    path = tmp_path / "long.yml"
    path.write_text(LONG)
    lab = Lab(tmp_path / "runs", device="cpu")
    trainings = Trainings(lab, [path])
    browser.errors.clear()
    try:
        browser.open(served(server.make_app(lab, trainings=trainings)), READY)
        browser.wait("document.querySelector('#line').textContent === 'live'")
        browser.click("[data-training]")
        browser.wait("document.querySelector('tr.run .badge.running')", 120)
        browser.wait("document.querySelectorAll('#charts canvas').length === 2", 120)
        images = (
            "parseInt(document.querySelector('tr.run [role=progressbar]')"
            "?.parentNode.textContent.replaceAll(',', ''))"
        )
        first = browser.run(images)
        browser.wait(f"{images} > {first or 0}", 120)
        browser.wait("document.querySelector('#trainings .words').textContent.includes('left')", 60)
        browser.click("[data-training]")
        browser.wait("document.querySelector('tr.run .badge.interrupted')", 120)
        browser.wait("document.querySelector('[data-training]').textContent === 'Start'", 120)
        assert "saved" in browser.run("document.querySelector('#trainings .words').textContent")
        state = lab.find()[0].checkpoint()
        assert state is not None and state.images > 0
        assert browser.errors == []
    finally:
        trainings.close()


# --- everybody

#: What is wrong, as a list: texts too small, controls without a name.
SMALL_TEXT = """[...document.querySelectorAll("body *")].filter(node => node.checkVisibility() &&
  [...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim()) &&
  parseFloat(getComputedStyle(node).fontSize) < 12).map(node => node.outerHTML.slice(0, 90))"""
UNNAMED = """[...document.querySelectorAll(
  "input, select, textarea, button, a[href], img, [role=img]")]
  .filter(node => node.checkVisibility() && !(node.ariaLabel || node.labels?.length || node.title
    || node.alt || node.textContent.trim())).map(node => node.outerHTML.slice(0, 90))"""
SCROLLS = "getComputedStyle(document.documentElement).scrollBehavior"


@pytest.mark.parametrize("dark", [False, True])
def test_everybody_can_use_the_page(own: Lab, served: Serve, dark: bool) -> None:
    address = served(server.make_app(own))
    with Browser(1400, 2600, dark=dark, still=True) as browser:
        for state in ("", "#run=page%2Fcode-2"):
            browser.open(address + state, DRAWN)
            browser.wait("document.querySelectorAll('#pictures img').length === 3")
            if state:
                browser.wait("document.querySelector('#note-text')")
            assert browser.run(SMALL_TEXT) == []
            assert browser.run(UNNAMED) == []
            assert browser.run("document.getAnimations().length") == 0
            assert browser.run(SCROLLS) == "auto"
            assert serious_faults(browser) == []
        browser.resize(400, 900)
        browser.open(address, DRAWN)
        assert browser.run("document.documentElement.scrollWidth") <= 400
        assert browser.run(SMALL_TEXT) == []
        assert serious_faults(browser) == []
        assert browser.errors == []
