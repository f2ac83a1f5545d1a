"""Plots say what was logged: the same numbers, named lines, the right axes, equal bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.colors import to_hex

from aelab.analysis.curves import Curve
from aelab.errors import UserError
from aelab.report import plots, series
from aelab.report.gallery import Pictures
from aelab.report.pictures import choose_steps, reproduction_sheet, steps
from aelab.runs.record import Run

Make = Callable[..., list[Run]]


def _lines(figure, panel: int = 0):
    """Lines that carry a label, without the crosses of diverged runs."""
    return [line for line in figure.axes[panel].get_lines() if not line.get_label().startswith("_")]


def _legend(figure) -> list[str]:
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def test_each_line_holds_exactly_the_logged_values(make_runs: Make) -> None:
    runs = make_runs({"ds": ["mnist", "rpg"]}, pictures=0)
    figure = plots.plot(runs)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["train", "validation"]
    for panel, split in enumerate(("train", "validation")):
        drawn = {line.get_label(): line for line in _lines(figure, panel)}
        assert set(drawn) == {"mnist", "rpg"}
        for name, run in zip(("mnist", "rpg"), runs, strict=True):
            rows = run.metrics(split)
            assert list(drawn[name].get_xdata()) == [row["images"] for row in rows]
            assert list(drawn[name].get_ydata()) == [row["loss"] for row in rows]


def test_the_legend_reads_like_the_ends_of_the_lines(make_runs: Make) -> None:
    figure = plots.plot(make_runs({"lr": [0.001, 0.0003, 0.01]}, pictures=0))
    assert _legend(figure) == ["0.01", "0.0003", "0.001"]  # highest last loss first
    assert figure.legends[0].get_title().get_text() == "lr"


@pytest.mark.parametrize(
    ("clock", "label"), [("images", "images seen"), ("seconds", "training seconds")]
)
def test_axes_carry_units(make_runs: Make, clock: str, label: str) -> None:
    runs = make_runs({}, pictures=0)
    figure = plots.plot(runs, term="kl", x=clock)  # type: ignore[arg-type]
    assert figure.axes[0].get_xlabel() == label
    assert figure.axes[0].get_ylabel() == "kl (nats per image)"
    assert list(_lines(figure)[0].get_xdata()) == [row[clock] for row in runs[0].metrics("train")]


def test_a_run_can_name_the_unit_of_its_terms(make_runs: Make) -> None:
    runs = make_runs({}, pictures=0, record={"units": {"l1": "mean per pixel"}})
    assert plots.plot(runs, term="l1").axes[0].get_ylabel() == "l1 (mean per pixel)"


def test_the_y_axis_is_logarithmic_where_it_helps_and_as_told_otherwise(make_runs: Make) -> None:
    long = make_runs({"a": [1, 2]}, images=600_000, every=10_000, pictures=0)
    assert plots.plot(long).axes[0].get_yscale() == "log"
    assert plots.plot(long, log_y=False).axes[0].get_yscale() == "linear"
    assert plots.plot(long, log_x=True).axes[0].get_xscale() == "log"
    assert plots.plot(long, term="learnrate").axes[0].get_yscale() == "linear"


def test_log_helps_only_for_positive_values_of_a_wide_range() -> None:
    assert series.log_helps([1.0, 9.0])
    assert not series.log_helps([1.0, 7.0])
    assert not series.log_helps([0.0, 9.0])
    assert not series.log_helps([math.nan])


def test_a_term_of_one_split_has_one_panel(make_runs: Make) -> None:
    figure = plots.plot(make_runs({}, pictures=0), term="learnrate")
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["train"]


def test_trials_become_a_band_around_their_mean(make_runs: Make) -> None:
    runs = make_runs({"ds": ["mnist"]}, trials=3, pictures=0)
    figure = plots.plot(runs, splits=("validation",))
    (line,) = _lines(figure)
    losses = [[row["loss"] for row in run.metrics("validation")] for run in runs]
    means = [sum(values) / 3 for values in zip(*losses, strict=True)]
    assert list(line.get_ydata()) == pytest.approx(means)
    (band,) = figure.axes[0].collections
    heights = [y for path in band.get_paths() for y in path.vertices[:, 1]]
    assert min(heights) == pytest.approx(min(map(min, losses)))
    assert max(heights) == pytest.approx(max(map(max, losses)))
    assert len(_lines(plots.plot(runs, band=False))) == 3


def test_a_seed_in_the_matrix_makes_a_band_and_is_not_in_its_name(make_runs: Make) -> None:
    runs = make_runs({"ds": ["a", "b"], "seed": [1, 2]}, images=10_000, pictures=0)
    figure = plots.plot(runs)
    assert _legend(figure) == ["b (2 runs)", "a (2 runs)"]
    assert figure.legends[0].get_title().get_text() == "ds"
    assert len(_legend(plots.plot(runs, band=False))) == 4


def test_a_half_finished_repeat_does_not_end_the_band() -> None:
    curves = [Curve([1, 2, 3], [1.0, 2.0, 3.0]), Curve([1, 2], [3.0, math.nan])]
    clock, low, mean, high = plots.mean_and_band(curves)
    assert clock == [1, 2, 3]
    assert (low, mean, high) == ([1.0, 2.0, 3.0], [2.0, 2.0, 3.0], [3.0, 2.0, 3.0])


def test_a_group_has_one_colour_a_value(make_runs: Make) -> None:
    runs = make_runs({"ds": ["mnist", "rpg"], "lr": [0.1, 0.2]}, pictures=0)
    figure = plots.plot(runs, group="ds")
    colours = [to_hex(line.get_color()) for line in _lines(figure)]
    assert colours == [series.PALETTE[0]] * 2 + [series.PALETTE[1]] * 2
    assert _legend(figure) == ["mnist", "rpg", "lr=0.1", "lr=0.2"]


def test_lines_of_one_colour_differ_in_their_dash(make_runs: Make) -> None:
    runs = make_runs({"net": ["conv", "mlp"], "res": [24, 32], "seed": [0, 1]}, pictures=0)
    heading, lines = plots.make_lines(runs, group="net", band=False)
    looks = {(line.colour, line.dash, line.marker) for line in lines}
    assert (heading, len(looks)) == ("net, res, seed", 4)
    assert {line.rest for line in lines} == {"res=24", "res=32"}
    assert len({line.dash for line in lines if line.rest == "res=24"}) == 1


def test_after_all_dashes_come_markers(make_runs: Make) -> None:
    runs = make_runs({"net": ["conv", "mlp"], "code": list(range(9))}, pictures=0)
    _, lines = plots.make_lines(runs, group="net")
    assert len({(line.colour, line.dash, line.marker) for line in lines}) == 18
    figure = plots.plot(runs, group="net")
    assert len(_legend(figure)) == 2 + 9


def test_a_group_without_other_keys_has_no_dashes(make_runs: Make) -> None:
    runs = make_runs({"net": ["conv", "mlp"]}, pictures=0)
    assert all(line.dash == () for line in plots.make_lines(runs, group="net")[1])
    assert _legend(plots.plot(runs, group="net")) == ["conv", "mlp"]


def test_ordered_numbers_get_an_ordered_scale(make_runs: Make) -> None:
    runs = make_runs({"res": [32, 8, 16]}, pictures=0)
    assert list(series.group_colours(runs, "res")) == ["8", "16", "32"]


def test_36_lines_can_be_told_apart(make_runs: Make) -> None:
    matrix = {"ds": ["a", "b", "c"], "aa": [False, True], "res": [20, 28, 32], "lr": [0.1, 0.2]}
    figure = plots.plot(make_runs(matrix, images=20_000, pictures=0))
    looks = {(line.get_color(), line._unscaled_dash_pattern[1]) for line in _lines(figure)}
    assert len(looks) == len(_legend(figure)) == 36


def test_nan_ends_a_line_with_a_cross_and_unfinished_runs_are_drawn(make_runs: Make) -> None:
    runs = make_runs({"a": [1, 2]}, nan_at={0: 60_000}, running=[1], pictures=0)
    figure = plots.plot(runs, splits=("train",))
    crosses = [line for line in figure.axes[0].get_lines() if line.get_marker() == "x"]
    assert [list(cross.get_xdata()) for cross in crosses] == [[59_000]]
    assert max(_lines(figure)[1].get_xdata()) == 100_000


def test_smoothing_is_off_by_default_and_unbiased(make_runs: Make) -> None:
    assert plots.smoothed([2.0, 2.0, math.nan, 2.0], 0.9)[:2] == pytest.approx([2.0, 2.0])
    runs = make_runs({}, pictures=0)
    assert len(plots.plot(runs).axes[0].get_lines()) == 1
    assert len(plots.plot(runs, smooth=0.5).axes[0].get_lines()) == 2


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_equal_runs_give_equal_bytes(make_runs: Make, tmp_path: Path, ending: str) -> None:
    runs = make_runs({"a": [1, 2]}, images=50_000, pictures=0)
    first = plots.save_figure(
        plots.plot(runs, title="t"), tmp_path / f"new/one.{ending}"
    ).read_bytes()
    second = plots.save_figure(plots.plot(runs, title="t"), tmp_path / f"two.{ending}").read_bytes()
    assert first == second
    assert first.startswith(b"\x89PNG" if ending == "png" else b"<?xml")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"term": "lss"}, ["'lss'", "loss", "did you mean 'loss'", "kl"]),
        ({"group": "ts"}, ["'ts'", "ds"]),
        ({"x": "epoch"}, ["'epoch'", "images, seconds"]),
        ({"splits": ("test",)}, ["'test'", "train, validation"]),
        ({"term": "learnrate", "splits": ("validation",)}, ["learnrate", "validation"]),
        ({"smooth": 1.5}, ["1.5", "0 (off)"]),
    ],
)
def test_a_mistake_names_what_is_possible(make_runs: Make, arguments, words: list[str]) -> None:
    runs = make_runs({"ds": ["a", "b"]}, images=10_000, pictures=0)
    with pytest.raises(UserError) as caught:
        plots.plot(runs, **arguments)
    assert all(word in str(caught.value) for word in words)


def test_runs_without_metrics_say_so(make_runs: Make) -> None:
    with pytest.raises(UserError, match="have logged nothing yet"):
        plots.plot(make_runs({}, images=0, pictures=0))


def test_other_endings_are_refused(make_runs: Make, tmp_path: Path) -> None:
    figure = plots.plot(make_runs({}, images=10_000, pictures=0))
    with pytest.raises(UserError, match=r"\.png or \.svg"):
        plots.save_figure(figure, tmp_path / "plot.gif")


def test_thinning_keeps_ends_extremes_and_gaps() -> None:
    values = [float(i % 10) for i in range(5000)]
    values[1234], values[3456] = 99.0, math.nan
    kept = series.thin(values, 1000)
    assert len(kept) <= 1000
    assert {0, 1234, 3456, 4999} <= set(kept)
    assert series.thin(values[:1000], 1000) == list(range(1000))


def test_labels_name_what_varies_and_fall_back_to_names(make_runs: Make) -> None:
    heading, names = series.labels(make_runs({"ds": ["a", "b"], "res": [28]}, pictures=0))
    assert (heading, names) == ("ds", ["a", "b"])
    same = make_runs({}, name="one", pictures=0) + make_runs({}, name="two", pictures=0)
    assert series.labels(same) == ("", ["one/only", "two/only"])


def test_labels_of_runs_with_other_keys_name_only_what_each_has(make_runs: Make) -> None:
    mixed = make_runs({"ds": ["a"], "seed": [1, 2]}, name="one", pictures=0)
    mixed += make_runs({"size": [16]}, name="two", pictures=0)
    assert series.labels(mixed) == ("", ["ds=a, seed=1", "ds=a, seed=2", "size=16"])
    assert series.labels(mixed, repeats=False) == ("", ["ds=a", "ds=a", "size=16"])


def test_a_sheet_shows_originals_once_and_each_run_below(make_runs: Make) -> None:
    import io

    from PIL import Image

    runs = make_runs({"ds": ["a", "b"]}, shape=(3, 8, 8))
    data = reproduction_sheet(runs, scale=2, count=10)
    assert data == reproduction_sheet(runs, scale=2, count=10)
    sheet = Image.open(io.BytesIO(data))
    left = sheet.width - 6 - (10 * (16 + 2) - 2)  # ten images of 16 pixels, gaps of 2
    assert 20 < left <= 190
    last = Image.open(steps(runs[1], "heldout")[200_000]).crop((8, 0, 16, 8)).resize((16, 16), 0)
    assert sheet.height > 3 * 16
    found = [
        top
        for top in range(sheet.height - 16)
        if sheet.crop((left + 18, top, left + 34, top + 16)).tobytes() == last.tobytes()
    ]
    assert len(found) == 1


def test_what_a_model_saw_stands_above_its_reproductions(make_runs: Make) -> None:
    runs = make_runs({"ds": ["a", "b"]}, shape=(3, 8, 8))
    plain = reproduction_sheet(runs, scale=1, count=4)
    (group,) = Pictures(runs).splits["heldout"]["groups"]
    assert all("inputs" not in entry for entry in group["runs"])
    stored = steps(runs[1], "heldout")[200_000].read_bytes()
    (runs[1].path / "images" / "heldout-inputs.png").write_bytes(stored)
    assert reproduction_sheet(runs, scale=1, count=4) != plain
    pictures = Pictures(runs)
    (group,) = pictures.splits["heldout"]["groups"]
    first, second = group["runs"]
    assert "inputs" not in first and 0 <= second["inputs"] < len(pictures.addresses)


def test_a_sheet_needs_pictures_and_a_known_split(make_runs: Make) -> None:
    runs = make_runs({}, pictures=0)
    with pytest.raises(UserError, match="reproductions of held-out images"):
        reproduction_sheet(runs)
    with pytest.raises(UserError, match="heldout, train"):
        reproduction_sheet(runs, split="test")


def test_chosen_moments_hold_the_first_and_the_last() -> None:
    stored = [dict.fromkeys(range(1, 31), Path("x")), {}]
    chosen = choose_steps(stored, 8)
    assert len(chosen) == 8
    assert (chosen[0], chosen[-1]) == (1, 30)
    assert choose_steps(stored, 1) == [30]
