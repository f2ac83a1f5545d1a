from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aelab.errors import UserError
from aelab.report.cells import cell_text
from aelab.report.listing import age_words, entries, listing, size_words
from aelab.report.query import TableQuery
from aelab.report.tables import make_table, meter, run_order, table
from aelab.runs.record import Run
from aelab.runs.store import Store

#: The 36 rows of the founding document: data, resolution, antialias ("" where nothing was
#: resized), loss at learning rate 0.0003 and 0.001, stars of both.
PUBLISHED = """
mnist 20 False 0.0274497 0.0221466 7 4
fmnist 20 False 0.0482327 0.0421959 18 15
rpg 20 False 0.052915 0.0454093 20 16
mnist 28 - 0.0351929 0.0326754 11 9
fmnist 28 - 0.0534702 0.0491466 21 18
rpg 28 False 0.0514313 0.0472919 19 17
mnist 32 False 0.0333494 0.0300777 10 8
fmnist 32 False 0.0495315 0.0459637 18 17
rpg 32 - 0.0532157 0.0485321 20 18
mnist 20 True 0.0193185 0.0157305 2 1
fmnist 20 True 0.0337913 0.0278209 10 7
rpg 20 True 0.0337807 0.0281536 10 7
mnist 28 - 0.0357742 0.0321101 11 9
fmnist 28 - 0.0528828 0.0492271 20 18
rpg 28 True 0.0369611 0.0349186 12 11
mnist 32 True 0.0246818 0.0221171 5 4
fmnist 32 True 0.0380947 0.0357977 12 11
rpg 32 - 0.0533928 0.0489479 20 18
"""


def published() -> list[dict[str, Any]]:
    rows = []
    for place, lr in enumerate((0.0003, 0.001)):
        for line in PUBLISHED.split("\n")[1:-1]:
            ds, res, aa, *rest = line.split()
            rows.append(
                {
                    "ds": ds,
                    "res": int(res),
                    "aa": aa,
                    "lr": lr,
                    "loss": float(rest[place]),
                    "stars": int(rest[2 + place]),
                }
            )
    return rows


