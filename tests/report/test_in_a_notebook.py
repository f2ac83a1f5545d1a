"""Results as data frames, differences of settings, and what a notebook shows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aelab.errors import MissingExtra, StoreError, UserError
from aelab.lab import Lab, TableQuery, compare, frame
from aelab.report.frames import COLUMNS
from aelab.report.two_settings import repeats_of
from aelab.runs.record import BrokenRun, Run

pandas = pytest.importorskip("pandas")

FILE = """
matrix:
  code: [2, 16]
  seed: [1, 2, 3]
experiment_name: two/${matrix_slug}
train_set: noise_dataset((1, 4, 4), size=64, seed=1)
validation_set: noise_dataset((1, 4, 4), size=32, seed=1)
model: EncoderDecoder(EncoderMLP((1, 4, 4), code_size=code), DecoderMLP((1, 4, 4), code_size=code))
seed: ${seed}
batch_size: 16
learnrate: 0.01
optimizer: Adam
loss_function: l2
max_images: 2048
num_train_loss_steps: 512
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("two")
    (folder / "two.yml").write_text(FILE)
    here = Lab(folder / "runs", device="cpu")
    for _ in here.run(folder / "two.yml"):
        pass
    return here


def test_a_frame_has_a_row_a_setting_with_spread_and_verdict(here: Lab) -> None:
    made = here.frame()
    fixed = [name for name in made.columns if name in COLUMNS]
    assert fixed == list(COLUMNS) and list(made.columns)[2:4] == ["code", "seed"]
    assert list(made["runs"]) == [3, 3] and set(made["code"]) == {2, 16}
    assert set(made["differs_from_best"]) == {"best", "yes"}
    worse = made[made["differs_from_best"] == "yes"].iloc[0]
    assert worse["code"] == 2
    assert worse["difference_low_percent"] < worse["difference_percent"]
    assert made["std"].dtype == float and (made["std"] > 0).all()
    each = here.frame(query=TableQuery(each=True, include=["learnrate"]))
    assert len(each) == 6 and list(each.columns[-1:]) == ["learnrate"]
    assert each["validation_loss"].groupby(each["code"]).mean().to_dict() == pytest.approx(
        made.set_index("code")["validation_loss"].to_dict()
    )
    assert frame(runs=here.workspace.runs, each=True).equals(
        here.frame(query=TableQuery(each=True))
    )


def test_columns_of_a_frame_do_not_depend_on_the_runs(here: Lab) -> None:
    one = here.frame("two/code-2_seed-1")
    assert [name for name in one.columns if name in COLUMNS] == list(COLUMNS)
    assert one["std"].dtype == float and one["std"].isna().all()


def test_a_history_is_a_frame_of_the_logged_moments(here: Lab) -> None:
    run = here.find("two/code-2_seed-1")[0]
    made = run.history()
    assert list(made.columns)[:5] == ["split", "images", "seconds", "epoch", "loss"]
    assert len(made) == len(run.metrics()) and set(made["split"]) == {"train", "validation"}
    assert made["loss"].iloc[-1] == run.metrics()[-1]["loss"]


def test_the_documented_columns_are_those_of_every_frame() -> None:
    page = (Path(__file__).parents[2] / "docs" / "python.md").read_text("utf-8")
    listed = page.split("nothing to say:")[1].split("Last, the terms")[0]
    named = [word for word in listed.replace("\n", " ").split("`")[1::2]]
    assert [name for name in named if name not in ("matrix.NAME",)] == list(COLUMNS)


def test_two_settings_are_compared_by_their_seeds(here: Lab) -> None:
    found = here.compare("two/code-16*", "two/code-2_*")
    assert found.difference.method == "paired t" and found.difference.count == 3
    assert found.difference.low <= found.difference.mean <= found.difference.high < 0
    assert found.verdict.startswith("two/code-16_seed-* is better than two/code-2_seed-* by")
    assert found.seeds_needed is None
    assert "95 % interval" in str(found) and "<b>two/code-16" in found._repr_html_()
    same = here.compare(["two/code-2_seed-1", "two/code-2_seed-2"], "two/code-2_seed-3")
    assert same.difference.distinguishable is None and "train several seeds" in same.verdict
    runs = here.find("two/code-2_*")
    seeds = compare(runs[:2], runs[1:], runs=here.workspace.runs)
    assert seeds.difference.distinguishable is False
    assert (seeds.seeds_needed or 99) > 2 and "cannot tell" in seeds.verdict


def test_the_repeats_of_a_run_differ_in_their_seed_only(here: Lab) -> None:
    runs = here.find()
    run = here.find("two/code-2_seed-2")[0]
    assert {each.folder for each in repeats_of(run, runs)} == {
        f"two/code-2_seed-{seed}" for seed in (1, 2, 3)
    }


def test_runs_that_do_not_compare_are_not_compared(here: Lab, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="do not compare: 2 objectives"):
        golden = Path(__file__).parents[1] / "golden" / "format-1"
        other = Lab(golden).find()
        finished = [run for run in other if run.state == "finished"][:1]
        here.compare(here.find("two/code-2_seed-1"), finished)


def test_without_pandas_a_sentence_says_what_to_install(
    here: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    for call in (here.frame, here.find()[0].history):
        with pytest.raises(MissingExtra, match="pandas") as raised:
            call()
        assert 'pip install "aelab[frames]"' in str(raised.value)


def test_a_notebook_shows_labs_runs_tables_and_figures(here: Lab, tmp_path: Path) -> None:
    shown = here._repr_html_()
    assert "6 finished" in shown and "two/code-16_seed-3" in shown and "<table>" in shown
    run = here.find("two/code-2_seed-1")[0]
    html = run._repr_html_()
    assert "<th>code</th><td>2</td>" in html and html.count("data:image/png;base64,") == 2
    assert "latest" in here.open("two/code-2_seed-1@latest")._repr_html_()
    table = here.table(query=TableQuery(format="markdown"))
    assert table.startswith("|") and "<table>" in table._repr_html_()  # type: ignore[attr-defined]
    figure = here.plot()
    assert figure._repr_png_().startswith(b"\x89PNG")  # type: ignore[union-attr]
    assert here.plot(out=tmp_path / "a.png") == tmp_path / "a.png"
    assert Lab(tmp_path / "none")._repr_html_().endswith("no runs</p>")
    broken = BrokenRun(tmp_path, "<gone>", StoreError("it is gone"))
    assert "&lt;gone&gt;" in broken._repr_html_() and isinstance(broken, Run)


def test_figures_of_a_run_are_had_without_a_file(here: Lab) -> None:
    opened = here.open("two/code-2_seed-1")
    assert hasattr(opened.draw("histogram"), "savefig")
    assert opened.draw("sample", count=4).size[0] > 50
    with pytest.raises(UserError, match="no option"):
        opened.draw("sample", counts=4)
    assert not list((opened.run.path / "figures").glob("*"))
