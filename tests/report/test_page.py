"""The report is one inert file that holds what was stored and asks no network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from aelab.errors import UserError
from aelab.report import contents, gallery, page
from aelab.runs.ledger import read_rows
from aelab.runs.record import Run

Make = Callable[..., list[Run]]
NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
VOID = {"meta", "input", "br", "img", "link", "line"}


class Document(HTMLParser):
    """Elements with attributes and text; complains about tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[dict[str, Any]] = []
        self.elements: list[dict[str, Any]] = []
        self.feed(text)
        assert not self.open, f"never closed: {[element['tag'] for element in self.open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element["text"] += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, Any]]:
        return [
            element
            for element in self.elements
            if element["tag"] == tag and all(element.get(k) == v for k, v in wanted.items())
        ]


def _document(runs: list[Run], **options: Any) -> Document:
    return Document(page.render_page(runs, now=NOW, **options))


def _data(document: Document) -> dict[str, Any]:
    return json.loads(document.all("script", id="data")[0]["text"])


@pytest.mark.parametrize(
    "matrix", [{}, {"ds": ["mnist", "rpg"]}, {"lr": [0.1, 0.2, 0.3], "w": [1, 2]}]
)
def test_nothing_in_the_page_points_outside(make_runs: Make, matrix: dict[str, list[Any]]) -> None:
    document = _document(make_runs(matrix, images=20_000))
    for element in document.elements:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = element.get(name) or ""
            assert value.startswith(("#", "data:")) or value == ""
    assert not document.all("link") and not document.all("iframe")
    css = document.all("style")[0]["text"]
    assert "url(" not in css and "@import" not in css


def test_the_policy_allows_these_scripts_and_no_others(make_runs: Make) -> None:
    document = _document(make_runs({}, images=20_000))
    policy = document.all("meta", **{"http-equiv": "Content-Security-Policy"})[0]["content"]
    assert policy.startswith("default-src 'none'; ")
    assert "img-src data:;" in policy
    rule = re.search(r"script-src ([^;]+);", policy)
    assert rule
    scripts = [e for e in document.all("script") if e.get("type") != "application/json"]
    digests = [
        base64.b64encode(hashlib.sha256(s["text"].encode()).digest()).decode() for s in scripts
    ]
    assert rule[1].split() == [f"'sha256-{digest}'" for digest in digests]


def test_the_data_are_the_stored_metrics(make_runs: Make) -> None:
    runs = make_runs({"ds": ["mnist", "rpg"]}, images=50_000)
    data = _data(_document(runs))
    assert [run["folder"] for run in data["runs"]] == [run.folder for run in runs]
    assert data["terms"] == ["loss", "l1", "kl", "learnrate"]
    for run, curves in zip(runs, data["curves"], strict=True):
        for split in ("train", "validation"):
            rows = run.metrics(split)
            assert curves[split]["images"] == [row["images"] for row in rows]
            assert curves[split]["seconds"] == [row["seconds"] for row in rows]
            for term in ("loss", "l1", "kl"):
                assert curves[split][term] == pytest.approx([row[term] for row in rows], rel=1e-6)


def test_nan_becomes_null_and_the_json_is_strict(make_runs: Make) -> None:
    document = _document(make_runs({"a": [1, 2]}, nan_at={0: 15_000}, images=20_000))
    text = document.all("script", id="data")[0]["text"]
    assert "NaN" not in text and "Infinity" not in text
    losses = _data(document)["curves"][0]["train"]["loss"]
    assert losses[13] is not None and losses[14:] == [None] * 6


def test_pictures_are_the_stored_ones(make_runs: Make) -> None:
    runs = make_runs({"ds": ["a", "b"]}, shape=(3, 8, 8), images=30_000)
    data = _data(_document(runs))
    assert data["exact"]
    shown = data["reproductions"]["train"]
    assert shown["steps"] == [10_000, 20_000, 30_000]
    (group,) = shown["groups"]
    assert (group["width"], group["height"], group["count"]) == (8, 8, 16)
    for entry, run in zip(group["runs"], runs, strict=True):
        for moment, place in entry["frames"]:
            address = data["pictures"][place]
            assert address.startswith("data:image/png;base64,")
            decoded = Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2])))
            stored = Image.open(run.path / "images" / f"train-{moment:09d}.png")
            assert decoded.tobytes() == stored.tobytes()


def test_runs_with_other_originals_stand_apart(make_runs: Make) -> None:
    runs = make_runs({"a": [1]}) + make_runs({"a": [2]}, shape=(1, 12, 12), name="other")
    groups = _data(_document(runs))["reproductions"]["heldout"]["groups"]
    assert [group["width"] for group in groups] == [8, 12]


