"""The house is as it is drawn: arrows go down only, and importing does nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "aelab"

#: room -> rooms it may import (design: "Rooms"); those of `OPEN` are open to all.
MAY_IMPORT = {
    "errors": set(),
    "findings": set(),
    "parts": set(),
    "paths": set(),
    "posteriors": set(),
    "types": {"posteriors"},
    "roots": set(),
    "files": set(),
    "outputs": {"runs", "roots"},
    "arguments": set(),
    "_version": set(),
    "ops": {"types"},
    "glyphs": {"types", "ops", "roots", "files"},
    "config": set(),
    "runs": {"config", "_version"},
    "data": {"types", "ops", "glyphs", "roots", "files"},
    "pretrained": {"data", "files"},
    "models": {"posteriors", "types", "ops", "glyphs", "pretrained"},
    "losses": {"posteriors", "types", "ops", "glyphs"},
    "metrics": {"posteriors", "types", "ops", "glyphs", "losses"},
    "train": {"posteriors", "types", "ops", "glyphs", "arguments"},
    "analysis": {"runs"},
    "report": {"runs", "analysis", "outputs", "files"},
    "catalogue": {
        "config", "glyphs", "data", "pretrained", "models", "losses", "train", "types", "arguments",
    },
    "tensor_pictures": {"types", "ops", "glyphs", "report"},
    "assembly": {
        "config", "runs", "data", "pretrained", "models", "losses", "train", "ops", "catalogue",
        "types",
    },
    "doctor": {
        "assembly", "config", "runs", "data", "models", "train", "types", "outputs", "posteriors",
    },
    "execute": {
        "assembly", "config", "runs", "models", "train", "ops", "report", "types", "_version",
        "tensor_pictures",
    },
    "study": {
        "assembly", "config", "runs", "data", "models", "losses", "metrics", "train", "ops",
        "glyphs", "report", "catalogue", "types", "outputs", "files", "posteriors",
        "tensor_pictures",
    },
    "lab": {"assembly", "doctor", "execute", "study", "runs", "report", "data", "outputs"},
    "bridges": {"runs", "report"},
    "cli": {"lab", "bridges", "_version", "config", "outputs", "doctor", "execute", "study"},
    "__init__": {"lab", "catalogue", "_version"},
    "__main__": {"cli"},
}  # fmt: skip

#: rooms that every room may import.
OPEN = ("errors", "findings", "parts", "paths")

#: rooms side by side: none of them knows another.
SIDE_BY_SIDE = ("doctor", "execute", "study")

#: rooms whose import must not bring torch along.
LIGHT = ("config", "runs", "analysis", "report", "cli.main", "lab")


def _room(path: Path) -> str:
    parts = path.relative_to(SOURCE).parts
    return parts[0].removesuffix(".py")


def _imported_rooms(path: Path) -> set[str]:
    rooms = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names = (
                [f"aelab.{alias.name}" for alias in node.names]
                if node.module == "aelab"
                else [node.module]
            )
        for name in names:
            if name.startswith("aelab."):
                rooms.add(name.split(".")[1])
    return rooms


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_a_room_imports_only_what_the_table_allows(path: Path) -> None:
    room = _room(path)
    assert room in MAY_IMPORT, f"room {room!r} is not in the table"
    forbidden = _imported_rooms(path) - MAY_IMPORT[room] - {room, *OPEN}
    assert not forbidden, f"{room} imports {sorted(forbidden)}"


@pytest.mark.parametrize(
    "path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE))
)
def test_there_are_no_relative_imports(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level > 0]


def test_foreseeing_training_and_studying_do_not_know_each_other() -> None:
    for room in SIDE_BY_SIDE:
        assert not MAY_IMPORT[room] & set(SIDE_BY_SIDE), room
        assert not any(room in MAY_IMPORT[below] for below in MAY_IMPORT["lab"] | {"bridges"})


@pytest.mark.parametrize("room", LIGHT)
def test_a_light_room_does_not_load_torch(room: str) -> None:
    code = f"import sys, aelab.{room}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_every_module_changes_no_global_state() -> None:
    modules = sorted(
        ".".join(("aelab", *path.relative_to(SOURCE).with_suffix("").parts))
        for path in SOURCE.rglob("*.py")
        if path.name not in {"__main__.py", "__init__.py"}
    )
    code = (
        "import importlib, logging, random, signal, os, sys, torch, rich.progress, typer\n"
        "state = lambda: (logging.root.level, list(logging.root.handlers), random.getstate(),\n"
        "    torch.get_num_threads(), torch.get_default_dtype(),\n"
        "    torch.get_rng_state().sum().item(),\n"
        "    signal.getsignal(signal.SIGTERM), sorted(os.environ), os.getcwd())\n"
        "before = state()\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "after = state()\n"
        "assert before == after, (before, after)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
