from __future__ import annotations

import math

import pytest

from aelab.analysis.curves import Curve, columns, curve, in_blocks, judged, term_names

ROWS = [
    {"split": "train", "images": 10, "seconds": 0.5, "epoch": 0, "loss": 3.0, "kl": None},
    {"split": "train", "images": 20, "seconds": 1.5, "epoch": 1, "loss": math.nan, "l1": 0.5},
]


def test_rows_become_columns_of_equal_length() -> None:
    found = columns(ROWS)
    assert found["images"] == [10.0, 20.0]
    assert "split" not in found
    assert math.isnan(found["l1"][0]) and found["l1"][1] == 0.5
    assert all(len(values) == 2 for values in found.values())
    assert columns([]) == {}


def test_a_curve_is_a_term_over_a_clock() -> None:
    assert curve(ROWS, "l1", "seconds") == Curve([1.5], [0.5])
    assert curve(ROWS).x == [10.0, 20.0]
    assert curve(ROWS, "nothing") == Curve([], [])


def test_clocks_are_no_terms() -> None:
    assert term_names(ROWS) == ["loss", "kl", "l1"]


def test_blocks_are_means_of_neighbours_and_lose_no_point() -> None:
    points = Curve([float(i) for i in range(10)], [float(i * i) for i in range(10)])
    blocks = in_blocks(points, 3)
    assert len(blocks.x) == 3
    assert blocks.x[0] == pytest.approx(1.0)
    assert in_blocks(points, 10) is points
    assert in_blocks(points, 5).y[0] == pytest.approx(0.5)


def test_training_rows_of_a_warm_up_are_judged_by_the_final_weights() -> None:
    rows = [{"images": 1, "loss": 0.1, "loss_final": 0.5}, {"images": 2, "loss": 0.4}]
    assert curve(judged(rows)).y == [0.5, 0.4]
    assert rows[0]["loss"] == 0.1