def test_the_table_has_a_row_a_run_that_sorts_by_number(make_runs: Make) -> None:
    runs = make_runs({"net": ["conv", "mlp"]}, images=20_000, failed=[1])
    document = _document(runs)
    rows = [row for row in document.all("tr") if "data-runs" in row]
    assert [row["data-runs"] for row in rows] == ["0", "1"]
    assert "net=conv" in rows[0]["data-words"]
    headers = [header["text"].strip() for header in document.all("th", **{"aria-sort": "none"})]
    assert {"net", "validation loss", "meter", "best loss", "state"} <= set(headers)
    losses = [run.status["last"]["loss"] for run in runs]
    keys = [
        cell.get("data-sort")
        for cell in document.all("td")
        if "number" in (cell.get("class") or "")
    ]
    assert {str(loss) for loss in losses} <= set(keys)
    assert len(document.all("span", role="img")) == 2  # the meter


def test_failures_are_explained(make_runs: Make) -> None:
    document = _document(make_runs({"a": [1, 2]}, failed=[1], images=20_000))
    text = document.all("body")[0]["text"]
    assert "1 of 2 runs failed" in text
    (why,) = document.all("span", **{"class": "why"})
    assert why["text"] == why["title"] == "RunFailed: the loss became NaN"
    (failures,) = document.all("ul", **{"class": "failures"})
    assert "lower the learnrate" in failures["text"]
    (error,) = document.all("p", **{"class": "error"})
    assert "lower the learnrate" in error["text"]


def test_the_head_says_what_a_reader_must_know(make_runs: Make) -> None:
    runs = make_runs({"ds": ["mnist", "rpg"]}, running=[1], record={"legacy": ["kl"]})
    (head,) = _document(runs, title="My title").all("header")
    assert "My title" in head["text"] and "2026-01-02 03:04 UTC" in head["text"]
    assert "1 finished" in head["text"] and "1 running" in head["text"]
    assert "2 of 2 runs use legacy formulas (kl)" in head["text"]
    assert "Data set rpg: not the author's tiles" in head["text"]
    assert "ds=mnist" in head["text"]
    assert "mnist, 60,000 images" in head["text"]


def test_the_head_ranks_no_losses_that_do_not_compare(make_runs: Make) -> None:
    runs = [
        run
        for name in ("l1", "l2")
        for run in make_runs({}, name=name, images=10_000, record={"objective": name})
    ]
    (head,) = _document(runs).all("header")
    assert "Losses here do not compare: 2 objectives (l1; l2)." in head["text"]
    assert "Best validation loss" not in head["text"] and "times that" not in head["text"]
    (head,) = _document(runs[:1]).all("header")
    assert "Best validation loss" in head["text"] and "do not compare" not in head["text"]


def test_configuration_data_and_environment_are_there(make_runs: Make) -> None:
    document = _document(make_runs({"ds": ["mnist", "rpg"]}, images=10_000))
    configurations = [element["text"] for element in document.all("pre")]
    assert configurations == ["ds: mnist\nbatch_size: 64\n", "ds: rpg\nbatch_size: 64\n"]
    (sources,) = document.all("section", id="sources")
    assert all(word in sources["text"] for word in ("mnist.gz", "60,000", "torch", "2.13.0"))


@pytest.mark.parametrize(
    ("sets", "told"),
    [(["mnist"], "Environment of the run"), (["a", "b"], "Environment of all runs")],
)
def test_the_environment_is_of_the_run_or_of_all(
    sets: list[str], told: str, make_runs: Make
) -> None:
    document = _document(make_runs({"ds": sets}, images=10_000))
    (environment,) = document.all("details", **{"class": "environment"})
    assert environment["text"].startswith(told)


def test_repeats_can_be_shown_in_one_row(make_runs: Make) -> None:
    document = _document(make_runs({"ds": ["mnist", "rpg"]}, trials=3, images=20_000))
    assert len(document.all("input", id="merge")) == 1
    rows = [row["data-runs"] for row in document.all("tr") if "data-runs" in row]
    assert rows == ["0", "1", "2", "3", "4", "5", "0 1 2", "3 4 5"]
    assert not _document(make_runs({}, images=10_000)).all("input", id="merge")


HOSTILE = "</script><img src=x onerror=alert(1)><!--\u2028'\"{{ 7*7 }}"


