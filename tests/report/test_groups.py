"""Only what compares is ranked: groups of one objective and one held-out set."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from aelab.errors import UserError
from aelab.report.comparing import compare, final_objective, terms
from aelab.report.contents import in_table_order, summary
from aelab.report.page import render_page
from aelab.report.query import TableQuery
from aelab.report.tables import make_table, table
from aelab.runs.evaluation import write_evaluation
from aelab.runs.record import Run
from aelab.runs.store import Store

Add = Callable[..., Run]

SOURCE = {"name": "set", "count": 10, "source": "made", "sha256": "ab" * 32, "note": ""}


@pytest.fixture
def add(tmp_path: Path) -> Add:
    """Makes one finished run; `terms` are the unweighted terms of its last validation."""
    store = Store(tmp_path / "runs")

    def make(matrix: dict[str, Any], loss: float | None, **record: Any) -> Run:
        own_terms = record.pop("terms", {})
        held_out = record.pop("held_out", "v")
        folder = "m/" + "_".join(f"{key}-{value}" for key, value in matrix.items())
        number = len(store.list()) + 1
        run = store.create(
            {
                "folder": folder, "name": folder, "identity": folder, "matrix": matrix,
                "matrix_id": f"{number:02d}", "experiment": "m.yml", "max_inputs": 1000,
                "seed": matrix.get("seed", 0), "trial": None, "effect": folder,
                "parameters": {"model": 10}, "objective": "l1", "legacy": [],
                "data": {"train": [SOURCE], "validation": [SOURCE],
                         "validation_content": held_out},
                **record,
            }
        )  # fmt: skip
        scores = {} if loss is None else {
            "last": {"images": 1000, "loss": loss, **own_terms},
            "best": {"images": 1000, "loss": loss},
        }  # fmt: skip
        run.append({"split": "train", "images": 1000, "loss": 0.25})
        run.set_status("finished", images=1000, seconds=1.0, error=None, **scores)
        return run

    return make


@pytest.fixture
def two_sizes(add: Add) -> list[Run]:
    """Two nets at two sizes; each size has held-out images of its own."""
    losses = {(24, "conv"): 0.10, (24, "mlp"): 0.13, (32, "conv"): 0.22, (32, "mlp"): 0.21}
    return [
        add({"res": res, "net": net, "seed": seed}, loss + seed / 1000, held_out=f"v{res}",
            effect=f"{res}{net}")
        for (res, net), loss in losses.items() for seed in (1, 2, 3)
    ]  # fmt: skip


@pytest.fixture
def betas(add: Add) -> list[Run]:
    """A sweep over the weight of the divergence, one seed."""
    return [
        add({"beta": beta}, l1 + beta * kl, objective=f"l1 + {beta:g} kl (reduction=sum)",
            terms={"l1": l1, "kl": kl})
        for beta, l1, kl in ((0.0001, 0.05, 60.0), (0.01, 0.11, 7.0))
    ]  # fmt: skip


def test_each_size_has_a_best_of_its_own(two_sizes: list[Run]) -> None:
    made = make_table(two_sizes)
    verdicts = {(row["matrix.res"], row["matrix.net"]): row["differs"] for row in made.rows}
    assert verdicts == {
        (24, "conv"): "best", (24, "mlp"): "yes", (32, "conv"): "yes", (32, "mlp"): "best"
    }  # fmt: skip
    assert [len(row["meter"]) for row in made.rows] == [1, 21, 21, 1]
    assert [row["group"] for row in made.rows] == ["res=24", "res=24", "res=32", "res=32"]
    assert "Best within each group, at res=24: net=conv (0.102); at res=32: net=mlp (0.212)." in (
        made.notes
    )


@pytest.mark.parametrize("format", ["markdown", "terminal", "html", "csv"])
def test_every_format_names_the_group(two_sizes: list[Run], format: str) -> None:
    text = table(two_sizes, TableQuery(format=format))
    assert "res=24" in text and "res=32" in text
    assert text.count("best") >= 2


def test_json_tells_the_row_with_group_spread_and_verdict(two_sizes: list[Run]) -> None:
    entries = json.loads(table(two_sizes, TableQuery(format="json")))
    assert len(entries) == 12
    row = entries[3]["row"]
    assert row["group"] == "res=24" and row["runs"] == 3
    assert row["validation_loss"] == pytest.approx(0.132) and row["std"] == pytest.approx(0.001)
    assert row["differs_from_best"] == "yes"
    assert row["difference_low_percent"] <= row["difference_percent"] == pytest.approx(29.41, 0.01)
    assert entries[4]["row"] == row and entries[0]["row"]["differs_from_best"] == "best"


def test_csv_has_the_same_names_whatever_the_runs_are(two_sizes: list[Run]) -> None:
    rows = list(csv.DictReader(io.StringIO(table(two_sizes, TableQuery(format="csv")))))
    assert {
        *("id", "ids", "group", "validation loss", "images", "std", "runs", "differs from best"),
        *("difference (%)", "difference low (%)", "difference high (%)"),
    } <= set(rows[0])
    assert (rows[1]["id"], rows[1]["ids"]) == ("04", "04 05 06")
    assert float(rows[1]["difference (%)"]) == pytest.approx(29.41, abs=0.01)
    assert rows[1]["images"] == "1000"


def test_sorting_by_a_loss_keeps_groups_together_and_by_a_setting_does_not(
    two_sizes: list[Run],
) -> None:
    by_loss = make_table(two_sizes, TableQuery(sort=["-loss"])).rows
    assert [(row["matrix.res"], row["matrix.net"]) for row in by_loss] == [
        (24, "mlp"), (24, "conv"), (32, "conv"), (32, "mlp")
    ]  # fmt: skip
    by_net = make_table(two_sizes, TableQuery(sort=["net"])).rows
    assert [row["matrix.net"] for row in by_net] == ["conv", "conv", "mlp", "mlp"]


def test_the_report_names_a_best_for_each_size_and_no_worst_across(two_sizes: list[Run]) -> None:
    told = " ".join(summary(two_sizes))
    assert "Losses here do not compare: different held-out images." in told
    assert "Best validation loss for res=24: 0.101 at 1,000 images (net=conv, seed=1)." in told
    assert "Best validation loss for res=32: 0.211 at 1,000 images (net=mlp, seed=1)." in told
    assert "is 1.32 times that." in told and "2.2" not in told
    _, _, merged = in_table_order(two_sizes)
    assert merged is not None and merged.groups == [0, 0, 1, 1]
    html = render_page(two_sizes, now=datetime(2026, 1, 1, tzinfo=UTC))
    assert 'id="merge" checked' in html and '<div id="each" hidden>' in html


def test_a_sweep_over_a_weight_is_not_ranked_and_shows_each_term(betas: list[Run]) -> None:
    made = make_table(betas)
    keys = [column.key for column in made.columns]
    assert not {"meter", "differs"} & set(keys)
    assert [row["group"] for row in made.rows] == ["beta=0.0001", "beta=0.01"]
    assert [(row["term.l1"], row["term.kl"]) for row in made.rows] == [(0.05, 60.0), (0.11, 7.0)]
    assert "They are not ranked." in made.notes
    told = " ".join(summary(betas))
    assert "Best" not in told and "worst" not in told


def test_an_axis_that_separates_only_some_groups_is_named_only_there(add: Add) -> None:
    contents = {(28, False): "28", (28, True): "28", (20, False): "20n", (20, True): "20b"}
    runs = [
        add({"lr": lr, "res": res, "aa": aa}, lr, held_out=content)
        for lr in (0.1, 0.2)
        for (res, aa), content in contents.items()
    ]
    compared = compare([run.record for run in runs])
    assert compared.names == ["res=28", "res=20, aa=False", "res=20, aa=True"]
    assert compared.axes == ("res", "aa")
    assert compared.group == [0, 0, 1, 2, 0, 0, 1, 2]


def test_a_warm_up_does_not_keep_losses_apart_but_weight_and_options_do() -> None:
    same = ("l1 + 4 kl", "l1 + 4 kl (warmup_images=40000)")
    assert compare([{"objective": text} for text in same]).is_one
    with_options = ("l1 + 4 kl (reduction=sum)", "l1 + 4 kl (reduction=sum, warmup_images=9)")
    assert compare([{"objective": text} for text in with_options]).is_one
    for other in ("l1 + 2 kl", "l1 + 4 kl (free_bits_nats=1)", "l2 + 4 kl"):
        assert not compare([{"objective": "l1 + 4 kl"}, {"objective": other}]).is_one


def test_legacy_formulas_and_modes_are_apart() -> None:
    records: list[dict[str, Any]] = [
        {"objective": "l1", "legacy": []},
        {"objective": "l1", "legacy": ["validation"]},
    ]
    compared = compare(records)
    assert compared.names == ["legacy=no", "legacy=validation"]
    assert compared.reason is not None and "legacy formulas in some (validation)" in compared.reason


def test_sets_without_a_hash_are_told_apart_by_name_and_count() -> None:
    def record(name: str, count: int) -> dict[str, Any]:
        return {"data": {"validation": [{"name": name, "count": count}]}, "shape": [1, 8, 8]}

    assert compare([record("a", 10), record("a", 10)]).is_one
    assert not compare([record("a", 10), record("a", 20)]).is_one
    assert not compare([record("a", 10), record("b", 10)]).is_one


def test_terms_are_read_from_the_objective_in_words() -> None:
    text = "l1 + 0.001 kl (gaussian_kl, reduction=sum) + -1e-05 own (Net( (0): a + b ), x=1)"
    assert terms({"objective": text}) == ["l1", "kl", "own"]
    assert terms({}) == []
    assert final_objective({"objective": "l1 + 2 kl (warmup_images=10)"}) == "l1 + 2 kl"


def test_an_average_over_what_does_not_compare_ranks_equal_averages(add: Add) -> None:
    runs = [
        add({"lr": lr, "ds": ds}, loss, held_out=ds)
        for lr, pair in ((0.1, (0.5, 0.7)), (0.2, (0.4, 0.6)))
        for ds, loss in zip(("a", "b"), pair, strict=True)
    ]
    made = make_table(runs, TableQuery(average="ds"))
    assert [row["group"] for row in made.rows] == ["ds=a + ds=b"] * 2
    assert [len(row["meter"]) for row in made.rows] == [21, 1]


def test_a_run_without_validation_shows_its_training_loss_unranked(add: Add) -> None:
    made = make_table([add({"x": 1}, None), add({"x": 2}, None)])
    headers = [column.header for column in made.columns]
    assert "training loss" in headers and "meter" not in headers
    assert [row["train_loss"] for row in made.rows] == [0.25, 0.25]
    assert "There is no validation; the training loss" in summary([add({"x": 3}, None)])[1]


def test_runs_that_repeat_others_exactly_count_once_and_the_axis_is_named(add: Add) -> None:
    runs = [
        add({"dropuot": typo, "seed": seed}, 0.1 + seed / 100, effect="e")
        for typo in (0, 1, 2, 3)
        for seed in (1, 2)
    ]
    (row,) = make_table(runs).rows
    assert row["n"] == 2
    assert row["spread"] == pytest.approx(0.01 / 2**0.5)
    note = "6 runs repeat others exactly (dropuot changed nothing there) and do not count again"
    assert note in make_table(runs).notes
    assert len(make_table(runs, TableQuery(each=True)).rows) == 8


def test_repeats_of_one_seed_with_other_losses_are_repeats(add: Add) -> None:
    runs = [add({"aa": aa}, loss, effect="e") for aa, loss in ((True, 0.1), (False, 0.2))]
    (row,) = make_table(runs).rows
    assert row["n"] == 2 and row["loss"] == pytest.approx(0.15)


@pytest.mark.parametrize(
    "text", ["=1+1", "+1+1", "-1+cmd", "@SUM(A1)", "\t=1", "\r=1", " =1", "\uff1d1+1"]
)
def test_text_is_no_formula_in_csv(add: Add, text: str) -> None:
    shown = table([add({"k": text, "=key": 1}, 0.5)], TableQuery(format="csv"))
    (row,) = csv.DictReader(io.StringIO(shown))
    assert row["k"].startswith("'") and row["'=key"] == "1"


def test_numbers_stay_numbers_in_csv(add: Add) -> None:
    (row,) = csv.DictReader(
        io.StringIO(table([add({"k": -3, "t": "-1e-3"}, -0.5)], TableQuery(format="csv")))
    )
    assert (row["k"], row["t"], row["validation loss"]) == ("-3", "-1e-3", "-0.5")


def test_files_of_many_different_keys_make_no_wide_table(add: Add) -> None:
    first = {"lr": 0.1, "a": 1, "b": 2, "c": "x"}
    second = {"lr": 0.2, "d": 1, "e": 2, "f": [1, 2]}
    runs = [add(first, 0.2), add(second, 0.3, experiment="other.yml")]
    text = table(runs)
    assert "| lr | settings" in " ".join(text.split())
    assert "| a=1, b=2, c=x " in text and "| d=1, e=2, f=1, 2 " in text
    (row, _) = csv.DictReader(io.StringIO(table(runs, TableQuery(format="csv"))))
    assert {"a", "b", "c", "d", "e", "f"} <= set(row)
    assert "| a | b | c |" in " ".join(table([add(first | {"g": 1}, 0.2)] * 1).split())
    by_key = make_table(runs, TableQuery(sort=["-a"]), fold=True)
    assert by_key.rows[0]["settings"] == "a=1, b=2, c=x"


def test_bounds_of_different_numbers_of_samples_are_not_ranked() -> None:
    one, fifty = ({"objective": "iwae_bound", "samples": n, "matrix": {"k": n}} for n in (1, 50))
    assert compare([one, fifty]).names == ["k=1", "k=50"]
    assert compare([{"objective": "l1", "samples": 1}, {"objective": "l1", "samples": 2}]).is_one


def test_held_out_images_that_are_changed_at_random_are_others() -> None:
    same: dict[str, Any] = {"validation_content": "v"}
    turned = {**same, "validation_augmentation": ["rotate(45)"]}
    assert not compare([{"data": same}, {"data": turned}]).is_one


def test_a_run_that_has_not_ended_is_not_called_the_best_of_its_group(add: Add) -> None:
    runs = [
        add({"ds": ds, "net": net}, loss, held_out=ds)
        for ds in ("a", "b")
        for net, loss in (("x", 0.1), ("y", 0.2), ("z", 0.3))
    ]
    runs[0].set_status("interrupted")
    opened = [Run.at(run.path, run.folder) for run in runs]
    note = make_table(opened).notes[1]
    assert note == "Best within each group, at ds=a: net=y (0.2); at ds=b: net=x (0.1)."


def test_held_out_images_that_change_with_the_seed_are_groups_by_seed(add: Add) -> None:
    runs = [
        add({"net": net, "seed": seed}, 0.1, held_out=str(seed), effect=f"{net}{seed}")
        for net in ("a", "b")
        for seed in (1, 2)
    ]
    assert [row["group"] for row in make_table(runs).rows] == ["seed=1", "seed=2"] * 2


def test_the_report_calls_no_repeat_the_worst_and_nothing_one_times_the_best(add: Add) -> None:
    seeds = [add({"seed": seed}, 0.3 + seed / 100, effect="e") for seed in (1, 2, 3)]
    told = " ".join(summary(seeds))
    assert "Best validation loss: 0.31 at 1,000 images (seed=1)." in told and "worst" not in told
    equal = [add({"lr": lr}, 0.3 + lr / 1000) for lr in (0.1, 0.2)]
    assert "worst" not in " ".join(summary(equal))
    far = [add({"net": net}, loss) for net, loss in (("a", 0.3), ("b", 0.33))]
    assert "The worst (net=b) is 1.1 times that." in " ".join(summary(far))


def test_a_group_is_not_named_by_an_axis_that_its_runs_do_not_have(add: Add) -> None:
    runs = [
        *(add({"beta": beta}, 0.1, objective=f"l1 + {beta:g} kl") for beta in (0.1, 0.2)),
        *(add({"res": res}, 0.1, held_out=f"v{res}") for res in (24, 32)),
    ]
    assert compare([run.record for run in runs]).names == [
        "beta=0.1", "beta=0.2", "res=24", "res=32"
    ]  # fmt: skip
    one_without = [
        add({"ds": "a", "x": 1}, 0.1, held_out="a"),
        add({"ds": None, "x": 1}, 0.1, held_out="b"),
    ]
    assert compare([run.record for run in one_without]).names == ["ds=a", "ds=-"]


@pytest.mark.parametrize("format", ["csv", "json"])
def test_averages_have_names_that_do_not_change_with_the_runs(add: Add, format: str) -> None:
    runs = [add({"net": "a", "seed": seed}, 0.1 * seed) for seed in (1, 2)]
    text = table(runs, TableQuery(average="seed", average_std=["loss"], format=format))
    row = (json.loads(text) if format == "json" else list(csv.DictReader(io.StringIO(text))))[0]
    named = {name: float(row[name]) for name in row if "loss" in name}
    assert named["validation loss"] == pytest.approx(0.15) and int(row["images"]) == 1000
    assert named["validation loss (min)"] == pytest.approx(0.1)
    assert not [name for name in row if "1,000" in name]


def test_a_training_loss_is_that_of_the_final_objective(add: Add) -> None:
    run = add({"x": 1}, None)
    run.append({"split": "train", "images": 1000, "loss": 0.1, "loss_final": 0.4})
    assert make_table([run]).rows[0]["train_loss"] == 0.4


def test_a_validation_over_a_part_does_not_compare_with_one_over_all() -> None:
    data = {"train": [SOURCE], "validation": [SOURCE], "validation_content": "v"}
    records = [{"objective": "l1", "data": d} for d in (data, {**data, "validation_limit": 5})]
    assert compare(records).group == [0, 1]
    assert compare(records).reason == "Losses here do not compare: different held-out images."


def test_an_average_is_over_finished_runs_and_one_over_a_part_is_not_ranked(add: Add) -> None:
    runs = [add({"net": net, "lr": lr}, loss) for net, lr, loss in (
        ("a", 1, 0.2), ("a", 2, 0.4), ("b", 1, 0.3), ("b", 2, 0.5), ("c", 1, 0.1), ("c", 2, 0.9)
    )]  # fmt: skip
    runs[-1].set_status("interrupted", images=500)
    rows = make_table(runs, TableQuery(average="lr")).rows
    assert [row["loss"] for row in rows] == pytest.approx([0.3, 0.4, 0.1])
    assert [row["num"] for row in rows] == [2, 2, 1]
    assert [len(row["meter"] or "") for row in rows] == [1, 21, 0]
    assert rows[2]["state"] == "1 finished, 1 interrupted"


def test_intervals_of_included_terms_are_those_of_student(add: Add) -> None:
    losses = {"a": (0.1, 0.2, 0.3), "b": (0.5, 0.5, 0.5)}
    runs = [
        add({"net": net, "seed": seed}, 0.1, effect=net, terms={"l2": value})
        for net, values in losses.items()
        for seed, value in enumerate(values, 1)
    ]
    asked = TableQuery(columns=["net", "l2", "runs"], interval=True, format="csv")
    first, second = csv.DictReader(io.StringIO(table(runs, asked)))
    assert list(first) == ["net", "l2", "l2 ±95%", "runs"]
    assert (first["net"], float(first["l2"]), first["runs"]) == ("a", pytest.approx(0.2), "3")
    # t with 2 degrees of freedom is 4.3027; the standard deviation is 0.1
    assert float(first["l2 ±95%"]) == pytest.approx(4.3027 * 0.1 / 3**0.5, rel=0.01)
    assert float(second["l2 ±95%"]) == 0


def test_a_table_of_chosen_columns_has_them_in_their_order(add: Add) -> None:
    run = add({"net": "a", "x": 1}, 0.1, terms={"l2": 0.2}, objective="l1")
    run.set_status("finished", cpu_seconds=90.0)
    asked = TableQuery(columns=["cpu_minutes", "l2", "x", "usage"])
    made = make_table([run], asked)  # no codebook: its column has no values
    assert [column.header for column in made.columns] == ["CPU minutes", "l2", "x"]
    assert [made.rows[0][column.key] for column in made.columns] == [1.5, 0.2, 1]
    with pytest.raises(UserError, match="no run has logged 'l3'"):
        make_table([run], TableQuery(columns=["l3"]))


@pytest.mark.parametrize("other", [{"each": True}, {"average": "x"}])
def test_intervals_need_merged_runs(add: Add, other: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="--interval is about runs merged into one row"):
        make_table([add({"x": 1}, 0.1)], TableQuery(interval=True, **other))


def test_a_result_of_evaluate_is_found_beside_a_term_of_its_name(add: Add) -> None:
    run = add({"x": 1}, 0.1, terms={"l2": 20.0})
    write_evaluation(
        run,
        {"heldout_images": 10, "images_are": "drawn"},
        {"reproduction": {"values": {"l2": 0.2}}},
    )
    (row,) = make_table([run], TableQuery(include=["l2", "evaluated_l2"])).rows
    assert (row["term.l2"], row["term.evaluated_l2"]) == (20.0, 0.2)
