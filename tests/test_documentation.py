"""What the documents say is what the program does."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from aelab import config
from aelab.cli.main import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
COMMANDS = typer.main.get_command(app)


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)


def _aelab_lines() -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for language in ("", "sh", "console", "bash"):
            for block in _blocks(page, language):
                lines = [line.removeprefix("$ ").strip() for line in block.splitlines()]
                found += [(page.name, line) for line in lines if line.startswith("aelab ")]
    return found


def test_every_dependency_is_justified() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[><=\[]", line)[0].lower() for line in project["dependencies"]}
    page = (ROOT / "docs/dependencies.md").read_text()
    rows = re.findall(r"^\| ([^|]+) \|", page, re.M)
    named = {name.strip().lower() for row in rows for name in row.split(",")}
    assert needed <= named, f"not justified in docs/dependencies.md: {sorted(needed - named)}"
    superfluous = {name for name in named - needed if "vendored" not in name} - {"package"}
    assert not superfluous, "docs/dependencies.md justifies what is not needed"


@pytest.mark.parametrize(("page", "line"), _aelab_lines())
def test_a_documented_command_has_these_options(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    if words[0].startswith("-"):
        return
    commands = COMMANDS.commands  # type: ignore[attr-defined]
    assert words[0] in commands, f"{page}: no verb {words[0]}"
    known = {o for p in commands[words[0]].params for o in (*p.opts, *p.secondary_opts)}
    options = {word.split("=")[0] for word in words[1:] if re.match(r"--?[a-z]", word)}
    assert options <= known | {"--help"}, f"{page}: {line}"


def test_the_readme_experiment_is_a_valid_file(tmp_path: Path) -> None:
    (text,) = _blocks(ROOT / "README.md", "yaml")
    path = tmp_path / "digits.yml"
    path.write_text(text)
    assert len(config.load(path).runs()) == 8


def test_the_readme_names_the_two_commands_and_make_knows_them() -> None:
    first = _blocks(ROOT / "README.md", "")[0].split("\n")
    assert first[:2] == ["make demo", "make test"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
    assert {"demo", "test"} <= set(targets)
    gate = (ROOT / ".ci/run").read_text().splitlines()
    assert [line for line in gate if line.startswith("make")] == ["make demo", "make test"]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not missing


def test_the_python_page_runs_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scope: dict[str, object] = {"__name__": "page"}
    for block in _blocks(ROOT / "docs/python.md", "python"):
        exec(compile(block, "docs/python.md", "exec"), scope)
    assert (tmp_path / "report.html").stat().st_size > 50_000
    assert (tmp_path / "runs/own/code-16/status.json").exists()
