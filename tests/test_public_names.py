"""The public surface is a list, and the list is true."""

from __future__ import annotations

import subprocess
import sys

import pytest

import aelab


def test_the_public_names_are_exactly_these() -> None:
    assert aelab.__all__ == [
        "AelabError", "Lab", "__version__", "check", "evaluate", "figure", "lab", "ls",
        "open_model", "open_run", "plot", "register", "render", "run", "table",
    ]  # fmt: skip
    assert dir(aelab) == sorted(aelab.__all__)


@pytest.mark.parametrize("name", aelab.__all__)
def test_every_public_name_can_be_had(name: str) -> None:
    assert getattr(aelab, name) is not None


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = aelab.nothing


def test_importing_aelab_imports_no_torch() -> None:
    code = "import sys, aelab, aelab.lab; assert 'torch' not in sys.modules, 'torch'"
    subprocess.run([sys.executable, "-c", code], check=True)
