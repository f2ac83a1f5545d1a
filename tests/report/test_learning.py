"""The report says where runs go and what their passes have brought."""

from __future__ import annotations

from aelab.report.learning import learning, still_learning
from aelab.report.page import moment, render_page
from aelab.report.tables import make_table
from tests.report.conftest import Make

SET = {"name": "small", "source": "small.gz", "count": 10_000, "sha256": "0" * 64, "note": ""}
DATA = {"train": [SET], "validation": [SET]}


def test_a_running_run_has_a_forecast_and_all_tell_of_their_passes(make_runs: Make) -> None:
    runs = make_runs({"lr": [0.1, 0.2]}, images=400_000, running=[1], record={"data": DATA})
    table = make_table(runs)
    cells = {row["matrix.lr"]: row["forecast"] for row in table.rows}
    assert cells[0.1] is None
    low, high = cells[0.2].partition("(")[2].partition(")")[0].split(" to ")
    assert 0 < float(low) <= float(high) < 0.04
    assert "0.0" in cells[0.2] and (" will " in cells[0.2] or " with a chance " in cells[0.2])
    assert any("h left" in str(row["state"]) or "left" in str(row["state"]) for row in table.rows)

    finished, going = learning(runs)
    assert going.sentences[0].startswith("It will end near 0.0")
    assert going.sentences[1].startswith("20 passes over 10,000 images: 90 % of the fall")
    assert finished.sentences[0].startswith("40 passes over 10,000 images")
    assert "Passes over the data" in render_page(runs, now=moment())


def test_images_that_still_improve_are_counted_from_stored_pictures(make_runs: Make) -> None:
    sharper = make_runs(name="sharper", pictures=4)[0]
    assert still_learning(sharper) == (16, 16, 150_000)
    assert still_learning(make_runs(name="none", pictures=0)[0]) is None
