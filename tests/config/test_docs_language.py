"""The page about the experiment language: its examples load, and it names every key."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from aelab.config import load
from aelab.config.settings import ALL_KEYS, SETTING_KEYS, Settings

PAGE = Path(__file__).parents[2] / "docs" / "experiment-language.md"
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

#: What examples that show one thing are completed with.
REST = {
    "experiment_name": "'docs/${matrix_slug}'",
    "model": "EncoderConv2d((1, 8, 8), 8)",
    "train_set": "noise_dataset((1, 8, 8), 10)",
    "batch_size": "8",
    "learnrate": "0.001",
    "optimizer": "Adam",
    "max_inputs": "100",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_loads(example: str, tmp_path: Path) -> None:
    given = YAML(typ="safe", pure=True).load(example)
    rest = "".join(f"{key}: {value}\n" for key, value in REST.items() if key not in given)
    path = tmp_path / "example.yml"
    path.write_text(example + rest, encoding="utf-8")
    experiment = load(path)
    assert experiment.runs()
    assert not experiment.notes


def test_the_examples_say_what_the_page_says(tmp_path: Path) -> None:
    assert len(EXAMPLES) >= 7
    path = tmp_path / "first.yml"
    path.write_text(EXAMPLES[0], encoding="utf-8")
    names = [run.name for run in load(path).runs()]
    assert names == [f"first/ds:{ds}_lr:{lr}" for ds in ("kali", "noise") for lr in (0.001, 0.0003)]


def test_every_key_is_explained() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Keys")[1].split("## Names")[0]
    missing = [key for key in ALL_KEYS if f"`{key}`" not in table]
    assert not missing


def test_stated_defaults_are_the_real_ones() -> None:
    table = PAGE.read_text(encoding="utf-8").split("## Keys")[1]
    for key in SETTING_KEYS:
        default = Settings.model_fields[key].default
        row = re.search(rf"^\| `{key}` \| ([^|]*) \|", table, re.MULTILINE)
        if row and isinstance(default, int | float | str) and not isinstance(default, bool):
            assert str(default).removesuffix(".0") in row.group(1)
