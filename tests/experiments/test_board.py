"""The board of all families is a fair one: equal codes, equal images, nearly equal nets."""

from __future__ import annotations

from functools import cache

import pytest

from aelab import config, lab
from aelab.doctor.plan import RunPlan
from tests.experiments.test_experiment_files import FOLDER

BOARD = FOLDER / "board.yml"
#: Numbers in the code of each family.
CODE = 32


#: The sets; the nets of the second cost as much time again.
SETS = ("mnist", pytest.param("sprites", marks=pytest.mark.slow))


@cache
def plans(ds: str) -> tuple[RunPlan, ...]:
    """The plans of the first seed."""
    return tuple(lab.check(BOARD, only=f"*{ds}*seed:1").runs)


def test_the_board_has_every_family_on_both_sets_with_three_seeds() -> None:
    runs = config.load(BOARD).runs()
    families = {run.matrix["family"] for run in runs}
    assert len(families) >= 40 and len(runs) == 2 * 3 * len(families)
    assert {run.matrix["seed"] for run in runs} == {1, 2, 3}


@pytest.mark.parametrize("ds", SETS)
def test_families_of_a_set_have_parameters_within_ten_percent(ds: str) -> None:
    counts = {str(run.matrix["family"]): run.parameters["model"] for run in plans(ds)}
    assert max(counts.values()) <= 1.1 * min(counts.values()), counts


@pytest.mark.parametrize("ds", SETS)
def test_families_have_codes_of_one_size_and_see_as_many_images(ds: str) -> None:
    sizes = {str(run.matrix["family"]): run.latent_shape for run in plans(ds)}
    assert set(sizes.values()) == {(CODE,)}, sizes
    assert len({run.images for run in plans(ds)}) == 1
    assert not [run.name for run in plans(ds) if run.problems]
