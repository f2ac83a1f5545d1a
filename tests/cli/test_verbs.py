"""Each verb as its user types it: output, files, exit codes."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trained(tiny: Path, aelab: Call) -> Path:
    code, _, err = aelab("run", "tiny.yml", "--device", "cpu")
    assert code == 0, err
    return tiny


def test_help_names_every_verb(aelab: Call) -> None:
    code, out, _ = aelab("--help")
    assert code == 0
    for verb in ("check", "run", "table", "plot", "report", "ls", "data", "render", "rm", "schema"):
        assert f" {verb} " in out


def test_version_is_the_packages(aelab: Call) -> None:
    from aelab._version import __version__

    assert aelab("--version").out.strip() == f"aelab {__version__}"  # type: ignore[attr-defined]


def test_check_prints_costs_and_trains_nothing(tiny: Path, aelab: Call) -> None:
    code, out, _ = aelab("check", "tiny.yml")
    assert code == 0
    assert "tiny/lr:0.001" in out and "2 runs, 0 with problems" in out
    assert not Path("runs").exists()


def test_check_as_json_is_a_list_of_runs(tiny: Path, aelab: Call) -> None:
    runs = json.loads(aelab("check", "tiny.yml", "--json")[1])
    assert [run["matrix"] for run in runs] == [{"lr": 0.001}, {"lr": 0.002}]
    assert set(runs[0]["parameters"]) == {"model", "encoder", "decoder"}
    assert runs[0]["problems"] == []


def test_run_reports_progress_on_stderr_only(tiny: Path, aelab: Call) -> None:
    code, out, err = aelab("run", "tiny.yml", "--device", "cpu")
    assert code == 0 and out == ""
    assert "2 runs" in err and "finished tiny/lr:0.002" in err and "2 finished" in err


def test_table_speaks_markdown_csv_and_json(trained: Path, aelab: Call) -> None:
    markdown = aelab("table", "tiny.yml", "--format", "markdown")[1]
    assert markdown.lstrip().startswith("|") and "0.002" in markdown
    rows = list(csv.DictReader(io.StringIO(aelab("table", "--format", "csv")[1])))
    assert [row["lr"] for row in rows] == ["0.001", "0.002"]
    runs = json.loads(aelab("table", "tiny.yml", "--json")[1])
    assert {run["matrix"]["lr"] for run in runs} == {0.001, 0.002}


def test_table_can_be_written_to_a_file(trained: Path, aelab: Call) -> None:
    code, out, _ = aelab("table", "tiny.yml", "--format", "csv", "--out", "results/t.csv")
    assert (code, out.strip()) == (0, "results/t.csv")
    assert Path("results/t.csv").read_text().count("\n") == 3


def test_table_with_an_unknown_column_names_the_columns(trained: Path, aelab: Call) -> None:
    code, _, err = aelab("table", "--sort", "learning_rat")
    assert code == 2 and "learning_rat" in err and "lr" in err


def test_plot_writes_png_and_svg(trained: Path, aelab: Call) -> None:
    assert aelab("plot", "tiny.yml", "--out", "a.png")[0] == 0
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")
    assert aelab("plot", "--term", "l1", "--x", "seconds", "--out", "a.svg")[0] == 0
    assert "<svg" in Path("a.svg").read_text()


def test_report_is_one_file_without_links(trained: Path, aelab: Call) -> None:
    code, out, _ = aelab("report", "tiny.yml", "--out", "page.html")
    assert code == 0 and out.strip() == "page.html"
    page = Path("page.html").read_text()
    assert "tiny/lr:0.001" in page and "data:image/png;base64," in page
    assert 'src="http' not in page and 'href="http' not in page


def test_ls_lists_states(trained: Path, aelab: Call) -> None:
    assert aelab("ls")[1].count("finished") == 2
    listed = json.loads(aelab("ls", "--json")[1])
    assert [entry["state"] for entry in listed] == ["finished", "finished"]


def test_ls_of_nothing_is_no_error(tiny: Path, aelab: Call) -> None:
    assert aelab("ls")[0] == 0


def test_data_lists_every_set(tiny: Path, aelab: Call) -> None:
    code, out, _ = aelab("data")
    assert code == 0 and "mnist" in out and "noise" in out


def test_data_shows_a_contact_sheet_and_numbers(tiny: Path, aelab: Call) -> None:
    code, out, _ = aelab("data", "noise", "--out", "noise.png", "--resize", "20")
    assert code == 0 and "mean" in out
    assert Path("noise.png").read_bytes().startswith(b"\x89PNG")


def test_rm_deletes_only_what_is_named(trained: Path, aelab: Call) -> None:
    assert aelab("rm", "tiny/lr-0.001", "--yes")[0] == 0
    assert [path.name for path in Path("runs/tiny").iterdir()] == ["lr-0.002"]


def test_rm_can_keep_everything_but_checkpoints(trained: Path, aelab: Call) -> None:
    assert aelab("rm", "tiny/lr-0.001", "--checkpoints", "--yes")[0] == 0
    assert not list(Path("runs/tiny/lr-0.001").rglob("*.safetensors"))
    assert Path("runs/tiny/lr-0.001/metrics.jsonl").stat().st_size > 0


def test_schema_is_a_json_schema(aelab: Call) -> None:
    schema = json.loads(aelab("schema")[1])
    assert "properties" in schema and "matrix" in schema["properties"]


def test_set_replaces_a_key_for_check_and_run(tiny: Path, aelab: Call) -> None:
    runs = json.loads(aelab("check", "tiny.yml", "--set", "max_inputs=160", "--json")[1])
    assert [run["images"] for run in runs] == [160, 160]
    code, _, err = aelab("check", "tiny.yml", "--set", "batchsize=3")
    assert code == 2 and "--set batchsize: is not a key" in err and "batch_size" in err
    code, _, err = aelab("run", "tiny.yml", "--set", "batch_size")
    assert code == 2 and "KEY=VALUE" in err


def test_runs_that_others_train_have_an_exit_code_of_their_own(tiny: Path, aelab: Call) -> None:
    from filelock import FileLock

    from aelab.config import load
    from aelab.runs.store import Store

    (first, *_) = load(tiny).runs()
    store = Store(tiny.parent / "runs")
    store.create({"folder": first.folder, "name": first.name, "identity": first.identity})
    with FileLock(store.root / first.folder / "lock"):
        code, _, err = aelab("run", "tiny.yml", "--device", "cpu")
    assert code == 75, err
    assert "1 finished, 1 skipped (1 in training by other processes)" in err
    assert "wait for them with: aelab run tiny.yml --device cpu --wait" in err


@pytest.mark.parametrize("jobs", ["many", "0", "-1"])
def test_a_number_of_jobs_that_is_none_is_told(tiny: Path, aelab: Call, jobs: str) -> None:
    code, _, err = aelab("run", "tiny.yml", f"--jobs={jobs}")
    assert code == 2 and "--jobs auto, or a number from 1" in err