def test_hostile_names_and_errors_stay_text(make_runs: Make) -> None:
    runs = make_runs(
        {"ds": [HOSTILE.replace("/", "_"), "b"]}, failed=[0, 1], message=HOSTILE, images=20_000,
        record=dict.fromkeys(("name", "experiment"), HOSTILE) | {"notes": [HOSTILE]},
    )  # fmt: skip
    (runs[0].path / "resolved.yml").write_text(HOSTILE, encoding="utf-8")
    document = _document(runs, title=HOSTILE)
    assert not document.all("img")
    assert len(document.all("script")) == 3
    assert document.all("h1")[0]["text"] == HOSTILE
    assert HOSTILE in [element["text"] for element in document.all("pre")]
    assert "<" not in document.all("script", id="data")[0]["text"]
    assert _data(document)["runs"][0]["label"].startswith("<_script><img src=x")


def test_equal_runs_and_moment_give_equal_bytes(
    make_runs: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs({"ds": ["mnist", "rpg"]}, images=20_000)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    first = page.page(runs, tmp_path / "new/a.html").read_bytes()
    again = [Run.at(run.path) for run in runs]
    assert first == page.page(again, tmp_path / "b.html").read_bytes()
    assert b"2023-11-14 22:13 UTC" in first
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "yesterday")
    with pytest.raises(UserError, match="SOURCE_DATE_EPOCH is 'yesterday'"):
        page.page(runs, tmp_path / "c.html")


def test_a_report_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least one run"):
        page.page([], tmp_path / "a.html")


@pytest.mark.parametrize("images", [0, 1000])
def test_runs_that_have_hardly_begun_have_a_page(make_runs: Make, images: int) -> None:
    document = _document(make_runs({"a": [1, 2]}, running=[0, 1], images=images, pictures=0))
    assert not document.all("section", id="reproductions")
    assert "No validation loss is known yet." in document.all("header")[0]["text"]


def test_damaged_files_do_not_stop_the_page(make_runs: Make) -> None:
    runs = make_runs({"a": [1, 2, 3]}, images=20_000)
    (runs[0].path / "images" / "train-originals.png").write_bytes(b"no picture")
    (runs[1].path / "environment.json").write_text("{", encoding="utf-8")
    (runs[2].path / "metrics.jsonl").write_text("{]\n{}\n", encoding="utf-8")
    data = _data(_document([Run.at(run.path) for run in runs]))
    assert [entry["run"] for entry in data["reproductions"]["train"]["groups"][0]["runs"]] == [1, 2]
    assert data["curves"][2]["train"] == {"images": [], "seconds": []}


