"""A damaged experiment file ends in a message, whatever the damage: a small seeded fuzz."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from aelab.config.settings import ALL_KEYS

Call = Callable[..., tuple[int, str, str]]

VALUES = [
    "", "~", "[]", "{}", "[1, [2]]", "{a: {b: c}}", "-1", "0", "1e400", ".nan", ".inf", "9" * 400,
    '"', "|", "&a", "*a", "!!python/name:os", "${x}", "${", "true", "yes", "0x", "- a", "? a", "{{",
    "lambda: 1", "(1,", "\t", "Adam(", "{SGD: [1]}", "{SGD: {lr: 1}}", "{: 1}", "{1: 2}",
    "{norm: x}", "last 0", "every 9999999999999999999999", "run@x", "../a", "a/b@-1",
]  # fmt: skip
SIGNS = [*list("()[]{}:,|'\"*&!%@#-. \t="), "lambda", "return ", "9" * 50]


def damaged(text: str, draw: random.Random) -> str:
    """One key with a value of another kind, or one line with a slip of the pen."""
    lines = text.splitlines()
    if draw.random() < 0.6:
        key = draw.choice(ALL_KEYS)
        lines = [line for line in lines if not line.startswith(f"{key}:")]
        return "\n".join([*lines, f"{key}: {draw.choice(VALUES)}"]) + "\n"
    number = draw.randrange(len(lines))
    line = lines[number]
    place = draw.randrange(len(line) + 1)
    lines[number] = line[:place] + draw.choice(SIGNS) + line[place + draw.randrange(3) :]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_file_ends_in_a_message(seed: int, tiny: Path, aelab: Call) -> None:
    text = tiny.read_text().replace("max_inputs: 320", "max_inputs: 16")
    draw = random.Random(seed)
    for _ in range(12):
        tiny.write_text(damaged(text, draw))
        code, out, err = aelab("check", "tiny.yml", "--only", "*0.001")
        said = out + err
        assert code in (0, 2), tiny.read_text() + said
        assert "fault in aelab" not in said and "Traceback" not in said, tiny.read_text() + said


def test_a_file_without_a_name_is_told(tiny: Path, aelab: Call) -> None:
    tiny.write_text(tiny.read_text().replace("experiment_name:", "experiment_nam:"))
    code, _, err = aelab("check", "tiny.yml")
    assert code == 2 and "missing or empty: experiment_name" in err and "did you mean" in err
