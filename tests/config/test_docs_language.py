"""The page about the experiment language: its examples load, and it names every key."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from aelab.config import load
from aelab.config.settings import BLOCK_KEYS, REQUIRED_KEYS, STRUCTURE_KEYS
from aelab.settings import OLD_NAMES, RULES

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
    "max_images": "100",
}


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_every_example_loads(example: str, tmp_path: Path) -> None:
    given = YAML(typ="safe", pure=True).load(example)
    rest = "".join(f"{key}: {value}\n" for key, value in REST.items() if key not in given)
    path = tmp_path / "example.yml"
    path.write_text(example + rest, encoding="utf-8")
    experiment = load(path)
    assert experiment.runs()
    assert not experiment.findings


def test_the_examples_say_what_the_page_says(tmp_path: Path) -> None:
    assert len(EXAMPLES) >= 7
    path = tmp_path / "first.yml"
    path.write_text(EXAMPLES[0], encoding="utf-8")
    names = [run.name for run in load(path).runs()]
    assert names == [f"first/ds:{ds}_lr:{lr}" for ds in ("kali", "noise") for lr in (0.001, 0.0003)]


def table_of(page: str, head: str) -> list[str]:
    """The rows of the table under the heading `head`."""
    lines = page.split(f"{head}\n")[1].splitlines()
    return list(itertools.takewhile(lambda line: line.startswith("|"), lines[1:]))


def test_the_table_of_keys_is_that_of_the_rules() -> None:
    """Where this fails, paste the rows that it expects into the page."""
    required = [key for key in STRUCTURE_KEYS if key in REQUIRED_KEYS]
    expected = [
        f"| `{key}` | {'required' if key in required else 'none'} | {meaning} |"
        for key, meaning in STRUCTURE_KEYS.items()
    ]
    expected += [
        f"| `{key}` | {rule.default} | {rule.meaning} |"
        for key, rule in RULES.items()
        if rule.is_key
    ]
    expected += [f"| `{key}` | none | {meaning} |" for key, meaning in BLOCK_KEYS.items()]
    page = PAGE.read_text(encoding="utf-8")
    assert table_of(page, "| key | default | meaning |") == expected


def test_the_table_of_old_names_is_complete() -> None:
    page = PAGE.read_text(encoding="utf-8")
    expected = [f"| `{old}` | `{new}` |" for old, new in OLD_NAMES.items()]
    assert table_of(page, "| old name | now |") == expected


def test_the_pages_use_the_new_names() -> None:
    """`ema` is a word too, and lists of the record's own names may have an old one."""
    for page in (PAGE, PAGE.parent / "training.md", PAGE.parent / "quickstart.md"):
        text = page.read_text(encoding="utf-8").partition("| old name | now |")
        rest = text[0] + text[2].partition("\n\n")[2]
        old = [old for old in OLD_NAMES if re.search(rf"`{old}\b|^{old}:", rest, re.MULTILINE)]
        assert not old, page.name
