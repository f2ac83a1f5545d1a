"""What every test shares: nothing outside of its own folders is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The key by which aelab knows its own runs again, of these tests alone."""
    path = tmp_path_factory.mktemp("key") / "own-runs.key"
    os.environ["AELAB_KEY"] = str(path)
    return path


@pytest.fixture(scope="session", autouse=True)
def one_job() -> None:
    """`aelab run` in this process unless a test says otherwise, however idle the machine is."""
    os.environ["AELAB_JOBS"] = "1"