Add = Callable[..., Run]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def add(store: Store) -> Add:
    """Makes one stored run; `loss` None is a run that never validated."""

    def make(
        folder: str,
        matrix: dict[str, Any] | None = None,
        loss: float | None = 0.5,
        *,
        state: str = "finished",
        images: int = 1_000_055,
        status: dict[str, Any] | None = None,
        rows: list[dict[str, Any]] | None = None,
        **record: Any,
    ) -> Run:
        number = len(store.list()) + 1
        run = store.create(
            {
                "folder": folder,
                "name": folder,
                "identity": folder,
                "matrix": matrix or {},
                "matrix_id": f"{number:02d}",
                "matrix_slug": "_".join(f"{k}:{v}" for k, v in (matrix or {}).items()),
                "experiment": "some.yml",
                "max_inputs": 1_000_000,
                "seed": 0,
                "trial": None,
                "parameters": {"model": 1_666_193, "encoder": 1_000_000, "decoder": 666_193},
                **record,
            }
        )
        last = {} if loss is None else {"last": {"images": images, "loss": loss, "kl": loss / 10}}
        best = {} if loss is None else {"best": {"images": images // 2, "loss": loss * 0.9}}
        run.append(*(rows or []))
        facts = {"images": images, "seconds": 126.6, "images_per_second": 7899.4, "error": None}
        run.set_status(state, **{**facts, **last, **best, **(status or {})})
        return run

    return make


@pytest.fixture
def published_runs(add: Add) -> list[Run]:
    runs = []
    for number, row in enumerate(published()):
        aa = {"True": True, "False": False, "-": number % 18 >= 9}[row["aa"]]
        matrix = {"lr": row["lr"], "aa": aa, "res": row["res"], "ds": row["ds"]}
        effect = f"{row['lr']} {row['res']} {row['ds']} {row['aa']}"
        runs.append(add(f"compare/{number}", matrix, row["loss"], effect=effect))
    return runs


def columns_of(text: str) -> list[str]:
    return [cell.strip() for cell in text.splitlines()[0].strip("|").split("|")]


def rows_of(text: str) -> list[dict[str, str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def test_meter_gives_the_published_stars_for_all_36_rows() -> None:
    rows = published()
    assert [len(stars) for stars in meter([row["loss"] for row in rows])] == [
        row["stars"] for row in rows
    ]


def test_meter_leaves_out_what_is_not_finite_and_is_silent_when_all_are_equal() -> None:
    assert meter([1.0, float("nan"), 2.0, None]) == ["*", "", "*" * 21, ""]
    assert meter([1.0, 1.0]) == ["", ""]
    assert meter([]) == []


def test_the_old_layout_has_the_old_columns_in_the_old_order(published_runs: list[Run]) -> None:
    text = table(published_runs, TableQuery(layout="legacy"))
    assert columns_of(text) == [
        *("matrix_id", "lr", "aa", "res", "ds", "matrix_slug"),
        *("validation loss (1,000,000 steps)", "meter"),
        *("model params", "train time (minutes)", "throughput"),
    ]
    first = rows_of(text)[0]
    assert first["validation loss (1,000,000 steps)"] == "0.0274497"
    assert first["lr"] == "0.0003"
    assert first["meter"] == "*" * 7
    assert first["model params"] == "1,666,193"
    assert first["train time (minutes)"] == "2.11"
    assert first["throughput"] == "7,899"
    assert len(rows_of(text)) == 36


def test_a_setting_without_effect_is_blank_and_its_repeats_are_a_spread(
    published_runs: list[Run],
) -> None:
    rows = rows_of(table(published_runs))
    assert len(rows) == 30
    merged = [row for row in rows if row["aa"] == ""]
    assert len(merged) == 6
    mnist28 = next(r for r in merged if (r["ds"], r["res"], r["lr"]) == ("mnist", "28", "0.0003"))
    assert float(mnist28["validation loss (1,000,000 images)"]) == pytest.approx(
        0.03548355, abs=1e-7
    )
    assert mnist28["±"] == "0.00041"
    assert mnist28["runs"] == "2"
    assert all(row["runs"] == "1" and row["±"] == "" for row in rows if row["aa"])


def test_each_shows_repeated_runs_one_by_one_with_the_cell_still_blank(
    published_runs: list[Run],
) -> None:
    rows = rows_of(table(published_runs, TableQuery(each=True)))
    assert len(rows) == 36
    assert [row["aa"] for row in rows][:5] == ["False", "False", "False", "", ""]


def test_sorting_by_several_columns_descending_and_by_a_part_of_a_name(
    published_runs: list[Run],
) -> None:
    losses = [
        float(row["validation loss (1,000,000 images)"])
        for row in rows_of(table(published_runs, TableQuery(sort=["validation"], each=True)))
    ]
    assert losses == sorted(losses) and losses[0] == 0.0157305
    for name in ("-validation", "validation loss-", "-loss"):
        rows = rows_of(table(published_runs, TableQuery(sort=[name], each=True)))
        assert float(rows[0]["validation loss (1,000,000 images)"]) == 0.0534702
    rows = rows_of(table(published_runs, TableQuery(sort=["ds", "-res"], each=True)))
    assert [(row["ds"], row["res"]) for row in rows[:2]] == [("fmnist", "32"), ("fmnist", "32")]
    assert rows[-1]["ds"] == "rpg" and rows[-1]["res"] == "20"


def test_cells_without_a_value_come_last_whichever_way_one_sorts(add: Add) -> None:
    runs = [add("a", {"x": 1}, 0.3), add("b", {"x": 2}, None, state="failed"), add("c", {"x": 3})]
    for name in ("loss", "-loss"):
        assert rows_of(table(runs, TableQuery(sort=[name])))[-1]["x"] == "2"


def test_averaging_over_a_key_gives_means_counts_and_extremes(published_runs: list[Run]) -> None:
    text = table(
        published_runs, TableQuery(average="lr", average_std=["validation"], exclude=["best loss"])
    )
    header = "validation loss (1,000,000 images)"
    assert columns_of(text)[:8] == [
        *("aa", "res", "ds", "num lrs"),
        *(header, f"{header} (min)", f"{header} (max)", f"{header} (std)"),
    ]
    row = next(r for r in rows_of(text) if (r["ds"], r["res"], r["aa"]) == ("mnist", "20", "True"))
    assert row["num lrs"] == "2"
    assert float(row[header]) == pytest.approx((0.0193185 + 0.0157305) / 2, abs=1e-7)
    assert float(row[f"{header} (min)"]) == 0.0157305
    assert float(row[f"{header} (max)"]) == 0.0193185
    spread = (0.0193185 - 0.0157305) / 2**0.5
    assert float(row[f"{header} (std)"]) == pytest.approx(spread, rel=1e-5)
    blank = next(r for r in rows_of(text) if (r["ds"], r["res"]) == ("rpg", "32") and not r["aa"])
    assert blank["num lrs"] == "4"


def test_an_unknown_column_is_refused_with_the_nearest_name(published_runs: list[Run]) -> None:
    with pytest.raises(UserError, match="no column 'metre'; did you mean 'meter'"):
        table(published_runs, TableQuery(sort=["metre"]))
    with pytest.raises(UserError, match="no column 'minuets'; did you mean 'minutes'"):
        table(published_runs, TableQuery(exclude=["minuets"]))
    with pytest.raises(UserError, match="no run has logged 'kll'; did you mean 'kl'"):
        table(published_runs, TableQuery(include=["kll"]))
    with pytest.raises(UserError, match="no key 'dss'; did you mean 'ds'"):
        table(published_runs, TableQuery(average="dss"))
    with pytest.raises(UserError, match="no column of numbers is called 'minuts'"):
        table(published_runs, TableQuery(average="ds", average_std=["minuts"]))
    with pytest.raises(UserError, match="unknown table format 'markdwn'; did you mean 'markdown'"):
        table(published_runs, TableQuery(format="markdwn"))


def test_columns_that_have_nothing_to_say_may_be_excluded(add: Add) -> None:
    runs = [add("a", {"x": 1}, 0.3)]
    assert "meter" not in columns_of(table(runs))
    table(runs, TableQuery(exclude=["meter", "note", "state", "run"]))


def test_included_terms_are_the_last_logged_values(add: Add) -> None:
    rows = [
        {"split": "train", "images": 1000, "loss": 0.9, "kl": 7.0, "learnrate": 0.001},
        {"split": "train", "images": 2000, "loss": 0.8, "kl": 6.0, "learnrate": 0.0005},
    ]
    runs = [add("a", {"x": 1}, 0.3, rows=rows), add("b", {"x": 2}, 0.4)]
    shown = rows_of(
        table(runs, TableQuery(include=["kl", "train_kl", "learnrate", "seed", "latent"]))
    )
    assert [row["kl"] for row in shown] == ["0.03", "0.04"]
    assert [row["train_kl"] for row in shown] == ["6", ""]
    assert [row["learnrate"] for row in shown] == ["0.0005", ""]
    assert [row["seed"] for row in shown] == ["0", "0"]


def test_a_failed_run_shows_its_error_and_does_not_disturb_the_others(add: Add) -> None:
    error = {"type": "ShapeError", "message": "24x24 is not\n28x28", "hint": None}
    runs = [
        add("a", {"x": 1}, 0.3),
        add("b", {"x": 2}, None, state="failed", status={"error": error}),
        add("c", {"x": 3}, float("nan"), state="failed"),
    ]
    rows = rows_of(table(runs))
    assert rows[1]["state"] == "failed: ShapeError: 24x24 is not 28x28"
    assert rows[2]["state"] == "failed: the loss is nan"
    assert rows[0]["state"] == "finished"
    assert json.loads(table(runs, TableQuery(format="json")))[1]["problems"] == [
        "ShapeError: 24x24 is not\n28x28"
    ]


def test_a_run_with_damaged_metrics_is_a_problem_of_that_run_only(add: Add) -> None:
    runs = [add("a", {"x": 1}), add("b", {"x": 2})]
    (runs[0].path / "metrics.jsonl").write_text('"validation" {{{\n{"split": "validation"}\n')
    entries = json.loads(table(runs, TableQuery(format="json")))
    assert "metrics.jsonl:1: this line is not valid JSON" in entries[0]["problems"][0]
    assert entries[1]["problems"] == []


def test_unfinished_runs_share_one_loss_column_beside_their_images(add: Add) -> None:
    runs = [add("a", {"x": 1}), add("b", {"x": 2}, images=64_000, state="interrupted")]
    rows = rows_of(table(runs))
    assert [row["images"] for row in rows] == ["1,000,000", "64,000"]
    assert [row["state"] for row in rows] == ["finished", "interrupted"]
    assert "validation loss (64,000 steps)" in columns_of(table(runs, TableQuery(layout="legacy")))


def test_seeds_are_one_row_that_says_whether_it_differs_from_the_best(add: Add) -> None:
    runs = []
    for code, losses in {
        64: [0.30, 0.31, 0.32],
        128: [0.20, 0.21, 0.22],
        256: [0.19, 0.22, 0.21],
    }.items():
        for seed, loss in enumerate(losses):
            matrix = {"code": code, "seed": seed}
            runs.append(add(f"s/{code}-{seed}", matrix, loss, seed=seed, effect=f"{code}"))
    rows = rows_of(table(runs))
    assert [row["code"] for row in rows] == ["64", "128", "256"]
    assert "seed" not in rows[0]
    assert [row["runs"] for row in rows] == ["3", "3", "3"]
    assert [row["differs from best"] for row in rows] == ["yes", "cannot tell (3 seeds)", "best"]
    assert rows[0]["±"] == "0.01"
    assert len(rows_of(table(runs, TableQuery(each=True)))) == 9


def _with_seeds(add: Add, objectives: dict[str, str], data: dict[str, str]) -> list[Run]:
    return [
        add(f"{file}/{seed}", {"seed": seed}, place + seed / 100, seed=seed, effect=file,
            experiment=file, objective=objectives[file],
            data={"validation": [{"name": data[file]}], "validation_content": data[file]})
        for place, file in enumerate(objectives) for seed in range(2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    "objectives, data, reason",
    [
        (("l1", "l2"), ("mnist", "mnist"), "2 objectives (l1; l2)"),
        (("l1", "l1"), ("mnist", "kali"), "different held-out images (mnist; kali)"),
    ],
)
def test_files_whose_losses_do_not_compare_are_not_ranked(
    add: Add, objectives: tuple[str, str], data: tuple[str, str], reason: str
) -> None:
    files = ("a.yml", "b.yml")
    made = make_table(
        _with_seeds(
            add, dict(zip(files, objectives, strict=True)), dict(zip(files, data, strict=True))
        )
    )
    assert not {"meter", "differs"} & {column.key for column in made.columns}
    assert [row["group"] for row in made.rows] == ["file=a.yml", "file=b.yml"]
    assert f"Losses here do not compare: {reason}." in made.notes


def test_files_with_one_objective_and_one_held_out_set_are_ranked(add: Add) -> None:
    same = {"a.yml": "l1", "b.yml": "l1"}
    made = make_table(_with_seeds(add, same, dict.fromkeys(same, "mnist")))
    assert {"meter", "differs"} <= {column.key for column in made.columns}
    assert not any("compare" in note and "Losses" in note for note in made.notes)


def test_a_matrix_of_objectives_is_not_ranked(add: Add) -> None:
    runs = [add(f"r/{loss}", {"loss": loss}, 0.3, objective=loss) for loss in ("l1", "l2")]
    runs.append(add("r/old", {"loss": "l3"}, 0.4))
    made = make_table(runs)
    assert "meter" not in {column.key for column in made.columns}
    assert [row["group"] for row in made.rows] == ["loss=l1", "loss=l2", "loss=l3"]
    assert made.notes == [
        "Losses here do not compare: 2 objectives (l1; l2).",
        "They are not ranked.",
    ]


def test_trials_of_old_records_without_effect_hash_are_merged_but_other_runs_are_not(
    add: Add,
) -> None:
    trials = [add(f"t/{i}", {"x": 1}, 0.3 + i, trial=i, seed=i) for i in range(2)]
    others = [add(f"o/{i}", {}, 0.3, experiment="edited.yml") for i in range(2)]
    assert len(make_table(trials).rows) == 1
    assert len(make_table(others).rows) == 2


def test_repeats_at_another_number_of_images_are_not_averaged(add: Add) -> None:
    runs = [
        add("a", {"seed": 0}, 0.3, seed=0, effect="e"),
        add("b", {"seed": 1}, 0.4, seed=1, effect="e", images=500),
        add("c", {"seed": 2}, 0.5, seed=2, effect="e", state="interrupted"),
    ]
    assert [row["loss"] for row in make_table(runs).rows] == [0.3, 0.4, 0.5]


def test_data_with_a_remark_is_pointed_at_below_the_table(add: Add) -> None:
    rpg = {"name": "rpg", "source": "atlas.png", "count": 47579, "sha256": "ab" * 32}
    remark = "tiles differ from the author's"
    runs = [
        add("a", {"ds": "rpg"}, data={"train": [{**rpg, "note": remark}]}, legacy=["kl"]),
        add("b", {"ds": "mnist"}, data={"train": [{**rpg, "name": "mnist", "note": ""}]}),
    ]
    text = table(runs)
    assert f"[1] rpg: 47,579 images, atlas.png, sha256 abababababab: {remark}" in text
    rows = rows_of(text)
    assert [row["note"] for row in rows] == ["[1]", ""]
    assert [row["objective"] for row in rows] == ["legacy (kl)", ""]


def test_trend_is_shown_from_the_validation_curve(add: Add) -> None:
    rows = [
        {"split": "validation", "images": 10_000 * i, "loss": 0.5 * 0.99**i} for i in range(1, 31)
    ]
    run = add("a", {"x": 1}, rows=rows)
    assert (
        rows_of(table([run]))[0]["trend"] == "falling 5.9 % (5.9 to 5.9) in the last 60,000 images"
    )
    assert json.loads(table([run], TableQuery(format="json")))[0]["trend"]["source"] == "validation"


def test_markdown_escapes_bars_and_keeps_number_like_texts(add: Add) -> None:
    text = table([add("a", {"act": "a|b", "code": "1_000", "exp": "1e5"})])
    assert r"a\|b" in text
    assert "1_000" in text and "1e5" in text


def test_html_escapes_what_a_file_may_say(add: Add) -> None:
    text = table([add("a", {"act": "<script>"})], TableQuery(format="html"))
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_csv_has_unrounded_numbers(add: Add) -> None:
    text = table([add("a", {"k": [3, 5]}, 1 / 3)], TableQuery(format="csv"))
    row = next(csv.DictReader(io.StringIO(text)))
    assert float(row["validation loss"]) == 1 / 3
    assert row["images"] == "1000000"
    assert row["parameters"] == "1666193"
    assert row["k"] == "3, 5"


def test_json_is_a_list_of_runs_with_what_scripts_need(published_runs: list[Run]) -> None:
    entries = json.loads(table(published_runs, TableQuery(format="json", sort=["loss"])))
    assert len(entries) == 36
    first = entries[0]
    assert first["name"] == "compare/27"
    assert first["matrix"] == {"lr": 0.001, "aa": True, "res": 20, "ds": "mnist"}
    assert first["parameters"] == {"model": 1_666_193, "encoder": 1_000_000, "decoder": 666_193}
    assert first["problems"] == []
    assert first["losses"]["last"] == {"images": 1_000_055, "loss": 0.0157305, "kl": 0.00157305}
    assert first["losses"]["best"]["loss"] == pytest.approx(0.01415745)
    assert [e["without_effect"] for e in entries if e["matrix"]["res"] == 28][-1] == ["aa"]
    averaged = json.loads(table(published_runs, TableQuery(format="json", average="lr")))
    assert averaged[0]["num lrs"] == 2


def test_json_has_no_nan(add: Add) -> None:
    text = table([add("a", {"x": 1}, float("nan"), state="failed")], TableQuery(format="json"))
    entry = json.loads(text, parse_constant=lambda name: pytest.fail(name))[0]
    assert entry["losses"]["last"]["loss"] is None
    assert entry["problems"] == ["the loss is nan"]


def test_terminal_table_has_every_column_when_there_is_no_terminal(
    published_runs: list[Run],
) -> None:
    lines = table(published_runs, TableQuery(format="terminal")).splitlines()
    assert "validation loss (1,000,000 images)" in lines[1]
    assert any("0.0534702" in line or "0.0531765" in line for line in lines)
    assert not any("\x1b" in line for line in lines)


def test_runs_of_several_experiments_are_told_apart_by_name(add: Add) -> None:
    runs = [add("x/a", {"ds": "a"}), add("y/a", {"code": 3}, experiment="other.yml")]
    assert [row["run"] for row in rows_of(table(runs))] == ["y/a", "x/a"]
    assert columns_of(table(runs))[:3] == ["run", "code", "ds"]


def test_runs_stand_in_the_order_of_the_file_not_of_their_names(add: Add) -> None:
    runs = [add(f"x/w-{weight}", {"w": weight}) for weight in ("0.5", "0.0005", "5e-05")]
    mixed = sorted(runs[::-1], key=run_order)
    assert [run.folder for run in mixed] == ["x/w-0.5", "x/w-0.0005", "x/w-5e-05"]


def test_repeats_of_several_experiments_are_named_by_a_glob_not_by_one_of_them(add: Add) -> None:
    runs = [add(f"x/a_seed-{seed}_net-b", {"seed": seed}, seed=seed) for seed in (1, 2)]
    runs.append(add("y/a", {"code": 3}, experiment="other.yml"))
    assert [row["run"] for row in rows_of(table(runs))] == ["y/a", "x/a_seed-*_net-b"]


def test_a_table_of_no_runs_says_so() -> None:
    assert table([]) != ""
    assert json.loads(table([], TableQuery(format="json"))) == []


def test_cells_are_printed_as_people_read_them() -> None:
    assert cell_text([3, 5], "value") == "3, 5"
    assert cell_text(1666193, "count") == "1,666,193"
    assert cell_text(2.1099, "minutes") == "2.11"
    assert cell_text(1e-05, "loss") == "1e-05"
    assert cell_text(True, "loss") == "True"
    assert cell_text(None, "loss") == ""
    assert cell_text(float("inf"), "rate") == "inf"


def test_listing_shows_state_progress_and_size(store: Store, add: Add) -> None:
    add("a", {"x": 1}, images=64_000, state="interrupted")
    add("b", {"x": 2})
    (store.root / "broken").mkdir()
    (store.root / "broken" / "run.json").write_text("{")
    found = store.scan()
    states = [entry["state"] for entry in entries(found.runs, found.problems)]
    assert states == ["interrupted", "finished", "unreadable"]
    text = listing(found.runs, problems=found.problems)
    assert "64,000 of 1,000,000" in text
    assert "is not valid JSON" in text
    parsed = json.loads(listing(found.runs, format="json"))
    assert parsed[0]["losses"]["last"]["images"] == 64_000
    assert parsed[0]["bytes"] > 100


def test_ages_and_sizes_are_in_the_fitting_unit() -> None:
    assert [age_words(s) for s in (5, 300, 10_800, 200_000, None)] == [
        *("5 s ago", "5 min ago", "3 h ago", "2 days ago", None)
    ]
    assert [size_words(b) for b in (950, 3_400_000, 12_000, None)] == [
        *("950 B", "3.4 MB", "12 kB", None)
    ]


def test_repeats_that_all_fall_show_their_mean_change_in_an_interval_around_all(add: Add) -> None:
    runs = []
    for seed, factor in ((1, 0.98), (2, 0.99)):
        rows = [
            {"split": "validation", "images": 10_000 * i, "loss": 0.5 * factor**i}
            for i in range(1, 31)
        ]
        runs.append(add(f"s{seed}", {"x": 1, "seed": seed}, rows=rows, seed=seed))
    (row,) = rows_of(table(runs))
    assert row["trend"] == "falling 8.6 % (5.9 to 11) in the last 60,000 images"


def test_the_use_of_a_codebook_is_shown_where_runs_have_one(
    make_runs: Callable[..., list[Run]],
) -> None:
    runs = make_runs({"bottleneck": ["vq", "identity"]})
    assert "codebook" not in table(runs)
    path = runs[0].path / "status.json"
    status = json.loads(path.read_text())
    status["last"] |= {"codebook_usage": 0.8125, "codebook_perplexity": 301.6}
    path.write_text(json.dumps(status))
    opened = [Run.at(run.path) for run in runs]
    first, second = csv.DictReader(io.StringIO(table(opened, TableQuery(format="csv"))))
    assert float(first["codebook used"]) == 0.8125
    assert float(first["codebook perplexity"]) == 301.6
    assert second["codebook used"] == second["codebook perplexity"] == ""
    shown = table(opened, TableQuery(sort=["codebook_usage"]))
    assert "81.2%" in shown and "| 302 |" in " ".join(shown.split())
