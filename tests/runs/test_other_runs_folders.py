"""A folder of runs in place of a run: the message says how to look there."""

from __future__ import annotations

from pathlib import Path

import pytest

from aelab.errors import StoreError
from aelab.runs.store import Store


def test_another_folder_of_runs_is_told_with_the_option(tmp_path: Path) -> None:
    other = Store(tmp_path / "other runs")
    for name in ("a", "b"):
        other.create({"folder": f"x/{name}", "identity": name, "matrix": {}, "name": name})
    with pytest.raises(StoreError, match="it is a folder of 2 runs") as told:
        Store(tmp_path / "runs").select([tmp_path / "other runs"])
    assert told.value.hint == f"add --runs '{tmp_path}/other runs'"
    assert len(other.select([tmp_path / "other runs"])) == 2
