"""The tiny model of the training tests, for the validation of the documents."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_PLACE = Path(__file__).parents[1] / "train" / "conftest.py"
_SPEC = importlib.util.spec_from_file_location("conftest_of_train", _PLACE)
assert _SPEC is not None and _SPEC.loader is not None
_MODULE = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_MODULE)

tiny = _MODULE.tiny
