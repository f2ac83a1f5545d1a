"""The house is as it is drawn: arrows go down only, and importing does nothing."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "aelab"

#: room -> rooms it may import (design: "Rooms"); those of `OPEN` are open to all.
MAY_IMPORT = {
    "errors": set(),
    "findings": set(),
    "parts": set(),
    "paths": set(),
    "settings": set(),
    "schedule_forms": set(),
    "posteriors": set(),
    "medium": {"ops"},  # of which only tensor functions that know no `Images`
    "types": {"posteriors", "medium"},
    "roots": set(),
    "files": set(),
    "outputs": {"runs", "roots"},
    "arguments": set(),
    "hardware": {"roots"},
    "preparation": set(),
    "_version": set(),
    "ops": {"types"},
    "config": set(),
    "runs": {"config", "_version"},
    "data": {"medium", "types", "ops", "roots", "files"},
    "pretrained": {"data", "files"},
    "models": {"medium", "posteriors", "types", "ops", "pretrained"},
    "losses": {"medium", "posteriors", "types", "ops"},
    "metrics": {"medium", "posteriors", "types", "ops", "losses"},
    "train": {"medium", "posteriors", "types", "ops", "arguments", "schedule_forms"},
    "analysis": {"runs", "schedule_forms"},
    "report": {"runs", "analysis", "outputs", "files"},
    "catalogue": {
        "config", "data", "pretrained", "models", "losses", "train", "types", "arguments",
    },
    "tensor_pictures": {"medium", "types", "ops", "report"},
    "assembly": {
        "config", "runs", "data", "pretrained", "models", "losses", "train", "ops", "catalogue",
        "types", "medium",
    },
    "doctor": {
        "assembly", "config", "runs", "data", "models", "train", "types", "outputs", "posteriors",
    },
    "execute": {
        "assembly", "config", "data", "runs", "models", "train", "ops", "report", "types",
        "_version", "tensor_pictures", "medium",
    },
    "study": {
        "assembly", "config", "runs", "data", "models", "losses", "metrics", "train", "ops",
        "report", "catalogue", "types", "outputs", "files", "posteriors",
        "tensor_pictures", "medium",
    },
    "lab": {"assembly", "doctor", "execute", "study", "runs", "report", "data", "outputs"},
    "bridges": {"runs", "report"},
    "cli": {"lab", "bridges", "_version", "config", "outputs", "doctor", "execute", "study"},
    "__init__": {"lab", "catalogue", "_version"},
    "__main__": {"cli"},
}  # fmt: skip

#: rooms that nothing may import: they enter by entry points alone, and may use every room.
WINGS = ("ascii", "founding")
MAY_IMPORT |= {wing: set(MAY_IMPORT) for wing in WINGS}

#: rooms that every room may import.
OPEN = ("errors", "findings", "hardware", "parts", "paths", "preparation", "settings")

#: rooms side by side: none of them knows another.
SIDE_BY_SIDE = ("doctor", "execute", "study")

#: rooms whose import must not bring torch along.
LIGHT = (
    "settings", "config", "runs", "analysis", "report", "cli.main", "lab", "execute.matrix",
    "doctor.experiment",
)  # fmt: skip


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


def _files_imported() -> dict[str, set[str]]:
    """Module -> modules of the house it imports, late imports included, those for types not."""
    names = {
        ".".join(("aelab", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(
            ".__init__"
        ): path
        for path in SOURCE.rglob("*.py")
    }
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        found[name] = set()
        pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
        while pending:
            node = pending.pop()
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                pending += node.orelse
                continue
            pending += ast.iter_child_nodes(node)
            if isinstance(node, ast.Import):
                found[name] |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found[name] |= {one if one in names else node.module for one in inner}
        found[name] &= names.keys()
    return found


def test_no_files_import_each_other_in_a_circle() -> None:
    imported = _files_imported()
    # Files that import nothing more are taken away until none is left, or only circles.
    while free := [name for name, others in imported.items() if not others & imported.keys()]:
        for name in free:
            del imported[name]
    # The rest leads into circles; those that nobody of them imports are not in one.
    while outer := [name for name in imported if not any(name in o for o in imported.values())]:
        for name in outer:
            del imported[name]
    assert not imported, f"in circles, or between two: {sorted(imported)}"


def test_foreseeing_training_and_studying_do_not_know_each_other() -> None:
    for room in SIDE_BY_SIDE:
        assert not MAY_IMPORT[room] & set(SIDE_BY_SIDE), room
        assert not any(room in MAY_IMPORT[below] for below in MAY_IMPORT["lab"] | {"bridges"})


def test_nothing_names_a_wing() -> None:
    assert set(WINGS) <= {path.name for path in SOURCE.iterdir()}
    wing = re.compile(rf"\\baelab\\.({'|'.join(WINGS)})\\b")
    for path in SOURCE.rglob("*.py"):
        # Not even in a text, which could be imported late. `parts` explains what a wing is.
        if _room(path) not in (*WINGS, "parts"):
            assert not wing.search(path.read_text(encoding="utf-8")), path


def test_everything_that_wings_bring_is_installed_and_can_be_had() -> None:
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    for group, parts in project["entry-points"].items():
        known = {entry.name: entry for entry in entry_points(group=group)}
        for name, place in parts.items():
            assert place.split(".")[:2] in [["aelab", wing] for wing in WINGS], place
            assert name in known, f"{name}: type pip install --editable . to install it"
            assert known[name].value == place
            assert known[name].load() is not None


#: Takes the wings away: neither their entry points nor their code can be found.
WITHOUT_WINGS = f"""
import importlib.metadata as metadata, sys
found = metadata.entry_points()
groups = [group for group in found.groups if not group.startswith("aelab.")]
left = [entry for group in groups for entry in found.select(group=group)]
metadata.entry_points = lambda **which: metadata.EntryPoints(left).select(**which)
for wing in {WINGS!r}: sys.modules["aelab." + wing] = None
"""


def test_the_core_works_without_its_wings(tmp_path: Path) -> None:
    (tmp_path / "own.yml").write_text(
        "train_set: noise_dataset((1, 8, 8), 40)\n"
        "validation_set: noise_dataset((1, 8, 8), 20)\n"
        "model: Autoencoder(EncoderMLP((1, 8, 8), 6), Gaussian(6, 3), DecoderMLP((1, 8, 8), 3))\n"
        "experiment_name: own\noptimizer: Adam\nlearnrate: 0.001\n"
        "max_inputs: 80\nbatch_size: 20\n"
    )
    code = WITHOUT_WINGS + (
        "from aelab import Lab, lab, parts\n"
        "if __name__ == '__main__':\n"
        "    assert not parts.installed('aelab.figures')\n"
        "    home = Lab('runs')\n"
        "    list(home.run('own.yml'))\n"
        "    assert home.find()[0].state == 'finished'\n"
        "    assert 'own' in str(home.table())\n"
        "    (entry,) = home.evaluate(['own'])\n"
        "    assert entry.values and not entry.problem\n"
        "    home.figure('sample', 'own')\n"
    )
    (tmp_path / "core.py").write_text(code)
    subprocess.run([sys.executable, "core.py"], check=True, cwd=tmp_path)


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
