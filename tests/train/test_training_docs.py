"""The examples of docs/training.md run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "training.md"


def test_the_examples_of_the_page_run(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    for block in blocks:  # each goes on where the one before ends
        exec(compile(block, str(PAGE), "exec"), names)
    told = capsys.readouterr().out
    assert "best so far" in told and re.search(r"^0 0\.\d+$\n^1 0\.\d+$", told, re.MULTILINE)
