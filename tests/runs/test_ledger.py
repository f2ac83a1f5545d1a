from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from aelab.errors import StoreError
from aelab.runs.ledger import append_rows, read_rows, settled_length, truncate_rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def row(images: int, split: str = "train") -> dict[str, object]:
    return {"images": images, "split": split, "loss": 0.5}


def test_rows_come_back_in_order_and_by_split(path: Path) -> None:
    assert read_rows(path) == [] and settled_length(path) == 0
    append_rows(path, [row(1), row(2, "validation")])
    append_rows(path, [row(3)])
    assert [entry["images"] for entry in read_rows(path)] == [1, 2, 3]
    assert [entry["images"] for entry in read_rows(path, "train")] == [1, 3]
    assert [entry["images"] for entry in read_rows(path, "validation")] == [2]
    assert path.read_text().startswith('{"split": "train", "images": 1')


def test_not_a_number_and_infinity_are_strict_json_and_come_back_as_numbers(path: Path) -> None:
    append_rows(path, [{"split": "train", "loss": math.nan, "kl": math.inf, "x": -math.inf}])
    line = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    assert line["loss"] == "NaN"
    (entry,) = read_rows(path)
    assert math.isnan(entry["loss"]) and entry["kl"] == math.inf and entry["x"] == -math.inf
    assert entry["split"] == "train"


def test_a_torn_last_line_is_not_read_and_is_cut_off_by_the_next_row(path: Path) -> None:
    append_rows(path, [row(1)])
    with path.open("a") as file:
        file.write('{"split": "train", "ima')
    assert len(read_rows(path)) == 1 and len(read_rows(path, "train")) == 1
    append_rows(path, [row(2)])
    assert [entry["images"] for entry in read_rows(path)] == [1, 2]


def test_a_very_long_torn_line_is_cut_off_too(path: Path) -> None:
    append_rows(path, [row(1)])
    with path.open("a") as file:
        file.write("x" * 200_000)
    append_rows(path, [row(2)])
    assert [entry["images"] for entry in read_rows(path)] == [1, 2]
    path.write_text("y" * 200_000)
    append_rows(path, [row(3)])
    assert [entry["images"] for entry in read_rows(path)] == [3]


def test_a_last_line_of_garbage_is_not_read(path: Path) -> None:
    append_rows(path, [row(1)])
    with path.open("ab") as file:
        file.write(b"\0" * 50 + b"\n")
    assert len(read_rows(path)) == 1


def test_garbage_in_the_middle_is_named_by_line(path: Path) -> None:
    append_rows(path, [row(1)])
    with path.open("a") as file:
        file.write("garbage\n")
    append_rows(path, [row(3)])
    with pytest.raises(StoreError, match=r"metrics\.jsonl:2: this line is not valid JSON"):
        read_rows(path)


def test_truncating_forgets_what_came_after_a_checkpoint(path: Path) -> None:
    offset = append_rows(path, [row(1), row(2)])
    assert settled_length(path) == offset
    append_rows(path, [row(3)])
    truncate_rows(path, offset)
    assert [entry["images"] for entry in read_rows(path)] == [1, 2]
    truncate_rows(path, offset)
    with pytest.raises(StoreError, match="rows were deleted by hand"):
        truncate_rows(path, offset + 1)
    truncate_rows(path.with_name("none"), 0)
