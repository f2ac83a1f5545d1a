"""Options that are given twice: every value counts, or the second is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperOption

from aelab.cli.main import app

Call = Callable[..., Any]
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]


def test_several_globs_select_the_runs_of_each(tiny: Path, aelab: Call) -> None:
    shown = aelab("check", "tiny.yml", "--only", "*0.001", "--only", "*0.002").out
    assert "lr:0.001" in shown and "lr:0.002" in shown
    shown = aelab("check", "tiny.yml", "--only", "*0.002", "--only", "nothing").out
    assert "lr:0.001" not in shown and "lr:0.002" in shown


def test_globs_that_match_nothing_are_all_named(tiny: Path, aelab: Call) -> None:
    code, _, err = aelab("check", "tiny.yml", "--only", "one", "--only", "two")
    assert code == 2 and "no run of tiny.yml matches 'one' or 'two'" in err


def test_stored_runs_are_selected_by_several_globs(tiny: Path, aelab: Call) -> None:
    assert aelab("run", "tiny.yml", "--max-images", "16", "--device", "cpu").code == 0
    both = aelab("table", "--only", "*0.001", "--only", "*0.002", "-c", "lr", "-c", "images").out
    assert [cell.strip() for cell in both.splitlines()[0].split("|")] == ["", "lr", "images", ""]
    assert "0.001" in both and "0.002" in both
    one = aelab("table", "--only", "*0.001", "--only", "nothing").out
    assert "0.001" in one and "0.002" not in one


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_no_option_of_one_value_is_taken_twice(verb: str, tiny: Path, aelab: Call) -> None:
    single = [
        option
        for option in VERBS[verb].params
        if isinstance(option, TyperOption) and not option.multiple and not option.is_flag
    ]
    for option in single:
        code, _, err = aelab(verb, *(option.opts[0], *["2"] * option.nargs) * 2)
        assert code == 2 and f"{' / '.join(option.opts)} is given 2 times" in err


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("plot", "--log-y", "--linear-y"), "--log-y / --linear-y is given 2 times; give one of"),
        (("check", "tiny.yml", "--set", "a=1", "--set", "a=2"), "a is given twice, as 1 and as 2"),
        (("figure", "samples", "x", "-o", "n=1", "-o", "n=2"), "n is given twice, as 1 and as 2"),
        (
            ("evaluate", "-o", "samples.sampler=flow", "--sampler", "prior"),
            "samples.sampler is given twice, as flow and as prior",
        ),
        (("run", "tiny.yml", "--max-images", "3", "--set", "max_images=4"), "max_images is given"),
        (("run", "tiny.yml", "--run-needs", "cpu=1 cpu=2"), "--run-needs: cpu is given twice"),
        (("ui", "here", "--runs", "there"), "two folders of runs, here and --runs there"),
        (("table", "--json", "--format", "csv"), "--json and --format csv are two forms"),
    ],
)
def test_two_values_where_one_would_be_ignored_are_refused(
    words: tuple[str, ...], told: str, tiny: Path, aelab: Call
) -> None:
    code, _, err = aelab(*words)
    assert code == 2 and told in err


def test_equal_values_given_twice_are_one(tiny: Path, aelab: Call) -> None:
    twice = aelab("check", "tiny.yml", "--set", "batch_size=8", "--set", "batch_size=8")
    assert twice.code == 0