def test_36_long_runs_stay_small(make_runs: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = {"ds": ["a", "b", "c"], "lr": list(range(12))}
    runs = make_runs(matrix, images=1_000_000, every=1000, pictures=2)
    text = page.render_page(runs, now=NOW)
    assert len(text) < 3_000_000
    lengths = [len(curves["train"]["loss"]) for curves in _data(Document(text))["curves"]]
    assert contents.FEWEST_POINTS <= min(lengths) <= max(lengths) <= contents.MOST_POINTS


def test_a_page_reads_the_metrics_of_each_run_once(
    make_runs: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs({"a": [1, 2, 3]}, images=20_000)
    read: list[Path] = []

    def counted(path: Path, *args: Any, **kwargs: Any) -> Any:
        """Reads as before."""
        read.append(path)
        return read_rows(path, *args, **kwargs)

    monkeypatch.setattr("aelab.runs.record.read_rows", counted)
    page.page(runs, tmp_path / "report.html", now=NOW)
    assert sorted(read) == sorted(run.path / "metrics.jsonl" for run in runs)
    kept = len(read)
    assert runs[0].metrics("validation") == read_rows(read[0], "validation")
    assert len(read) == kept + 1  # afterwards each call reads the file as it is


def test_curves_of_many_runs_are_thin() -> None:
    rows = [{"split": "train", "images": n, "seconds": n, "loss": 1 / n} for n in range(1, 300)]
    found = contents.curves([rows] * 2_000)
    (length,) = {len(curve["train"]["loss"]) for curve in found}
    assert contents.FEWEST_POINTS <= length <= 40


def test_pictures_are_compressed_where_they_are_too_many(
    make_runs: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = make_runs({"a": [1, 2]}, shape=(3, 16, 16), pictures=12)
    exact = gallery.Pictures(runs)
    monkeypatch.setattr(gallery, "PICTURE_BYTES", sum(map(len, exact.addresses)) // 4)
    small = gallery.Pictures(runs)
    assert exact.encoding.quality is None and small.encoding.quality is not None
    assert sum(map(len, small.addresses)) < sum(map(len, exact.addresses)) / 2
    for group in small.splits["heldout"]["groups"]:
        assert small.addresses[group["originals"]].startswith("data:image/png")
        assert all(entry["frames"][-1][0] == 200_000 for entry in group["runs"])


def test_a_page_is_written_without_torch(make_runs: Make, tmp_path: Path) -> None:
    (run,) = make_runs({}, images=10_000)
    code = (
        "import sys; from pathlib import Path; from aelab.runs.record import Run\n"
        "from aelab.report.page import page; from aelab.report.plots import plot, save_figure\n"
        f"run = Run.at(Path({str(run.path)!r}))\n"
        f"page([run], Path({str(tmp_path / 'a.html')!r}))\n"
        f"save_figure(plot([run]), Path({str(tmp_path / 'a.png')!r}))\n"
        "print([name for name in ('torch', 'matplotlib.pyplot') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert (tmp_path / "a.html").stat().st_size > 50_000


# --- in a real browser

DRIVE = """
const change = (selector, value) => {
  const node = document.querySelector(selector);
  if (node.type === "checkbox") node.checked = value; else node.value = value;
  node.dispatchEvent(new Event("input", {bubbles: true}));
  node.dispatchEvent(new Event("change", {bubbles: true}));
};
const rows = () => [...document.querySelectorAll("#each tbody tr")].filter(row => !row.hidden);
const seen = {};
seen.charts = document.querySelectorAll("#charts canvas").length;
seen.all = rows().map(row => row.dataset.runs);
const headers = [...document.querySelectorAll("#each th button")];
const header = headers.find(button => button.textContent === "best loss");
header.click(); header.click();
seen.sorted = rows().map(row => row.dataset.runs);
seen.aria = header.closest("th").getAttribute("aria-sort");
change("#filter", "DS=rpg");
seen.filtered = rows().map(row => row.dataset.runs);
seen.count = document.querySelector("#count").textContent;
seen.pictures = document.querySelectorAll("#pictures img").length;
change("#filter", "");
rows()[0].click();
seen.picked = document.querySelectorAll("#pictures .picked").length;
change("#moment", 0);
seen.moment = document.querySelector("#moment-text").textContent;
change("#term", "learnrate");
seen.learnrate = document.querySelectorAll("#charts canvas").length;
change("#term", "kl"); change("#clock", "seconds"); change("#logx", true); change("#colour", "ds");
seen.legend = [...document.querySelectorAll("#legend button")].map(b => b.textContent);
document.title = "seen " + JSON.stringify(seen);
"""


def _dump(path: Path, tmp_path: Path) -> str:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    assert browser, "this test needs Chromium: apt-get install chromium"
    switches = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --virtual-time-budget=4000 "
        "--dump-dom --window-size=1400,1600"
    )
    command = [browser, *switches.split(), f"--user-data-dir={tmp_path / 'profile'}", path.as_uri()]
    environment = {**os.environ, "TZ": "UTC"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=120, check=True)
    return done.stdout.decode()


@pytest.mark.slow
def test_a_browser_sorts_filters_and_draws(make_runs: Make, tmp_path: Path) -> None:
    runs = make_runs({"ds": ["mnist", "rpg"], "lr": [0.1, 0.2]}, images=50_000)
    text = page.render_page(runs, now=NOW)
    digest = base64.b64encode(hashlib.sha256(DRIVE.encode()).digest()).decode()
    text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    path = tmp_path / "driven.html"
    path.write_text(text.replace("</body>", f"<script>{DRIVE}</script></body>"), encoding="utf-8")
    dumped = _dump(path, tmp_path)
    title = re.search(r"<title>seen (.*?)</title>", dumped, re.S)
    assert title, "the page's script did not get to its end"
    assert json.loads(title[1].replace("&amp;", "&")) == {
        "charts": 2,
        "all": ["0", "1", "2", "3"],
        "sorted": ["1", "0", "3", "2"],  # the two sets are no order of each other
        "aria": "descending",
        "filtered": ["3", "2"],
        "count": "2 of 4 runs",
        "pictures": 3,
        "picked": 1,
        "moment": "16,666 images",
        "learnrate": 1,
        "legend": ["mnist (2)", "rpg (2)", "lr=0.1", "lr=0.2"],
    }


@pytest.mark.slow
def test_a_browser_runs_no_hostile_text(make_runs: Make, tmp_path: Path) -> None:
    evil = (
        "</script><script>document.title='owned'</script><img src=x onerror=document.title='owned'>"
    )
    runs = make_runs({"ds": [evil.replace("/", "_"), "b"]}, failed=[0], message=evil,
                     record={"name": evil, "notes": [evil]}, images=20_000)  # fmt: skip
    (runs[0].path / "resolved.yml").write_text(evil, encoding="utf-8")
    path = page.page(runs, tmp_path / "report.html", title="calm", now=NOW)
    dumped = _dump(path, tmp_path)
    assert "<title>calm – report</title>" in dumped
    assert 'data-ready="yes"' in dumped
