"""A fresh cache and data folder for each test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def nothing_outside(data_folder: Path) -> None:
    """Each test of this room has an empty `data_folder`."""
