"""Maps of points: names that can be read, a scale that one far point does not set."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from aelab.report.scatter import MOST_LISTED, scatter_map, shown_frame, thumbnail_map


def _points(count: int = 200) -> np.ndarray:  # type: ignore[type-arg]
    return np.random.default_rng(0).normal(size=(count, 2))


def test_a_legend_and_the_axes_have_names() -> None:
    labels = np.arange(200) % 3
    figure = scatter_map(_points(), labels, "t", ("first", "second"), ("cat", "dog", "owl"))
    panel = figure.axes[0]
    assert [text.get_text() for text in panel.get_legend().get_texts()] == [
        "cat (67)", "dog (67)", "owl (66)",
    ]  # fmt: skip
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("first", "second")
    assert [text.get_text() for text in panel.texts] == ["cat", "dog", "owl"]
    assert list(panel.get_xticks()) == []


def test_names_do_not_lie_on_each_other_though_their_classes_do() -> None:
    labels = np.arange(200) % 12
    names = [f"class number {i}" for i in range(12)]
    for points in (_points(), np.zeros((200, 2))):
        figure = scatter_map(points, labels, "t", ("a", "b"), names)
        figure.savefig(io.BytesIO(), format="png")
        renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
        boxes = [text.get_bbox_patch().get_window_extent(renderer) for text in figure.axes[0].texts]
        assert len(boxes) == 12
        overlaps = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
        assert not overlaps


def test_points_far_out_stand_at_the_edge_and_are_counted() -> None:
    points = _points()
    points[3], points[4] = (500, 0), (0, -900)
    low, high = shown_frame(points)
    assert (high - low).max() < 15
    figure = scatter_map(points, None, "map")
    assert figure.axes[0].get_title(loc="left") == "map; 2 far out, at the edge"
    plain = scatter_map(_points(), None, "map")
    assert plain.axes[0].get_title(loc="left") == "map"


@pytest.mark.parametrize("points", [np.zeros((1, 2)), np.zeros((30, 2)), np.ones((30, 2)) * 1e12])
def test_one_place_is_a_map(points: np.ndarray) -> None:  # type: ignore[type-arg]
    assert scatter_map(points, np.zeros(len(points), int), "t", names=["$a_{", "b"]).axes
    picture = thumbnail_map(points, [Image.new("L", (8, 8))] * len(points), "t")
    assert np.asarray(picture.convert("L"))[200:, :].min() == 0


def test_more_classes_than_a_legend_holds_have_none() -> None:
    labels = np.arange(200) % (MOST_LISTED + 1)
    assert scatter_map(_points(), labels, "t").axes[0].get_legend() is None


@pytest.mark.parametrize("side", [4, 32, 700])
def test_thumbnails_stand_whole_inside_the_sheet(side: int) -> None:
    points = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    picture = thumbnail_map(points, [Image.new("L", (side, side), 0)] * 4, "t")
    dark = np.asarray(picture.convert("L"))[30:] < 128
    edge = max(dark[0].max(), dark[-1].max(), dark[:, 0].max(), dark[:, -1].max())
    assert not edge
    width = int(dark[20].sum()) // 2  # two images a row
    assert 24 <= width <= 64
    assert int(dark.sum()) == 4 * width * width
