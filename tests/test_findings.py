"""One type of problem, warning and note, and one table of its codes."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from aelab.errors import AelabError, ConfigError, Problems, Where
from aelab.findings import CODES, STORED_NOTE, Finding, of_errors, stored_findings

ROOT = Path(__file__).parents[1]
FOUND = Finding(
    "warning",
    "kl-collapse",
    "kl: too strong",
    "loss_function: ...",
    Where("/home/me/a.yml", 3, 1, "kl"),
    seen=(10, 2_000),
)


def _codes_in_source() -> dict[str, set[str]]:
    """Code -> the levels at which the source makes findings of it."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in (ROOT / "src" / "aelab").rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        named = {
            getattr(node.targets[0], "id", ""): node.value
            for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Finding":
                arguments = [named.get(getattr(a, "id", ""), a) for a in node.args[:2]]
                texts = [
                    [n.value for n in ast.walk(argument) if isinstance(n, ast.Constant)]
                    for argument in arguments
                ]
                for code in texts[1]:
                    found[code] |= {str(text) for text in texts[0] if text in CODES_LEVELS}
    return found


CODES_LEVELS = ("problem", "warning", "note")


def _kinds(of: type[AelabError]) -> set[type[AelabError]]:
    return {of}.union(*map(_kinds, of.__subclasses__()))


def test_every_code_of_the_source_is_in_the_table_with_its_levels() -> None:
    used = _codes_in_source()
    for kind in _kinds(AelabError):
        if kind.__module__.startswith("aelab."):
            used[kind.code].add("problem")
    used[STORED_NOTE].add("note")
    told = {code: set(entry.levels) for code, entry in CODES.items()}
    assert {code: levels & told.get(code, set()) for code, levels in used.items()} == told


def test_the_page_has_the_same_table() -> None:
    page = (ROOT / "docs" / "doctor.md").read_text("utf-8")
    codes = page.partition("## All codes")[2]
    rows = re.findall(r"^\| `([\w.-]+)` \| ([a-z, ]+) \| (.+) \|$", codes, re.M)
    table = [(code, ", ".join(entry.levels), entry.meaning) for code, entry in CODES.items()]
    assert rows == table


def test_a_finding_is_read_back_without_the_folders_of_this_machine() -> None:
    stored = FOUND.as_json()
    assert stored["where"] == {"file": "a.yml", "line": 3, "key": "kl"}
    back = Finding.from_json(stored)
    assert back.line() == FOUND.line() and back.seen == FOUND.seen
    assert Finding.from_json({"level": 5, "seen": "x", "where": "y"}) == Finding(
        "note", STORED_NOTE, ""
    )


def test_a_finding_says_its_place_and_time_once() -> None:
    assert FOUND.line() == "from 10 to 2,000 images: kl: too strong; loss_function: ..."
    assert FOUND.told() == (
        "from 10 to 2,000 images: /home/me/a.yml:3:1: kl: too strong; loss_function: ..."
    )
    assert str(Finding("note", "x", "odd", "type this")) == "odd\n  type this"


def test_notes_of_earlier_versions_are_findings() -> None:
    data = {"level": "note", "code": "data-constant", "message": "same", "way_out": "look"}
    record = {"notes": ["free text", "same; look", "free text"], "findings": [data]}
    assert [found.code for found in stored_findings(record)] == [STORED_NOTE, "data-constant"]
    assert stored_findings({"notes": [], "findings": None}) == []
    assert stored_findings({}) == []


def test_errors_are_problems_with_a_code() -> None:
    wrong = ConfigError("a", where=Where("f.yml", 1), hint="b", code="batch-of-one")
    plain = ConfigError("c")
    found = of_errors([Problems([wrong, plain]), plain])
    assert [(own.code, str(own)) for own in found] == [
        ("batch-of-one", str(wrong)),
        ("config", "c"),
    ]
