"""Every Python example of the documents runs, and every public name is documented."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from aelab import lab

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"

#: What a page takes for granted when its examples begin.
BEFORE = {
    "api/ascii.glyphs.md": "",
    "ascii.md": "",
    "data.md": "",
    "training.md": "",
    "losses.md": """
import torch
from aelab.models import *
SHAPE = (1, 8, 8)
model = VariationalAutoencoder(
    VariationalEncoder(EncoderMLP(SHAPE, 8), 8, 4), DecoderMLP(SHAPE, 4), "l1"
)
images, noise = torch.rand(2, *SHAPE), torch.randn(2, 4)
""",
    "models.md": """
import math
from torch import nn
from aelab.models import *
SHAPE, CODE_SIZE = (1, 32, 32), 16
encoder = EncoderConv2d(SHAPE, CODE_SIZE, channels=(4, 4))
""",
    "reports.md": "",
    "use-your-model.md": """
from pathlib import Path
from aelab import lab
text = Path("tiny.yml").read_text()
Path("large.yml").write_text(text.replace("8, 8", "28, 28").replace("tiny/", "large/"))
list(lab.run("large.yml", only="large/first"))
lab.Lab().open("large/first").export("exported", ["onnx"])
""",
}
#: These have tests of their own, which run them where they belong.
ELSEWHERE = {"python.md", "run-format.md"}
TINY = """
matrix:
  ds: [first, second]
experiment_name: tiny/${ds}
train_set: noise_dataset((1, 8, 8), size=64, seed=1)
validation_set: noise_dataset((1, 8, 8), size=32, seed=2)
model: EncoderDecoder(EncoderMLP((1, 8, 8), code_size=4), DecoderMLP((1, 8, 8), code_size=4))
batch_size: 16
learnrate: 0.001
optimizer: Adam
max_inputs: 64
"""


def _examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


def test_no_page_with_examples_is_forgotten() -> None:
    pages = {p.relative_to(DOCS).as_posix() for p in DOCS.rglob("*.md") if _examples(p)}
    assert pages == {*BEFORE, *ELSEWHERE}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", sorted(BEFORE))
def test_the_examples_of_a_page_run_in_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.yml").write_text(TINY, encoding="utf-8")
    list(lab.run("tiny.yml"))
    scope: dict[str, Any] = {}
    exec(BEFORE[name], scope)
    before = set(scope)
    for block in _examples(DOCS / name):
        exec(compile(block, name, "exec"), scope)
    made = {key: value for key, value in scope.items() if key not in before}
    assert made, "the page's examples leave nothing behind"
    for key, value in made.items():
        assert value is not None, f"{key} is None"
        if isinstance(value, Tensor) and value.is_floating_point():
            assert value.isfinite().all(), f"{key} is not finite"


ROOMS = [
    "lab",
    "data",
    "ascii.glyphs",
    "models",
    "inspect",
    "losses",
    "metrics",
    "train",
    "config",
    "bridges",
    "catalogue",
]


def _public(room: str) -> list[tuple[str, Any]]:
    module = importlib.import_module(f"aelab.{room}")
    names = getattr(module, "__all__", None) or [n for n in vars(module) if not n.startswith("_")]
    found = [(name, getattr(module, name)) for name in names]
    return [
        (name, part)
        for name, part in found
        if (inspect.isclass(part) or inspect.isfunction(part))
        and part.__module__.startswith("aelab")
    ]


@pytest.mark.parametrize("room", ROOMS)
def test_every_public_name_says_what_it_is(room: str) -> None:
    for name, part in _public(room):
        text = inspect.getdoc(part) or ""
        first = text.split("\n\n")[0].strip()
        assert first, f"aelab.{room}.{name} has no docstring"
        assert first[-1] in ".:" or "`" in first, f"aelab.{room}.{name}: {first!r} is no sentence"


@pytest.mark.parametrize("room", ROOMS)
def test_a_docstring_names_only_arguments_that_exist(room: str) -> None:
    for name, part in _public(room):
        text = inspect.getdoc(part) or ""
        section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", text + "\n", re.M)
        if not section:
            continue
        target = inspect.unwrap(part)
        parameters = set(inspect.signature(target).parameters)
        named = re.findall(r"^    ((?:\w+, )*\w+):", section[1], re.M)
        for word in {word for line in named for word in line.split(", ")}:
            assert word in parameters, f"aelab.{room}.{name} documents {word}, which it has not"


def test_every_room_of_the_reference_has_a_page() -> None:
    pages = {page.stem for page in (DOCS / "api").glob("*.md")} - {"index"}
    assert pages == set(ROOMS)
    for page in pages:
        assert f"::: aelab.{page}" in (DOCS / "api" / f"{page}.md").read_text("utf-8")
