"""`aelab figure NAME RUN RUN...`: one sheet of several runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def trained(tiny: Path, aelab: Call) -> Path:
    assert aelab("run", str(tiny), "--device", "cpu")[0] == 0
    return tiny


def height_of(path: str) -> int:
    with Image.open(path) as picture:
        return picture.height


def test_reproductions_stand_under_their_originals_once(trained: Path, aelab: Call) -> None:
    code, out, err = aelab("figure", "reproductions", "tiny/*", "--out", "all.png", "-o", "count=3")
    assert (code, err, out) == (0, "", "all.png\n")
    one = aelab("figure", "reproductions", "tiny/*", "--only", "*lr-0.001", "-o", "count=3")
    assert one[:2] == (0, "runs/reproductions.png\n")
    # Rows are equally high: an original and two runs, an original and one.
    gaps = height_of("all.png") - height_of("runs/reproductions.png")
    assert gaps == 48 + 6


def test_runs_may_be_named_one_by_one_with_a_state(trained: Path, aelab: Call) -> None:
    words = ("tiny/lr-0.001@latest", "tiny/lr-0.002")
    code, _, err = aelab("figure", "sample", *words, "--out", "s.png", "-o", "count=4")
    assert (code, err) == (0, "")
    code, _, err = aelab("figure", "interpolation", *words, "--out", "i.png", "-o", "steps=4")
    assert (code, err) == (0, "")
    with Image.open("s.png") as first, Image.open("i.png") as second:
        assert first.size == second.size


def test_an_experiment_file_means_all_of_its_runs(trained: Path, aelab: Call) -> None:
    assert aelab("figure", "reproductions", "tiny.yml", "--out", "f.png")[0] == 0
    assert height_of("f.png") > 3 * 48


def test_what_cannot_be_shown_of_several_is_told(trained: Path, aelab: Call) -> None:
    code, _, err = aelab("figure", "map", "tiny/*")
    assert code != 0 and "shows one run" in err and "reproductions" in err
    code, _, err = aelab("figure", "sample", "tiny/*", "-o", "cuont=3")
    assert code != 0 and "did you mean 'count'" in err
    code, _, err = aelab("figure", "sample", "nothing/*")
    assert code != 0 and "nothing" in err


def test_the_list_says_which_figures_show_several(aelab: Call) -> None:
    code, out, _ = aelab("figure", "--list")
    assert code == 0
    line = next(line for line in out.splitlines() if line.startswith("reproductions"))
    assert line.rstrip().endswith("yes")
